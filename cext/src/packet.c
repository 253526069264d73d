/* Masking, headers and what is checked before any key is agreed on. Behind the nonce a packet is XORed
 * with a keystream: a handshake message whole, a sealed packet up to its ciphertext.
 *
 *   FIRST   nonce (12) | kind (1) | check (16) | cookie (16) | Noise message
 *   SECOND  nonce (12) | kind (1) | index (4) | Noise message
 *   SEALED  nonce (12) | kind (1) | index (4) | counter (8) | ciphertext | tag (16)
 *   retry   nonce (12) | ciphertext of the cookie (16) and padding | tag (16)
 */
#include "packet.h"

#include <sodium.h>
#include <string.h>

#include "bytes.h"

enum {
    CHECK_LEN = 16,
    CHECKED_AT = PACKET_HEADER + CHECK_LEN, /* the check covers all from here on */
    FIRST_PAYLOAD = CHECKED_AT + DP_COOKIE_LEN,
    SECOND_PAYLOAD = PACKET_HEADER + 4,
    NOISE_FIRST_MIN = 96, /* e, s and a payload of nothing */
    NOISE_SECOND_MIN = 48,
    RETRY_MIN = DP_PACKET_NONCE_LEN + DP_COOKIE_LEN + DP_TAG_LEN
};

_Static_assert((int)FIRST_PAYLOAD == (int)DP_PACKET_FIRST_OVERHEAD, "layout of FIRST");
_Static_assert((int)SECOND_PAYLOAD == (int)DP_PACKET_SECOND_OVERHEAD, "layout of SECOND");
_Static_assert((int)RETRY_MIN == (int)DP_PACKET_RETRY_OVERHEAD, "layout of a retry");
_Static_assert((int)DP_COOKIE_LEN == (int)CHECK_LEN, "both are a BLAKE2b-128");

static const uint8_t KEYS_LABEL[] = "dp2p packet";
static const uint8_t RETRY_LABEL[] = "dp2p retry";

int dp_packet_keys(uint8_t out[DP_PACKET_KEYS_LEN], const uint8_t network_key[DP_KEY_LEN],
                   const uint8_t public_key[DP_KEY_LEN]) {
    crypto_generichash_state state;
    crypto_generichash_init(&state, network_key, DP_KEY_LEN, DP_PACKET_KEYS_LEN);
    crypto_generichash_update(&state, KEYS_LABEL, sizeof KEYS_LABEL - 1);
    crypto_generichash_update(&state, public_key, DP_KEY_LEN);
    crypto_generichash_final(&state, out, DP_PACKET_KEYS_LEN);
    sodium_memzero(&state, sizeof state);
    return DP_OK;
}

/* --- masks -------------------------------------------------------------------------------------- */

void packet_mask(uint8_t *packet, size_t len, const uint8_t keys[DP_PACKET_KEYS_LEN]) {
    uint8_t *masked = packet + DP_PACKET_NONCE_LEN;
    crypto_stream_chacha20_ietf_xor(masked, masked, len, packet, keys);
}

static void check_of(uint8_t out[CHECK_LEN], const uint8_t keys[DP_PACKET_KEYS_LEN],
                     const uint8_t *packet, size_t len) {
    crypto_generichash(out, CHECK_LEN, packet + CHECKED_AT, len - CHECKED_AT, keys + DP_KEY_LEN,
                       DP_KEY_LEN);
}

/* --- parsing ------------------------------------------------------------------------------------ */

static int parse_first(struct dp_packet *out, const uint8_t keys[DP_PACKET_KEYS_LEN],
                       const uint8_t *packet, size_t len) {
    uint8_t check[CHECK_LEN];
    check_of(check, keys, packet, len);
    if (sodium_memcmp(check, packet + PACKET_HEADER, CHECK_LEN) != 0)
        return DP_E_AUTH;
    memcpy(out->cookie, packet + CHECKED_AT, DP_COOKIE_LEN);
    return DP_OK;
}

static int parse_second(struct dp_packet *out, const uint8_t keys[DP_PACKET_KEYS_LEN],
                        const uint8_t *packet, size_t len) {
    (void)keys;
    (void)len;
    out->index = load32(packet + PACKET_HEADER);
    return DP_OK;
}

static int parse_sealed(struct dp_packet *out, const uint8_t keys[DP_PACKET_KEYS_LEN],
                        const uint8_t *packet, size_t len) {
    out->counter = load64(packet + PACKET_HEADER + 4);
    return parse_second(out, keys, packet, len);
}

/* Of each kind, how large a packet may be, where its payload begins, and whether all of it is masked. */
static const struct kind {
    size_t least, most, payload;
    bool masked_whole;
    int (*parse)(struct dp_packet *out, const uint8_t keys[DP_PACKET_KEYS_LEN],
                 const uint8_t *packet, size_t len);
} KINDS[] = {
    [DP_PACKET_FIRST] = {DP_PACKET_FIRST_MIN, DP_PACKET_MAX, FIRST_PAYLOAD, true, parse_first},
    [DP_PACKET_SECOND] = {SECOND_PAYLOAD + NOISE_SECOND_MIN, DP_PACKET_ANSWER_MAX, SECOND_PAYLOAD,
                          true, parse_second},
    [DP_PACKET_SEALED] = {DP_PACKET_SEALED_OVERHEAD, DP_PACKET_MAX, DP_PACKET_SEALED_PAYLOAD, false,
                          parse_sealed},
};

_Static_assert((int)DP_PACKET_FIRST_MIN >= (int)FIRST_PAYLOAD + (int)NOISE_FIRST_MIN, "FIRST");

int dp_packet_parse(struct dp_packet *out, const uint8_t keys[DP_PACKET_KEYS_LEN], uint8_t *packet,
                    size_t len) {
    uint8_t first;
    if (len < DP_PACKET_SEALED_OVERHEAD || len > DP_PACKET_MAX)
        return DP_E_SIZE;
    crypto_stream_chacha20_ietf_xor(&first, packet + DP_PACKET_NONCE_LEN, 1, packet, keys);
    if (first < DP_PACKET_FIRST || first > DP_PACKET_SEALED)
        return DP_E_FRAME;
    const struct kind *kind = &KINDS[first];
    if (len < kind->least || len > kind->most)
        return DP_E_FRAME;
    packet_mask(packet, (kind->masked_whole ? len : kind->payload) - DP_PACKET_NONCE_LEN, keys);
    struct dp_packet found = {
        .kind = first, .payload = kind->payload, .payload_len = len - kind->payload};
    int rc = kind->parse(&found, keys, packet, len);
    if (rc == DP_OK)
        *out = found;
    return rc;
}

/* --- building ----------------------------------------------------------------------------------- */

static void begin(uint8_t *out, const uint8_t nonce[DP_PACKET_NONCE_LEN], int kind) {
    memcpy(out, nonce, DP_PACKET_NONCE_LEN);
    out[DP_PACKET_NONCE_LEN] = (uint8_t)kind;
}

static bool fits(int kind, size_t out_cap, size_t noise_len) {
    const struct kind *of = &KINDS[kind];
    return noise_len <= DP_PACKET_MAX && of->payload + noise_len >= of->least &&
           of->payload + noise_len <= of->most && of->payload + noise_len <= out_cap;
}

int dp_packet_first(uint8_t *out, size_t out_cap, const uint8_t keys[DP_PACKET_KEYS_LEN],
                    const uint8_t nonce[DP_PACKET_NONCE_LEN], const uint8_t cookie[DP_COOKIE_LEN],
                    const uint8_t *noise, size_t noise_len) {
    size_t len = FIRST_PAYLOAD + noise_len;
    if (!fits(DP_PACKET_FIRST, out_cap, noise_len))
        return DP_E_SIZE;
    begin(out, nonce, DP_PACKET_FIRST);
    memcpy(out + CHECKED_AT, cookie, DP_COOKIE_LEN);
    memcpy(out + FIRST_PAYLOAD, noise, noise_len);
    check_of(out + PACKET_HEADER, keys, out, len);
    packet_mask(out, len - DP_PACKET_NONCE_LEN, keys);
    return DP_OK;
}

int dp_packet_second(uint8_t *out, size_t out_cap, const uint8_t keys[DP_PACKET_KEYS_LEN],
                     const uint8_t nonce[DP_PACKET_NONCE_LEN], uint32_t index, const uint8_t *noise,
                     size_t noise_len) {
    if (!fits(DP_PACKET_SECOND, out_cap, noise_len))
        return DP_E_SIZE;
    begin(out, nonce, DP_PACKET_SECOND);
    store32(out + PACKET_HEADER, index);
    memcpy(out + SECOND_PAYLOAD, noise, noise_len);
    packet_mask(out, SECOND_PAYLOAD + noise_len - DP_PACKET_NONCE_LEN, keys);
    return DP_OK;
}

/* --- retry -------------------------------------------------------------------------------------- */

/* Of the AEAD under a key that serves once. */
static const uint8_t ZEROS[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];

/* A key that serves once: it is made of the nonce too. */
static void retry_key(uint8_t out[DP_KEY_LEN], const uint8_t keys[DP_PACKET_KEYS_LEN],
                      const uint8_t e[DP_KEY_LEN], const uint8_t nonce[DP_PACKET_NONCE_LEN]) {
    crypto_generichash_state state;
    crypto_generichash_init(&state, keys + DP_KEY_LEN, DP_KEY_LEN, DP_KEY_LEN);
    crypto_generichash_update(&state, RETRY_LABEL, sizeof RETRY_LABEL - 1);
    crypto_generichash_update(&state, e, DP_KEY_LEN);
    crypto_generichash_update(&state, nonce, DP_PACKET_NONCE_LEN);
    crypto_generichash_final(&state, out, DP_KEY_LEN);
    sodium_memzero(&state, sizeof state);
}

int dp_packet_retry(uint8_t *out, size_t out_cap, const uint8_t keys[DP_PACKET_KEYS_LEN],
                    const uint8_t e[DP_KEY_LEN], const uint8_t nonce[DP_PACKET_NONCE_LEN],
                    const uint8_t cookie[DP_COOKIE_LEN], size_t padding) {
    uint8_t key[DP_KEY_LEN]; /* secret: wiped below */
    uint8_t *body = out + DP_PACKET_NONCE_LEN;
    if (padding > DP_PACKET_ANSWER_MAX - RETRY_MIN || out_cap < RETRY_MIN + padding)
        return DP_E_SIZE;
    memcpy(out, nonce, DP_PACKET_NONCE_LEN);
    memcpy(body, cookie, DP_COOKIE_LEN);
    memset(body + DP_COOKIE_LEN, 0, padding);
    retry_key(key, keys, e, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(body, NULL, body, DP_COOKIE_LEN + padding, NULL, 0,
                                              NULL, ZEROS, key);
    sodium_memzero(key, sizeof key);
    return DP_OK;
}

int dp_packet_retry_open(uint8_t cookie[DP_COOKIE_LEN], const uint8_t keys[DP_PACKET_KEYS_LEN],
                         const uint8_t e[DP_KEY_LEN], const uint8_t *packet, size_t len) {
    uint8_t key[DP_KEY_LEN]; /* secret: wiped below */
    uint8_t plain[DP_PACKET_ANSWER_MAX];
    if (len < RETRY_MIN || len > DP_PACKET_ANSWER_MAX)
        return DP_E_SIZE;
    retry_key(key, keys, e, packet);
    int bad =
        crypto_aead_chacha20poly1305_ietf_decrypt(plain, NULL, NULL, packet + DP_PACKET_NONCE_LEN,
                                                  len - DP_PACKET_NONCE_LEN, NULL, 0, ZEROS, key);
    if (!bad)
        memcpy(cookie, plain, DP_COOKIE_LEN);
    sodium_memzero(key, sizeof key);
    return bad ? DP_E_AUTH : DP_OK;
}
