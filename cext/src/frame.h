/* Frames: masked length, then ChaCha20-Poly1305 (docs/spec/wire.md, "Frames").
 *
 *   length (2, masked) | ciphertext | tag (16)
 *
 * One frame_cipher per direction. Its length mask is a keystream of its own, derived from the
 * frame key, so a rekey renews both.
 */
#ifndef DP2P_FRAME_H
#define DP2P_FRAME_H

#include "cipher.h"
#include "dp2p.h"

enum {
    FRAME_HEADER = 2,
    FRAME_OVERHEAD = FRAME_HEADER + DP_TAG_LEN,
    FRAME_WIRE_MAX = FRAME_OVERHEAD + DP_FRAME_MAX,
    MASKS_PER_BLOCK = 32
};

/* A receiver closes a link whose peer exceeds these; senders rekey far below them. */
#define FRAME_KEY_BYTES_MAX  (UINT64_C(1) << 36)
#define FRAME_KEY_FRAMES_MAX (UINT64_C(1) << 32)

struct frame_cipher {
    struct cipher_state cipher;                  /* secret */
    uint8_t mask_key[DP_KEY_LEN];                /* secret */
    uint8_t mask[MASKS_PER_BLOCK][FRAME_HEADER]; /* secret: of block `mask_block` */
    uint64_t mask_block;
    uint64_t key_bytes;  /* plaintext under this key */
    uint64_t key_frames; /* frames under this key */
    uint64_t key_since_ms;
};

/* Take over a transport key from the handshake. */
int frame_init(struct frame_cipher *fc, const struct cipher_state *cipher, uint64_t now_ms);

/* Seal the plaintext that stands at wire + FRAME_HEADER, in place; the frame is then
 * FRAME_OVERHEAD + len bytes at `wire`. 1 <= len <= DP_FRAME_MAX. The last tail_len of them are taken
 * from `tail` instead. Errors: DP_E_SIZE, DP_E_NONCE. */
int frame_seal(struct frame_cipher *fc, struct aead *aead, uint8_t *wire, size_t len,
               const uint8_t *tail, size_t tail_len);

/* The size on the wire of the frame that starts with `header`, without advancing.
 * Errors: DP_E_FRAME when it cannot be a frame's. */
int frame_peek(struct frame_cipher *fc, const uint8_t header[FRAME_HEADER], size_t *wire_len);

/* Open the frame at `wire`; its plaintext is *len bytes at `out`, which is wire + FRAME_HEADER or apart
 * from the frame. Errors: DP_E_AUTH, DP_E_NONCE, DP_E_REKEY when the key was used for too long; then
 * what stands at `out` means nothing. */
int frame_open(struct frame_cipher *fc, struct aead *aead, uint8_t *out, const uint8_t *wire,
               size_t wire_len, size_t *len);

/* The next key; both sides do it right behind the frame that carries a REKEY segment. */
int frame_rekey(struct frame_cipher *fc, struct aead *aead, uint64_t now_ms);

#endif
