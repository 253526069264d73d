/* What an AEAD provider is made of. Seen by aead*.c and their test only. */
#ifndef DP2P_AEAD_PROVIDER_H
#define DP2P_AEAD_PROVIDER_H

#include "dp2p_base.h"

enum { AEAD_NONCE_LEN = 12 };

/* One direction over in[len] and a detached tag. `out` may equal `in`; len fits an int.
 * `state` is what start() made. */
typedef int aead_seal_fn(void *state, const uint8_t key[DP_KEY_LEN],
                         const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *ad, size_t ad_len,
                         uint8_t *out, uint8_t tag[DP_TAG_LEN], const uint8_t *in, size_t len);
/* Plaintext in two places: `head_len` bytes at `out`, in place, and `tail`; no associated data. */
typedef int aead_seal_parts_fn(void *state, const uint8_t key[DP_KEY_LEN],
                               const uint8_t nonce[AEAD_NONCE_LEN], uint8_t *out, size_t head_len,
                               const uint8_t *tail, size_t tail_len, uint8_t tag[DP_TAG_LEN]);
/* DP_E_AUTH leaves out[len] undefined: the caller wipes it. */
typedef int aead_open_fn(void *state, const uint8_t key[DP_KEY_LEN],
                         const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *ad, size_t ad_len,
                         uint8_t *out, const uint8_t tag[DP_TAG_LEN], const uint8_t *in,
                         size_t len);

struct aead_provider {
    const char *name;
    int (*start)(void **state); /* scratch memory, or NULL when the provider needs none */
    void (*stop)(void *state);  /* wipes and frees it; NULL is allowed */
    aead_seal_fn *seal;
    aead_open_fn *open;
    aead_seal_parts_fn *seal_parts;
};

extern const struct aead_provider aead_libsodium;
#ifdef DP_HAVE_OPENSSL
extern const struct aead_provider aead_openssl; /* aead_openssl.c */
#endif

#endif
