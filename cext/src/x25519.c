/* Curve25519 has two forms, and libsodium has a table of multiples of the base point in the other
 * one only, that of Ed25519: with it, and in constant time too, a multiplication takes half as long
 * as on X25519's ladder. The way back is u = (1 + y) / (1 - y) (RFC 7748, 4.1).
 *
 * y is as public as u, each following from the other, and the field arithmetic sees nothing else of
 * the scalar: the sign of x, which X25519 does not tell, is wiped unread. */
#include "x25519.h"

#include <sodium.h>

#include "field25519.h"

static void to_montgomery(uint8_t u[32], const uint8_t edwards[32]) {
    static const struct field ONE = {{1}};
    struct field y = field_load(edwards); /* without the sign of x */
    struct field above = field_plus(&ONE, &y), below = field_minus(&ONE, &y);
    below = field_invert(&below);
    above = field_times(&above, &below);
    field_store(u, &above);
}

/* y = 1 has no u, but belongs to the neutral element alone. A clamped scalar is a multiple of 8
 * between 2^254 and 2^255, and of the base point's order, a prime above 2^252, the first multiple
 * of 8 is above 2^255. Should libsodium refuse what came out, or a scalar of 0, then the ladder does
 * the work. */
void x25519_base(uint8_t out[32], const uint8_t scalar[32]) {
    uint8_t edwards[32]; /* secret: wiped below */
    if (crypto_scalarmult_ed25519_base(edwards, scalar) == 0)
        to_montgomery(out, edwards);
    else
        crypto_scalarmult_base(out, scalar);
    sodium_memzero(edwards, sizeof edwards);
}
