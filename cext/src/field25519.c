/* Bounds: what is loaded or multiplied has limbs below 2^51 + 2^13, so sums and differences have
 * limbs below 2^53. Products of those fill less than 2^114 of the 2^128 in which they are summed. */
#include "field25519.h"

#include <string.h>

#include "bytes.h"

#ifndef __SIZEOF_INT128__
#error "this file needs unsigned __int128"
#endif
__extension__ typedef unsigned __int128 wide;

enum { LIMB_BITS = 51 };

static const uint64_t LIMB_MASK = (UINT64_C(1) << LIMB_BITS) - 1;

/* --- bytes ------------------------------------------------------------------------------------ */

struct field field_load(const uint8_t in[32]) {
    uint64_t word[4];
    for (int i = 0; i < 4; i++)
        word[i] = load64(in + 8 * i);
    return (struct field){{word[0] & LIMB_MASK, (word[0] >> 51 | word[1] << 13) & LIMB_MASK,
                           (word[1] >> 38 | word[2] << 26) & LIMB_MASK,
                           (word[2] >> 25 | word[3] << 39) & LIMB_MASK, word[3] >> 12 & LIMB_MASK}};
}

/* Add `over` and carry from limb to limb; returns what passes 2^255 and is no longer in `a`. */
static uint64_t carry(struct field *a, uint64_t over) {
    for (int i = 0; i < FIELD_LIMBS; i++) {
        a->limb[i] += over;
        over = a->limb[i] >> LIMB_BITS;
        a->limb[i] &= LIMB_MASK;
    }
    return over;
}

/* 2^255 = 19, so after two rounds a number is below 2^255. If adding 19 takes it past that, then it
 * is p or more, and what stays below 2^255 is p less. */
void field_store(uint8_t out[32], const struct field *a) {
    struct field low = *a;
    for (int round = 0; round < 2; round++)
        low.limb[0] += 19 * carry(&low, 0);
    struct field raised = low;
    (void)carry(&low, 19 * carry(&raised, 19));
    store64(out, low.limb[0] | low.limb[1] << 51);
    store64(out + 8, low.limb[1] >> 13 | low.limb[2] << 38);
    store64(out + 16, low.limb[2] >> 26 | low.limb[3] << 25);
    store64(out + 24, low.limb[3] >> 39 | low.limb[4] << 12);
}

bool field_is_stored(const uint8_t in[32]) {
    struct field a = field_load(in);
    uint8_t stored[32];
    field_store(stored, &a);
    return memcmp(stored, in, sizeof stored) == 0;
}

bool field_equal(const struct field *a, const struct field *b) {
    uint8_t stored[2][32];
    field_store(stored[0], a);
    field_store(stored[1], b);
    return memcmp(stored[0], stored[1], sizeof stored[0]) == 0;
}

/* --- sums and products ------------------------------------------------------------------------ */

struct field field_plus(const struct field *a, const struct field *b) {
    struct field sum;
    for (int i = 0; i < FIELD_LIMBS; i++)
        sum.limb[i] = a->limb[i] + b->limb[i];
    return sum;
}

/* a + 2 p - b, so that no limb goes below 0. */
struct field field_minus(const struct field *a, const struct field *b) {
    struct field difference;
    for (int i = 0; i < FIELD_LIMBS; i++)
        difference.limb[i] = a->limb[i] + 2 * (LIMB_MASK - (i ? 0 : 18)) - b->limb[i];
    return difference;
}

/* s0 to s4 are sums of products, at 2^(51 i) each. */
static inline struct field narrow(wide s0, wide s1, wide s2, wide s3, wide s4) {
    s1 += (uint64_t)(s0 >> LIMB_BITS);
    s2 += (uint64_t)(s1 >> LIMB_BITS);
    s3 += (uint64_t)(s2 >> LIMB_BITS);
    s4 += (uint64_t)(s3 >> LIMB_BITS);
    uint64_t low = ((uint64_t)s0 & LIMB_MASK) + 19 * (uint64_t)(s4 >> LIMB_BITS);
    return (struct field){{low & LIMB_MASK, ((uint64_t)s1 & LIMB_MASK) + (low >> LIMB_BITS),
                           (uint64_t)s2 & LIMB_MASK, (uint64_t)s3 & LIMB_MASK,
                           (uint64_t)s4 & LIMB_MASK}};
}

/* Limbs i and j meet at 2^(51 (i + j)); from 2^255 on that is 19 times as much, 255 bits lower. */
struct field field_times(const struct field *a, const struct field *b) {
    wide sum[FIELD_LIMBS] = {0};
    for (int i = 0; i < FIELD_LIMBS; i++)
        for (int j = 0; j < FIELD_LIMBS; j++) {
            bool over = i + j >= FIELD_LIMBS;
            sum[over ? i + j - FIELD_LIMBS : i + j] +=
                (wide)a->limb[i] * (b->limb[j] * (over ? 19 : 1));
        }
    return narrow(sum[0], sum[1], sum[2], sum[3], sum[4]);
}

/* The same with each pair of different limbs taken once, twice as large. */
static inline struct field square(struct field a) {
    uint64_t n0 = a.limb[0], n1 = a.limb[1], n2 = a.limb[2], n3 = a.limb[3], n4 = a.limb[4];
    uint64_t twice0 = 2 * n0, twice1 = 2 * n1, twice2 = 2 * n2, over3 = 19 * n3, over4 = 19 * n4;
    return narrow((wide)n0 * n0 + (wide)twice1 * over4 + (wide)twice2 * over3,
                  (wide)twice0 * n1 + (wide)twice2 * over4 + (wide)n3 * over3,
                  (wide)twice0 * n2 + (wide)n1 * n1 + (wide)(2 * n3) * over4,
                  (wide)twice0 * n3 + (wide)twice1 * n2 + (wide)n4 * over4,
                  (wide)twice0 * n4 + (wide)twice1 * n3 + (wide)n2 * n2);
}

struct field field_square(const struct field *a) {
    return square(*a);
}

/* a^(2^n) b: writes the exponent of b behind that of a, n bits long. */
static struct field append(struct field a, int n, const struct field *b) {
    while (n-- > 0)
        a = square(a);
    return field_times(&a, b);
}

/* a^(p - 2), which is 1 / a by Fermat. p - 2 = 2^255 - 21 is 250 ones, then 01011: ones are made
 * by appending ones to themselves. */
struct field field_invert(const struct field *a) {
    struct field two = field_square(a), eight = field_square(&two);
    eight = field_square(&eight);
    struct field nine = field_times(&eight, a), eleven = field_times(&nine, &two);
    struct field ones5 = append(eleven, 1, &nine); /* 22 + 9 */
    struct field ones10 = append(ones5, 5, &ones5);
    struct field ones20 = append(ones10, 10, &ones10);
    struct field ones40 = append(ones20, 20, &ones20);
    struct field ones50 = append(ones40, 10, &ones10);
    struct field ones100 = append(ones50, 50, &ones50);
    struct field ones200 = append(ones100, 100, &ones100);
    struct field ones250 = append(ones200, 50, &ones50);
    return append(ones250, 5, &eleven);
}
