#include "frame.h"

#include <sodium.h>
#include <string.h>

#include "bytes.h"

static const uint8_t MASK_LABEL[] = "dp2p length mask";

/* mask_key = BLAKE2b-256, keyed with the frame key, of the label. */
static int derive_mask_key(struct frame_cipher *fc) {
    fc->mask_block = UINT64_MAX;
    return crypto_generichash(fc->mask_key, DP_KEY_LEN, MASK_LABEL, sizeof MASK_LABEL - 1,
                              fc->cipher.k, DP_KEY_LEN) == 0
               ? DP_OK
               : DP_E_ARGUMENT;
}

static void reset_usage(struct frame_cipher *fc, uint64_t now_ms) {
    fc->key_bytes = 0;
    fc->key_frames = 0;
    fc->key_since_ms = now_ms;
}

int frame_init(struct frame_cipher *fc, const struct cipher_state *cipher, uint64_t now_ms) {
    fc->cipher = *cipher;
    reset_usage(fc, now_ms);
    return derive_mask_key(fc);
}

/* The mask of frame n: two bytes at 2 (n mod 32) of ChaCha20 block n / 32. */
static const uint8_t *current_mask(struct frame_cipher *fc) {
    uint64_t block = fc->cipher.n / MASKS_PER_BLOCK;
    if (fc->mask_block != block) {
        uint8_t nonce[crypto_stream_chacha20_ietf_NONCEBYTES] = {0}; /* public */
        store64(nonce + 4, block);
        crypto_stream_chacha20_ietf(fc->mask[0], sizeof fc->mask, nonce, fc->mask_key);
        fc->mask_block = block;
    }
    return fc->mask[fc->cipher.n % MASKS_PER_BLOCK];
}

int frame_seal(struct frame_cipher *fc, struct aead *aead, uint8_t *wire, size_t len,
               const uint8_t *tail, size_t tail_len) {
    if (len < 1 || len > DP_FRAME_MAX || tail_len > len)
        return DP_E_SIZE;
    const uint8_t *mask = current_mask(fc);
    uint8_t *body = wire + FRAME_HEADER;
    store16(wire, (uint16_t)((len + DP_TAG_LEN) ^ load16(mask)));
    int rc = tail_len ? cipher_seal_parts(&fc->cipher, aead, body, len - tail_len, tail, tail_len)
                      : cipher_seal(&fc->cipher, aead, NULL, 0, body, body, len);
    if (rc != DP_OK)
        return rc;
    fc->key_bytes += len;
    fc->key_frames++;
    return DP_OK;
}

int frame_peek(struct frame_cipher *fc, const uint8_t header[FRAME_HEADER], size_t *wire_len) {
    size_t len = load16(header) ^ load16(current_mask(fc));
    if (len <= DP_TAG_LEN || len > DP_FRAME_MAX + DP_TAG_LEN)
        return DP_E_FRAME;
    *wire_len = FRAME_HEADER + len;
    return DP_OK;
}

int frame_open(struct frame_cipher *fc, struct aead *aead, uint8_t *out, const uint8_t *wire,
               size_t wire_len, size_t *len) {
    if (fc->key_bytes >= FRAME_KEY_BYTES_MAX || fc->key_frames >= FRAME_KEY_FRAMES_MAX)
        return DP_E_REKEY;
    const uint8_t *body = wire + FRAME_HEADER;
    int rc = cipher_open(&fc->cipher, aead, NULL, 0, out, body, wire_len - FRAME_HEADER);
    if (rc != DP_OK)
        return rc;
    *len = wire_len - FRAME_OVERHEAD;
    fc->key_bytes += *len;
    fc->key_frames++;
    return DP_OK;
}

int frame_rekey(struct frame_cipher *fc, struct aead *aead, uint64_t now_ms) {
    int rc = cipher_rekey(&fc->cipher, aead);
    if (rc != DP_OK)
        return rc;
    reset_usage(fc, now_ms);
    return derive_mask_key(fc);
}
