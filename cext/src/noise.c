/* The opaque API of dp2p_noise.h over handshake.h. */
#include "dp2p_noise.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "handshake.h"
#include "noise_keys.h"

struct dp_handshake {
    struct handshake hs; /* secret */
    struct aead *aead;
    struct cipher_state tx, rx; /* secret; keyed by the split */
    uint8_t e[DP_KEY_LEN];      /* secret: the injected ephemeral key */
    uint8_t rs[DP_KEY_LEN];     /* kept at the split, which wipes `hs` */
    bool has_e, has_rs;
    bool taken; /* the keys of the split are gone */
};

/* dp_random_fn: the injected key, or the operating system's random bytes. */
static void make_ephemeral(void *context, uint8_t *out, size_t len) {
    struct dp_handshake *handshake = context;
    if (handshake->has_e && len == DP_KEY_LEN)
        memcpy(out, handshake->e, DP_KEY_LEN);
    else
        randombytes_buf(out, len);
}

static void inject_ephemeral(struct dp_handshake *handshake, const uint8_t *e) {
    handshake->has_e = e != NULL;
    if (e != NULL)
        memcpy(handshake->e, e, DP_KEY_LEN);
}

static struct handshake_config inner_config(struct dp_handshake *handshake,
                                            const struct dp_handshake_config *config) {
    return (struct handshake_config){
        .pattern = (enum dp_pattern)config->pattern,
        .initiator = config->initiator,
        .aead = handshake->aead,
        .prologue = config->prologue,
        .prologue_len = config->prologue_len,
        .s = config->s,
        .spk = config->spk,
        .rs = config->rs,
        .psk = config->psk,
        .random = make_ephemeral,
        .random_context = handshake,
    };
}

int dp_handshake_new(dp_handshake **out, const struct dp_handshake_config *config) {
    if (pattern_get(config->pattern) == NULL)
        return DP_E_ARGUMENT;
    struct dp_handshake *handshake = calloc(1, sizeof *handshake);
    if (handshake == NULL)
        return DP_E_MEMORY;
    int rc = aead_new(&handshake->aead, config->provider);
    if (rc != DP_OK)
        goto fail;
    inject_ephemeral(handshake, config->e);
    struct handshake_config inner = inner_config(handshake, config);
    rc = handshake_start(&handshake->hs, &inner);
    if (rc != DP_OK)
        goto fail;
    *out = handshake;
    return DP_OK;
fail:
    dp_handshake_free(handshake);
    return rc;
}

void dp_handshake_free(dp_handshake *handshake) {
    if (handshake == NULL)
        return;
    aead_free(handshake->aead);
    sodium_memzero(handshake, sizeof *handshake);
    free(handshake);
}

/* Whether the split has happened; it wipes `hs`, which then must not be asked anything. */
static bool is_split(const struct dp_handshake *handshake) {
    return handshake->tx.has_key || handshake->taken;
}

/* Whether there are keys to seal and to open with. */
static bool has_keys(const struct dp_handshake *handshake) {
    return is_split(handshake) && !handshake->taken;
}

int dp_handshake_fallback(dp_handshake *handshake, const struct dp_handshake_config *config,
                          const uint8_t *re) {
    if (is_split(handshake))
        return DP_E_STATE;
    struct handshake_config inner = inner_config(handshake, config);
    int rc = handshake_fallback(&handshake->hs, &inner, re);
    if (rc == DP_OK)
        inject_ephemeral(handshake, config->e);
    return rc;
}

int dp_handshake_write(dp_handshake *handshake, uint8_t *out, size_t out_cap, size_t *out_len,
                       const uint8_t *payload, size_t payload_len) {
    if (is_split(handshake))
        return DP_E_STATE;
    return handshake_write(&handshake->hs, out, out_cap, out_len, payload, payload_len);
}

int dp_handshake_read(dp_handshake *handshake, uint8_t *out, size_t out_cap, size_t *out_len,
                      const uint8_t *message, size_t message_len) {
    if (is_split(handshake))
        return DP_E_STATE;
    return handshake_read(&handshake->hs, out, out_cap, out_len, message, message_len);
}

size_t dp_handshake_overhead(const dp_handshake *handshake) {
    return is_split(handshake) ? 0 : handshake_overhead(&handshake->hs);
}

bool dp_handshake_finished(const dp_handshake *handshake) {
    return is_split(handshake) || handshake_finished(&handshake->hs);
}

bool dp_handshake_our_turn(const dp_handshake *handshake) {
    return !is_split(handshake) && handshake_our_turn(&handshake->hs);
}

int dp_handshake_remote_static(const dp_handshake *handshake, uint8_t out[32]) {
    bool split = is_split(handshake);
    if (!(split ? handshake->has_rs : handshake->hs.has_rs))
        return DP_E_STATE;
    memcpy(out, split ? handshake->rs : handshake->hs.rs, DP_KEY_LEN);
    return DP_OK;
}

int dp_handshake_split(dp_handshake *handshake, uint8_t hash[64]) {
    if (is_split(handshake) || !handshake_finished(&handshake->hs))
        return DP_E_STATE;
    handshake->has_rs = handshake->hs.has_rs;
    memcpy(handshake->rs, handshake->hs.rs, DP_KEY_LEN);
    return handshake_split(&handshake->hs, &handshake->tx, &handshake->rx, hash, NULL);
}

int noise_take_keys(dp_handshake *split, struct cipher_state *tx, struct cipher_state *rx) {
    if (!has_keys(split))
        return DP_E_STATE;
    *tx = split->tx;
    *rx = split->rx;
    sodium_memzero(&split->tx, sizeof split->tx);
    sodium_memzero(&split->rx, sizeof split->rx);
    split->taken = true;
    return DP_OK;
}

int dp_handshake_seal(dp_handshake *handshake, uint8_t *out, size_t out_cap, const uint8_t *in,
                      size_t len) {
    if (!has_keys(handshake))
        return DP_E_STATE;
    if (out_cap < DP_TAG_LEN || out_cap - DP_TAG_LEN < len)
        return DP_E_SIZE;
    return cipher_seal(&handshake->tx, handshake->aead, NULL, 0, out, in, len);
}

int dp_handshake_open(dp_handshake *handshake, uint8_t *out, size_t out_cap, const uint8_t *in,
                      size_t len) {
    if (!has_keys(handshake))
        return DP_E_STATE;
    if (len < DP_TAG_LEN || out_cap < len - DP_TAG_LEN)
        return DP_E_SIZE;
    return cipher_open(&handshake->rx, handshake->aead, NULL, 0, out, in, len);
}

int dp_handshake_rekey_tx(dp_handshake *handshake) {
    return cipher_rekey(&handshake->tx, handshake->aead);
}

int dp_handshake_rekey_rx(dp_handshake *handshake) {
    return cipher_rekey(&handshake->rx, handshake->aead);
}
