/* Whether an Ed25519 key and an X25519 key are the same point: y (u + 1) = u - 1 mod 2^255 - 19, the
 * birational map of RFC 7748, 4.1, without its division. All values are public. */
#include <string.h>

#include "dp2p_identity.h"
#include "field25519.h"

bool dp_identity_matches(const uint8_t public_key[32], const uint8_t static_public[32]) {
    static const struct field ONE = {{1}};
    uint8_t unsigned_key[DP_KEY_LEN];
    memcpy(unsigned_key, public_key, sizeof unsigned_key);
    unsigned_key[DP_KEY_LEN - 1] &= 0x7f; /* the sign of x, which X25519 does not know */
    if (!field_is_stored(unsigned_key) || !field_is_stored(static_public))
        return false;
    struct field y = field_load(unsigned_key), u = field_load(static_public);
    struct field left = field_plus(&u, &ONE), right = field_minus(&u, &ONE);
    left = field_times(&y, &left);
    return field_equal(&left, &right);
}
