/* CipherState of the Noise Protocol Framework, section 5.1. */
#ifndef DP2P_CIPHER_H
#define DP2P_CIPHER_H

#include "aead.h"

struct cipher_state {
    uint8_t k[DP_KEY_LEN]; /* secret */
    uint64_t n;            /* next nonce; UINT64_MAX is reserved for rekey */
    bool has_key;
};

void cipher_init(struct cipher_state *cs, const uint8_t k[DP_KEY_LEN]);

/* EncryptWithAd and DecryptWithAd: as aead_seal and aead_open, with the nonce advanced on success.
 * Without a key they copy. Errors: DP_E_NONCE when n is used up; as the aead's. */
int cipher_seal(struct cipher_state *cs, struct aead *aead, const uint8_t *ad, size_t ad_len,
                uint8_t *out, const uint8_t *in, size_t len);
/* EncryptWithAd without associated data, of plaintext in two places: see aead_seal_parts. Needs a key
 * (DP_E_STATE). */
int cipher_seal_parts(struct cipher_state *cs, struct aead *aead, uint8_t *out, size_t head_len,
                      const uint8_t *tail, size_t tail_len);
int cipher_open(struct cipher_state *cs, struct aead *aead, const uint8_t *ad, size_t ad_len,
                uint8_t *out, const uint8_t *in, size_t len);

/* Rekey (Noise 4.2, 11.3): k = the first 32 bytes of ENCRYPT(k, 2^64-1, "", zeros). n stays. */
int cipher_rekey(struct cipher_state *cs, struct aead *aead);

#endif
