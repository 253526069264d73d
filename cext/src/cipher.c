#include "cipher.h"

#include <sodium.h>
#include <string.h>

void cipher_init(struct cipher_state *cs, const uint8_t k[DP_KEY_LEN]) {
    memcpy(cs->k, k, DP_KEY_LEN);
    cs->n = 0;
    cs->has_key = true;
}

static int copy(uint8_t *out, const uint8_t *in, size_t len) {
    if (len > 0 && out != in)
        memmove(out, in, len);
    return DP_OK;
}

int cipher_seal(struct cipher_state *cs, struct aead *aead, const uint8_t *ad, size_t ad_len,
                uint8_t *out, const uint8_t *in, size_t len) {
    if (!cs->has_key)
        return copy(out, in, len);
    if (cs->n == UINT64_MAX)
        return DP_E_NONCE;
    int rc = aead_seal(aead, cs->k, cs->n, ad, ad_len, out, in, len);
    if (rc == DP_OK)
        cs->n++;
    return rc;
}

int cipher_seal_parts(struct cipher_state *cs, struct aead *aead, uint8_t *out, size_t head_len,
                      const uint8_t *tail, size_t tail_len) {
    if (!cs->has_key)
        return DP_E_STATE;
    if (cs->n == UINT64_MAX)
        return DP_E_NONCE;
    int rc = aead_seal_parts(aead, cs->k, cs->n, out, head_len, tail, tail_len);
    if (rc == DP_OK)
        cs->n++;
    return rc;
}

int cipher_open(struct cipher_state *cs, struct aead *aead, const uint8_t *ad, size_t ad_len,
                uint8_t *out, const uint8_t *in, size_t len) {
    if (!cs->has_key)
        return copy(out, in, len);
    if (cs->n == UINT64_MAX)
        return DP_E_NONCE;
    int rc = aead_open(aead, cs->k, cs->n, ad, ad_len, out, in, len);
    if (rc == DP_OK)
        cs->n++;
    return rc;
}

int cipher_rekey(struct cipher_state *cs, struct aead *aead) {
    static const uint8_t ZEROS[DP_KEY_LEN];
    uint8_t sealed[DP_KEY_LEN + DP_TAG_LEN]; /* secret: wiped below */
    if (!cs->has_key)
        return DP_E_STATE;
    int rc = aead_seal(aead, cs->k, UINT64_MAX, NULL, 0, sealed, ZEROS, sizeof ZEROS);
    if (rc == DP_OK)
        memcpy(cs->k, sealed, DP_KEY_LEN);
    sodium_memzero(sealed, sizeof sealed);
    return rc;
}
