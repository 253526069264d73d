#include "dp2p_identity.h"

#include <sodium.h>

int dp_init(void) {
    return sodium_init() < 0 ? DP_E_STATE : DP_OK;
}

int dp_identity_public(uint8_t public_key[32], const uint8_t seed[32]) {
    uint8_t sk[crypto_sign_SECRETKEYBYTES]; /* secret: wiped below */
    crypto_sign_seed_keypair(public_key, sk, seed);
    sodium_memzero(sk, sizeof sk);
    return DP_OK;
}

/* The private scalar of RFC 8032, 5.1.5: what crypto_sign_ed25519_sk_to_curve25519 gives, without
 * the public half that its argument would need. */
int dp_identity_static(uint8_t out[32], const uint8_t seed[32]) {
    uint8_t digest[crypto_hash_sha512_BYTES]; /* secret: wiped below */
    crypto_hash_sha512(digest, seed, DP_SEED_LEN);
    digest[0] &= 248;
    digest[31] &= 127;
    digest[31] |= 64;
    for (int i = 0; i < DP_KEY_LEN; i++)
        out[i] = digest[i];
    sodium_memzero(digest, sizeof digest);
    return DP_OK;
}

int dp_identity_static_public(uint8_t out[32], const uint8_t public_key[32]) {
    return crypto_sign_ed25519_pk_to_curve25519(out, public_key) ? DP_E_KEY : DP_OK;
}

int dp_node_id(uint8_t out[32], const uint8_t public_key[32]) {
    return dp_blake2b(out, DP_NODE_ID_LEN, public_key, DP_KEY_LEN, NULL, 0);
}

int dp_blake2b(uint8_t *out, size_t out_len, const uint8_t *in, size_t in_len, const uint8_t *key,
               size_t key_len) {
    if (out_len < 16 || out_len > DP_HASH_LEN || key_len > crypto_generichash_KEYBYTES_MAX)
        return DP_E_SIZE;
    if ((in == NULL && in_len > 0) || (key == NULL && key_len > 0))
        return DP_E_ARGUMENT;
    crypto_generichash_blake2b(out, out_len, in, in_len, key, key_len);
    return DP_OK;
}

int dp_sign(uint8_t signature[64], const uint8_t *message, size_t message_len,
            const uint8_t seed[32]) {
    uint8_t pk[crypto_sign_PUBLICKEYBYTES];
    uint8_t sk[crypto_sign_SECRETKEYBYTES]; /* secret: wiped below */
    crypto_sign_seed_keypair(pk, sk, seed);
    crypto_sign_detached(signature, NULL, message, message_len, sk);
    sodium_memzero(sk, sizeof sk);
    return DP_OK;
}

int dp_verify(const uint8_t signature[64], const uint8_t *message, size_t message_len,
              const uint8_t public_key[32]) {
    int bad = crypto_sign_verify_detached(signature, message, message_len, public_key);
    return bad ? DP_E_AUTH : DP_OK;
}

void dp_random_bytes(uint8_t *out, size_t len) {
    randombytes_buf(out, len);
}

void dp_wipe(uint8_t *bytes, size_t len) {
    sodium_memzero(bytes, len);
}
