/* Choosing a provider, the checks that both share, and the provider that is always there. */
#include "aead.h"

#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "aead_provider.h"
#include "dp2p_noise.h"

struct aead {
    const struct aead_provider *provider;
    void *state; /* the provider's; may hold the last key until the next call or aead_free */
};

/* Fastest first: the first one is what "auto" takes. */
static const struct aead_provider *const PROVIDERS[] = {
#ifdef DP_HAVE_OPENSSL
    &aead_openssl,
#endif
    &aead_libsodium,
};

enum { PROVIDER_COUNT = sizeof PROVIDERS / sizeof PROVIDERS[0] };

/* --- libsodium ------------------------------------------------------------------------------ */

static int sodium_start(void **state) {
    *state = NULL;
    return DP_OK;
}

static void sodium_stop(void *state) {
    (void)state;
}

static int sodium_seal(void *state, const uint8_t *key, const uint8_t *nonce, const uint8_t *ad,
                       size_t ad_len, uint8_t *out, uint8_t *tag, const uint8_t *in, size_t len) {
    (void)state;
    crypto_aead_chacha20poly1305_ietf_encrypt_detached(out, tag, NULL, in, len, ad, ad_len, NULL,
                                                       nonce, key);
    return DP_OK;
}

static int sodium_open(void *state, const uint8_t *key, const uint8_t *nonce, const uint8_t *ad,
                       size_t ad_len, uint8_t *out, const uint8_t *tag, const uint8_t *in,
                       size_t len) {
    (void)state;
    int bad = crypto_aead_chacha20poly1305_ietf_decrypt_detached(out, NULL, in, len, tag, ad,
                                                                 ad_len, nonce, key);
    return bad ? DP_E_AUTH : DP_OK;
}

/* libsodium takes a message in one piece. */
static int sodium_seal_parts(void *state, const uint8_t *key, const uint8_t *nonce, uint8_t *out,
                             size_t head_len, const uint8_t *tail, size_t tail_len, uint8_t *tag) {
    memcpy(out + head_len, tail, tail_len);
    return sodium_seal(state, key, nonce, NULL, 0, out, tag, out, head_len + tail_len);
}

const struct aead_provider aead_libsodium = {
    .name = "libsodium",
    .start = sodium_start,
    .stop = sodium_stop,
    .seal = sodium_seal,
    .open = sodium_open,
    .seal_parts = sodium_seal_parts,
};

/* --- selection ------------------------------------------------------------------------------ */

static const struct aead_provider *find_provider(const char *name) {
    if (name == NULL || strcmp(name, "auto") == 0)
        return PROVIDERS[0];
    for (size_t i = 0; i < PROVIDER_COUNT; i++)
        if (strcmp(name, PROVIDERS[i]->name) == 0)
            return PROVIDERS[i];
    return NULL;
}

int aead_new(struct aead **out, const char *name) {
    const struct aead_provider *provider = find_provider(name);
    if (provider == NULL)
        return DP_E_PROVIDER;
    struct aead *aead = calloc(1, sizeof *aead);
    if (aead == NULL)
        return DP_E_MEMORY;
    aead->provider = provider;
    int rc = provider->start(&aead->state);
    if (rc != DP_OK) {
        free(aead);
        return rc;
    }
    *out = aead;
    return DP_OK;
}

void aead_free(struct aead *aead) {
    if (aead == NULL)
        return;
    aead->provider->stop(aead->state);
    free(aead);
}

const char *aead_name(const struct aead *aead) {
    return aead->provider->name;
}

const char *dp_aead_default(void) {
    return PROVIDERS[0]->name;
}

const char *dp_aead_provider(size_t index) {
    return index < PROVIDER_COUNT ? PROVIDERS[index]->name : NULL;
}

/* --- the calls ------------------------------------------------------------------------------ */

/* Noise 12.3: 32 zero bits, then the counter in little endian. */
static void encode_nonce(uint8_t out[AEAD_NONCE_LEN], uint64_t nonce) {
    memset(out, 0, 4);
    for (int i = 0; i < 8; i++)
        out[4 + i] = (uint8_t)(nonce >> (8 * i));
}

int aead_seal(struct aead *aead, const uint8_t key[DP_KEY_LEN], uint64_t nonce, const uint8_t *ad,
              size_t ad_len, uint8_t *out, const uint8_t *in, size_t len) {
    uint8_t npub[AEAD_NONCE_LEN];
    if (len > INT_MAX - DP_TAG_LEN || ad_len > INT_MAX)
        return DP_E_SIZE;
    encode_nonce(npub, nonce);
    return aead->provider->seal(aead->state, key, npub, ad, ad_len, out, out + len, in, len);
}

int aead_seal_parts(struct aead *aead, const uint8_t key[DP_KEY_LEN], uint64_t nonce, uint8_t *out,
                    size_t head_len, const uint8_t *tail, size_t tail_len) {
    uint8_t npub[AEAD_NONCE_LEN];
    size_t len = head_len + tail_len;
    if (head_len > INT_MAX || tail_len > INT_MAX || len > INT_MAX - DP_TAG_LEN)
        return DP_E_SIZE;
    encode_nonce(npub, nonce);
    return aead->provider->seal_parts(aead->state, key, npub, out, head_len, tail, tail_len,
                                      out + len);
}

int aead_open(struct aead *aead, const uint8_t key[DP_KEY_LEN], uint64_t nonce, const uint8_t *ad,
              size_t ad_len, uint8_t *out, const uint8_t *in, size_t len) {
    uint8_t npub[AEAD_NONCE_LEN];
    if (len < DP_TAG_LEN || len > INT_MAX || ad_len > INT_MAX)
        return DP_E_SIZE;
    len -= DP_TAG_LEN;
    encode_nonce(npub, nonce);
    int rc = aead->provider->open(aead->state, key, npub, ad, ad_len, out, in + len, in, len);
    if (rc != DP_OK)
        sodium_memzero(out, len);
    return rc;
}

int dp_aead_seal(const char *provider, const uint8_t key[32], uint64_t nonce, const uint8_t *ad,
                 size_t ad_len, uint8_t *out, size_t out_cap, const uint8_t *in, size_t len) {
    struct aead *aead;
    if (out_cap < DP_TAG_LEN || out_cap - DP_TAG_LEN < len)
        return DP_E_SIZE;
    int rc = aead_new(&aead, provider);
    if (rc != DP_OK)
        return rc;
    rc = aead_seal(aead, key, nonce, ad, ad_len, out, in, len);
    aead_free(aead);
    return rc;
}

int dp_aead_open(const char *provider, const uint8_t key[32], uint64_t nonce, const uint8_t *ad,
                 size_t ad_len, uint8_t *out, size_t out_cap, const uint8_t *in, size_t len) {
    struct aead *aead;
    if (len < DP_TAG_LEN || out_cap < len - DP_TAG_LEN)
        return DP_E_SIZE;
    int rc = aead_new(&aead, provider);
    if (rc != DP_OK)
        return rc;
    rc = aead_open(aead, key, nonce, ad, ad_len, out, in, len);
    aead_free(aead);
    return rc;
}
