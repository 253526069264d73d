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

static void hkdf_start(struct hkdf *hkdf, const uint8_t ck[DP_HASH_LEN], const uint8_t *ikm,
                       size_t ikm_len) {
    hmac(hkdf->temp, ck, ikm, ikm_len, NULL, 0);
    hkdf->count = 0;
}

/* Output i = HMAC(temp, output i - 1 || i), of 3 at most. */
static const uint8_t *hkdf_next(struct hkdf *hkdf) {
    size_t last_len = hkdf->count ? sizeof hkdf->last : 0;
    hkdf->count++;
    hmac(hkdf->last, hkdf->temp, hkdf->last, last_len, &hkdf->count, sizeof hkdf->count);
    return hkdf->last;
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

/* What MixKey and MixKeyAndHash begin with. The cipher key is the last output of both. */
static void mix(struct symmetric_state *ss, const uint8_t ikm[DP_KEY_LEN]) {
    hkdf_start(&ss->due, ss->ck, ikm, DP_KEY_LEN);
    memcpy(ss->ck, hkdf_next(&ss->due), DP_HASH_LEN);
    ss->key_due = true;
}

void symmetric_mix_key(struct symmetric_state *ss, const uint8_t ikm[DP_KEY_LEN]) {
    mix(ss, ikm);
}

void symmetric_mix_key_and_hash(struct symmetric_state *ss, const uint8_t ikm[DP_KEY_LEN]) {
    mix(ss, ikm);
    symmetric_mix_hash(ss, hkdf_next(&ss->due), DP_HASH_LEN);
}

/* The cipher, for use. */
static struct cipher_state *cipher(struct symmetric_state *ss) {
    if (ss->key_due) {
        cipher_init(&ss->cipher, hkdf_next(&ss->due));
        sodium_memzero(&ss->due, sizeof ss->due);
        ss->key_due = false;
    }
    return &ss->cipher;
}

bool symmetric_has_key(const struct symmetric_state *ss) {
    return ss->cipher.has_key || ss->key_due;
}

size_t symmetric_tag_len(const struct symmetric_state *ss) {
    return symmetric_has_key(ss) ? DP_TAG_LEN : 0;
}

int symmetric_seal(struct symmetric_state *ss, struct aead *aead, uint8_t *out, const uint8_t *in,
                   size_t len) {
    size_t tag_len = symmetric_tag_len(ss);
    int rc = cipher_seal(cipher(ss), aead, ss->h, sizeof ss->h, out, in, len);
    if (rc == DP_OK)
        symmetric_mix_hash(ss, out, len + tag_len);
    return rc;
}

/* The ciphertext is hashed before it is decrypted, because decryption may replace it. */
int symmetric_open(struct symmetric_state *ss, struct aead *aead, uint8_t *out, const uint8_t *in,
                   size_t len) {
    uint8_t next[DP_HASH_LEN]; /* public: not wiped */
    hash_onto(ss, next, in, len);
    int rc = cipher_open(cipher(ss), aead, ss->h, sizeof ss->h, out, in, len);
    if (rc == DP_OK)
        memcpy(ss->h, next, sizeof next);
    return rc;
}

void symmetric_split(const struct symmetric_state *ss, struct cipher_state *c1,
                     struct cipher_state *c2, uint8_t secret[DP_KEY_LEN]) {
    struct hkdf hkdf; /* secret: wiped below */
    hkdf_start(&hkdf, ss->ck, NULL, 0);
    cipher_init(c1, hkdf_next(&hkdf));
    cipher_init(c2, hkdf_next(&hkdf));
    if (secret)
        memcpy(secret, hkdf_next(&hkdf), DP_KEY_LEN);
    sodium_memzero(&hkdf, sizeof hkdf);
}
