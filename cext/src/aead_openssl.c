/* ChaCha20-Poly1305 from OpenSSL's libcrypto, whose vector code is the faster one. Built in when
 * libcrypto 3 was there at build time. The cipher is fetched once; a call only sets key and nonce. */
#include "aead_provider.h"

#ifdef DP_HAVE_OPENSSL

#include <openssl/evp.h>
#include <stdlib.h>

struct evp_state {
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *seal; /* secret: the last key; libcrypto wipes it when freed */
    EVP_CIPHER_CTX *open; /* secret: likewise */
};

static void evp_stop(void *state) {
    struct evp_state *evp = state;
    if (evp == NULL)
        return;
    EVP_CIPHER_CTX_free(evp->seal);
    EVP_CIPHER_CTX_free(evp->open);
    EVP_CIPHER_free(evp->cipher);
    free(evp);
}

static int evp_start(void **state) {
    struct evp_state *evp = calloc(1, sizeof *evp);
    if (evp == NULL)
        return DP_E_MEMORY;
    int rc = DP_E_PROVIDER;
    evp->cipher = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    if (evp->cipher == NULL)
        goto fail;
    rc = DP_E_MEMORY;
    evp->seal = EVP_CIPHER_CTX_new();
    evp->open = EVP_CIPHER_CTX_new();
    if (evp->seal == NULL || evp->open == NULL)
        goto fail;
    if (!EVP_EncryptInit_ex2(evp->seal, evp->cipher, NULL, NULL, NULL) ||
        !EVP_DecryptInit_ex2(evp->open, evp->cipher, NULL, NULL, NULL))
        goto fail;
    *state = evp;
    return DP_OK;
fail:
    evp_stop(evp);
    return rc;
}

/* libcrypto refuses none of these calls on a ready context; should one fail all the same, the
 * status says so and the caller's buffer holds nothing usable. */
static int evp_seal(void *state, const uint8_t *key, const uint8_t *nonce, const uint8_t *ad,
                    size_t ad_len, uint8_t *out, uint8_t *tag, const uint8_t *in, size_t len) {
    EVP_CIPHER_CTX *ctx = ((struct evp_state *)state)->seal;
    int n;
    if (!EVP_EncryptInit_ex2(ctx, NULL, key, nonce, NULL))
        return DP_E_STATE;
    if (ad_len > 0 && !EVP_EncryptUpdate(ctx, NULL, &n, ad, (int)ad_len))
        return DP_E_STATE;
    if (len > 0 && !EVP_EncryptUpdate(ctx, out, &n, in, (int)len))
        return DP_E_STATE;
    if (!EVP_EncryptFinal_ex(ctx, tag, &n))
        return DP_E_STATE;
    return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, DP_TAG_LEN, tag) ? DP_OK : DP_E_STATE;
}

static int evp_seal_parts(void *state, const uint8_t *key, const uint8_t *nonce, uint8_t *out,
                          size_t head_len, const uint8_t *tail, size_t tail_len, uint8_t *tag) {
    EVP_CIPHER_CTX *ctx = ((struct evp_state *)state)->seal;
    int n;
    if (!EVP_EncryptInit_ex2(ctx, NULL, key, nonce, NULL))
        return DP_E_STATE;
    if (head_len > 0 && !EVP_EncryptUpdate(ctx, out, &n, out, (int)head_len))
        return DP_E_STATE;
    if (tail_len > 0 && !EVP_EncryptUpdate(ctx, out + head_len, &n, tail, (int)tail_len))
        return DP_E_STATE;
    if (!EVP_EncryptFinal_ex(ctx, tag, &n))
        return DP_E_STATE;
    return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, DP_TAG_LEN, tag) ? DP_OK : DP_E_STATE;
}

static int evp_open(void *state, const uint8_t *key, const uint8_t *nonce, const uint8_t *ad,
                    size_t ad_len, uint8_t *out, const uint8_t *tag, const uint8_t *in,
                    size_t len) {
    EVP_CIPHER_CTX *ctx = ((struct evp_state *)state)->open;
    uint8_t none[DP_TAG_LEN]; /* the final call writes no plaintext */
    int n;
    if (!EVP_DecryptInit_ex2(ctx, NULL, key, nonce, NULL))
        return DP_E_STATE;
    if (!EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, DP_TAG_LEN, (void *)(uintptr_t)tag))
        return DP_E_STATE;
    if (ad_len > 0 && !EVP_DecryptUpdate(ctx, NULL, &n, ad, (int)ad_len))
        return DP_E_STATE;
    if (len > 0 && !EVP_DecryptUpdate(ctx, out, &n, in, (int)len))
        return DP_E_STATE;
    return EVP_DecryptFinal_ex(ctx, none, &n) ? DP_OK : DP_E_AUTH;
}

const struct aead_provider aead_openssl = {
    .name = "openssl",
    .start = evp_start,
    .stop = evp_stop,
    .seal = evp_seal,
    .open = evp_open,
    .seal_parts = evp_seal_parts,
};

#endif
