#include "symmetric.h"

#include <sodium.h>
#include <string.h>

enum { BLOCK_LEN = 128 }; /* BLAKE2b's block; Noise 12.8 */

/* --- HMAC and HKDF (Noise 4.3), over BLAKE2b ------------------------------------------------- */

/* Start BLAKE2b on a block that is `key` xor `pad`. */
static void keyed_block(crypto_generichash_state *hash, const uint8_t key[DP_HASH_LEN],
                        uint8_t pad) {
    uint8_t block[BLOCK_LEN]; /* secret: wiped below */
    memset(block, pad, sizeof block);
    for (size_t i = 0; i < DP_HASH_LEN; i++)
        block[i] ^= key[i];
    crypto_generichash_init(hash, NULL, 0, DP_HASH_LEN);
    crypto_generichash_update(hash, block, sizeof block);
    sodium_memzero(block, sizeof block);
}

/* out = HMAC(key, a || b). `out` may equal `key` or `a`. */
static void hmac(uint8_t out[DP_HASH_LEN], const uint8_t key[DP_HASH_LEN], const uint8_t *a,
                 size_t a_len, const uint8_t *b, size_t b_len) {
    crypto_generichash_state hash; /* secret: wiped below */
    uint8_t inner[DP_HASH_LEN];    /* secret: wiped below */
    keyed_block(&hash, key, 0x36);
    crypto_generichash_update(&hash, a, a_len);
    crypto_generichash_update(&hash, b, b_len);
    crypto_generichash_final(&hash, inner, sizeof inner);
    keyed_block(&hash, key, 0x5c);
    crypto_generichash_update(&hash, inner, sizeof inner);
    crypto_generichash_final(&hash, out, DP_HASH_LEN);
    sodium_memzero(&hash, sizeof hash);
    sodium_memzero(inner, sizeof inner);
}

/* `count` outputs of HKDF(ck, ikm), count <= 3. */
static void hkdf(uint8_t (*out)[DP_HASH_LEN], uint8_t count, const uint8_t ck[DP_HASH_LEN],
                 const uint8_t *ikm, size_t ikm_len) {
    uint8_t temp[DP_HASH_LEN]; /* secret: wiped below */
    hmac(temp, ck, ikm, ikm_len, NULL, 0);
    for (uint8_t i = 0; i < count; i++) {
        uint8_t number = i + 1;
        hmac(out[i], temp, i ? out[i - 1] : NULL, i ? DP_HASH_LEN : 0, &number, 1);
    }
    sodium_memzero(temp, sizeof temp);
}

/* --- SymmetricState --------------------------------------------------------------------------- */

/* out = HASH(h || data). */
static void hash_onto(const struct symmetric_state *ss, uint8_t out[DP_HASH_LEN],
                      const uint8_t *data, size_t len) {
    crypto_generichash_state hash; /* public: not wiped */
    crypto_generichash_init(&hash, NULL, 0, DP_HASH_LEN);
    crypto_generichash_update(&hash, ss->h, sizeof ss->h);
    crypto_generichash_update(&hash, data, len);
    crypto_generichash_final(&hash, out, DP_HASH_LEN);
}

void symmetric_init(struct symmetric_state *ss, const char *protocol_name) {
    size_t len = strlen(protocol_name);
    memset(ss, 0, sizeof *ss);
    if (len <= DP_HASH_LEN)
        memcpy(ss->h, protocol_name, len);
    else
        crypto_generichash(ss->h, DP_HASH_LEN, (const uint8_t *)protocol_name, len, NULL, 0);
    memcpy(ss->ck, ss->h, DP_HASH_LEN);
}

void symmetric_mix_hash(struct symmetric_state *ss, const uint8_t *data, size_t len) {
    hash_onto(ss, ss->h, data, len);
}

void symmetric_mix_key(struct symmetric_state *ss, const uint8_t ikm[DP_KEY_LEN]) {
    uint8_t out[2][DP_HASH_LEN]; /* secret: wiped below */
    hkdf(out, 2, ss->ck, ikm, DP_KEY_LEN);
    memcpy(ss->ck, out[0], DP_HASH_LEN);
    cipher_init(&ss->cipher, out[1]);
    sodium_memzero(out, sizeof out);
}

void symmetric_mix_key_and_hash(struct symmetric_state *ss, const uint8_t ikm[DP_KEY_LEN]) {
    uint8_t out[3][DP_HASH_LEN]; /* secret: wiped below */
    hkdf(out, 3, ss->ck, ikm, DP_KEY_LEN);
    memcpy(ss->ck, out[0], DP_HASH_LEN);
    symmetric_mix_hash(ss, out[1], DP_HASH_LEN);
    cipher_init(&ss->cipher, out[2]);
    sodium_memzero(out, sizeof out);
}

size_t symmetric_tag_len(const struct symmetric_state *ss) {
    return ss->cipher.has_key ? DP_TAG_LEN : 0;
}

int symmetric_seal(struct symmetric_state *ss, struct aead *aead, uint8_t *out, const uint8_t *in,
                   size_t len) {
    size_t tag_len = symmetric_tag_len(ss);
    int rc = cipher_seal(&ss->cipher, aead, ss->h, sizeof ss->h, out, in, len);
    if (rc == DP_OK)
        symmetric_mix_hash(ss, out, len + tag_len);
    return rc;
}

/* The ciphertext is hashed before it is decrypted, because decryption may replace it. */
int symmetric_open(struct symmetric_state *ss, struct aead *aead, uint8_t *out, const uint8_t *in,
                   size_t len) {
    uint8_t next[DP_HASH_LEN]; /* public: not wiped */
    hash_onto(ss, next, in, len);
    int rc = cipher_open(&ss->cipher, aead, ss->h, sizeof ss->h, out, in, len);
    if (rc == DP_OK)
        memcpy(ss->h, next, sizeof next);
    return rc;
}

void symmetric_split(const struct symmetric_state *ss, struct cipher_state *c1,
                     struct cipher_state *c2, uint8_t secret[DP_KEY_LEN]) {
    uint8_t out[3][DP_HASH_LEN]; /* secret: wiped below */
    hkdf(out, 3, ss->ck, NULL, 0);
    cipher_init(c1, out[0]);
    cipher_init(c2, out[1]);
    if (secret)
        memcpy(secret, out[2], DP_KEY_LEN);
    sodium_memzero(out, sizeof out);
}
