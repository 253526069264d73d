/* ChaCha20-Poly1305 (RFC 8439) from one of two providers, the same bytes from both. */
#ifndef DP2P_AEAD_H
#define DP2P_AEAD_H

#include "dp2p_base.h"

/* One loop's provider: the functions and their scratch state. Not shared between threads. */
struct aead;

/* The provider called `name` ("libsodium" or "openssl"); NULL or "auto" takes the fastest one
 * that was built in. Errors: DP_E_PROVIDER for one that was not, DP_E_MEMORY. */
int aead_new(struct aead **out, const char *name);
void aead_free(struct aead *aead);
const char *aead_name(const struct aead *aead);

/* out[len + DP_TAG_LEN] = ciphertext, tag. `out` may equal `in`. `nonce` is the Noise counter:
 * 32 zero bits, then little endian (Noise 12.3). */
int aead_seal(struct aead *aead, const uint8_t key[DP_KEY_LEN], uint64_t nonce, const uint8_t *ad,
              size_t ad_len, uint8_t *out, const uint8_t *in, size_t len);

/* Plaintext that lies in two places, sealed into one: `head_len` bytes at `out`, in place, then `tail`.
 * out[head_len + tail_len + DP_TAG_LEN] = ciphertext, tag. No associated data. */
int aead_seal_parts(struct aead *aead, const uint8_t key[DP_KEY_LEN], uint64_t nonce, uint8_t *out,
                    size_t head_len, const uint8_t *tail, size_t tail_len);

/* out[len - DP_TAG_LEN] = plaintext of in[len]. `out` may equal `in`. On failure the contents of
 * `out` are wiped. Errors: DP_E_SIZE when len < DP_TAG_LEN, DP_E_AUTH. */
int aead_open(struct aead *aead, const uint8_t key[DP_KEY_LEN], uint64_t nonce, const uint8_t *ad,
              size_t ad_len, uint8_t *out, const uint8_t *in, size_t len);

#endif
