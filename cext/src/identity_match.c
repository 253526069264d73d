/* Whether an Ed25519 key and an X25519 key are the same point: y (u + 1) = u - 1 mod 2^255 - 19, the
 * birational map of RFC 7748, 4.1, without its division. All values are public. */
#include <string.h>

#include "bytes.h"
#include "dp2p_identity.h"

#ifndef __SIZEOF_INT128__
#error "this file needs unsigned __int128"
#endif
__extension__ typedef unsigned __int128 wide;

enum { LIMBS = 4 }; /* of 64 bits, least first */

struct field {
    uint64_t limb[LIMBS];
};

static const struct field P = {{UINT64_MAX - 18, UINT64_MAX, UINT64_MAX, UINT64_MAX >> 1}};

static struct field load(const uint8_t in[DP_KEY_LEN]) {
    struct field a;
    for (int i = 0; i < LIMBS; i++)
        a.limb[i] = load64(in + 8 * i);
    return a;
}

static bool below_p(const struct field *a) {
    int i = LIMBS - 1;
    while (i > 0 && a->limb[i] == P.limb[i])
        i--;
    return a->limb[i] < P.limb[i];
}

/* a += n; what leaves the top is returned. */
static uint64_t add_small(struct field *a, uint64_t n) {
    for (int i = 0; i < LIMBS; i++) {
        a->limb[i] += n;
        n = a->limb[i] < n;
    }
    return n;
}

/* a - 1 mod p, for a below p. */
static struct field less_one(const struct field *a) {
    struct field out = *a;
    bool borrow = true;
    for (int i = 0; i < LIMBS; i++) {
        out.limb[i] -= borrow;
        borrow = borrow && out.limb[i] == UINT64_MAX;
    }
    if (borrow) { /* a was 0 */
        out = P;
        out.limb[0]--;
    }
    return out;
}

/* Bring any 256 bits below p: 2^255 = 19. */
static void reduce(struct field *a) {
    uint64_t top = a->limb[LIMBS - 1] >> 63;
    a->limb[LIMBS - 1] &= UINT64_MAX >> 1;
    (void)add_small(a, 19 * top);
    if (below_p(a))
        return;
    (void)add_small(a, 19); /* a - p = a + 19 - 2^255 */
    a->limb[LIMBS - 1] &= UINT64_MAX >> 1;
}

/* a b mod p, below p. */
static struct field times(const struct field *a, const struct field *b) {
    uint64_t product[2 * LIMBS] = {0};
    for (int i = 0; i < LIMBS; i++) {
        wide sum = 0;
        for (int j = 0; j < LIMBS; j++) {
            sum += (wide)a->limb[i] * b->limb[j] + product[i + j];
            product[i + j] = (uint64_t)sum;
            sum >>= 64;
        }
        product[i + LIMBS] = (uint64_t)sum;
    }
    struct field out;
    wide sum = 0;
    for (int i = 0; i < LIMBS; i++) { /* 2^256 = 38 */
        sum += (wide)product[i + LIMBS] * 38 + product[i];
        out.limb[i] = (uint64_t)sum;
        sum >>= 64;
    }
    while (sum) /* at most 38, then at most 1 */
        sum = add_small(&out, (uint64_t)sum * 38);
    reduce(&out);
    return out;
}

bool dp_identity_matches(const uint8_t public_key[32], const uint8_t static_public[32]) {
    struct field y = load(public_key), u = load(static_public);
    y.limb[LIMBS - 1] &= UINT64_MAX >> 1; /* the sign of x, which X25519 does not know */
    if (!below_p(&y) || !below_p(&u))
        return false;
    struct field left, right = less_one(&u), next = u;
    (void)add_small(&next, 1);
    left = times(&y, &next);
    return memcmp(&left, &right, sizeof left) == 0;
}
