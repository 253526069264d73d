/* Every function that changes a handshake works on a copy of the whole struct, commits the copy on
 * success and wipes it on the way out. So a refused message leaves no trace. */
#include "handshake.h"

#include <sodium.h>
#include <string.h>

#include "x25519.h"

enum { MESSAGE_MAX = 65535 }; /* Noise section 3 */

static const struct pattern *pattern_of(const struct handshake *hs) {
    return pattern_get((int)hs->pattern);
}

static const uint8_t *next_tokens(const struct handshake *hs) {
    return pattern_of(hs)->messages[hs->message];
}

/* --- start ------------------------------------------------------------------------------------ */

static bool has_token(const uint8_t *tokens, uint8_t wanted) {
    for (; *tokens != TOKEN_END; tokens++)
        if (*tokens == wanted)
            return true;
    return false;
}

/* Whether a side sends its static key, or the other one knows it beforehand. */
static bool side_has_static(const struct pattern *pattern, bool initiator) {
    uint8_t pre = initiator ? pattern->pre_initiator : pattern->pre_responder;
    if (pre == TOKEN_S)
        return true;
    for (uint8_t i = 0; i < pattern->message_count; i++)
        if (pattern_writes(pattern, initiator, i) && has_token(pattern->messages[i], TOKEN_S))
            return true;
    return false;
}

static int load_static(struct handshake *hs, const struct handshake_config *config) {
    if (config->s == NULL)
        return DP_E_ARGUMENT;
    memcpy(hs->s, config->s, DP_KEY_LEN);
    if (config->spk != NULL)
        memcpy(hs->spk, config->spk, DP_KEY_LEN);
    else
        x25519_base(hs->spk, hs->s);
    hs->has_s = true;
    return DP_OK;
}

static int load_key(uint8_t out[DP_KEY_LEN], bool *has, const uint8_t *key) {
    if (key == NULL)
        return DP_E_ARGUMENT;
    memcpy(out, key, DP_KEY_LEN);
    *has = true;
    return DP_OK;
}

/* The keys that the pattern asks of this side before the first message, and no other. */
static int load_keys(struct handshake *hs, const struct handshake_config *config) {
    const struct pattern *pattern = pattern_of(hs);
    uint8_t known = hs->initiator ? pattern->pre_responder : pattern->pre_initiator;
    int rc = DP_OK;
    if (side_has_static(pattern, hs->initiator))
        rc = load_static(hs, config);
    if (rc == DP_OK && known == TOKEN_S)
        rc = load_key(hs->rs, &hs->has_rs, config->rs);
    if (rc == DP_OK && pattern->psk)
        rc = load_key(hs->psk, &hs->has_psk, config->psk);
    return rc;
}

static void mix_pre_message(struct handshake *hs, uint8_t token, bool initiators) {
    bool own = hs->initiator == initiators;
    if (token == TOKEN_E)
        symmetric_mix_hash(&hs->symmetric, own ? hs->epk : hs->re, DP_KEY_LEN);
    if (token == TOKEN_E && pattern_of(hs)->psk)
        symmetric_mix_key(&hs->symmetric, own ? hs->epk : hs->re);
    if (token == TOKEN_S)
        symmetric_mix_hash(&hs->symmetric, own ? hs->spk : hs->rs, DP_KEY_LEN);
}

/* Initialize() of `hs`, whose ephemeral keys are set when the pattern has them as pre-message. */
static int initialize(struct handshake *hs, const struct handshake_config *config) {
    const struct pattern *pattern = pattern_of(hs);
    if (config->aead == NULL || config->random == NULL)
        return DP_E_ARGUMENT;
    hs->aead = config->aead;
    hs->random = config->random;
    hs->random_context = config->random_context;
    int rc = load_keys(hs, config);
    if (rc != DP_OK)
        return rc;
    symmetric_init(&hs->symmetric, pattern->protocol);
    symmetric_mix_hash(&hs->symmetric, config->prologue, config->prologue_len);
    mix_pre_message(hs, pattern->pre_initiator, true);
    mix_pre_message(hs, pattern->pre_responder, false);
    return DP_OK;
}

int handshake_start(struct handshake *hs, const struct handshake_config *config) {
    struct handshake next; /* secret: wiped below */
    const struct pattern *pattern = pattern_get((int)config->pattern);
    if (pattern == NULL || (pattern->pre_initiator == TOKEN_E && config->initiator))
        return DP_E_ARGUMENT;
    memset(&next, 0, sizeof next);
    next.pattern = config->pattern;
    next.initiator = config->initiator;
    int rc = DP_OK;
    if (pattern->pre_initiator == TOKEN_E)
        rc = load_key(next.re, &next.has_re, config->re);
    if (rc == DP_OK)
        rc = initialize(&next, config);
    if (rc == DP_OK)
        *hs = next;
    sodium_memzero(&next, sizeof next);
    return rc;
}

/* The initiator goes on with its own e, the responder with what it was sent. */
static int keep_ephemeral(struct handshake *next, const struct handshake *hs, const uint8_t *re) {
    if (!hs->initiator)
        return load_key(next->re, &next->has_re, re == NULL && hs->has_re ? hs->re : re);
    memcpy(next->e, hs->e, DP_KEY_LEN);
    memcpy(next->epk, hs->epk, DP_KEY_LEN);
    next->has_e = true;
    return DP_OK;
}

int handshake_fallback(struct handshake *hs, const struct handshake_config *config,
                       const uint8_t *re) {
    struct handshake next; /* secret: wiped below */
    if (!pattern_of(hs)->falls_back || hs->message > 1 || (hs->initiator && hs->message == 0))
        return DP_E_STATE;
    memset(&next, 0, sizeof next);
    next.pattern = DP_PATTERN_XXFALLBACK;
    next.initiator = hs->initiator;
    int rc = keep_ephemeral(&next, hs, re);
    if (rc == DP_OK)
        rc = initialize(&next, config);
    if (rc == DP_OK)
        *hs = next;
    sodium_memzero(&next, sizeof next);
    return rc;
}

/* --- tokens (Noise 5.3) ------------------------------------------------------------------------ */

/* Of each DH token, the initiator's key and the responder's key. */
static const uint8_t DH_KEYS[][2] = {
    [TOKEN_EE] = {TOKEN_E, TOKEN_E},
    [TOKEN_ES] = {TOKEN_E, TOKEN_S},
    [TOKEN_SE] = {TOKEN_S, TOKEN_E},
    [TOKEN_SS] = {TOKEN_S, TOKEN_S},
};

/* MixKey(DH()). An all-zero result, which a low-order public key gives, is refused. */
static int mix_dh(struct handshake *hs, uint8_t token) {
    uint8_t dh[DP_KEY_LEN]; /* secret: wiped below */
    bool own_e = DH_KEYS[token][hs->initiator ? 0 : 1] == TOKEN_E;
    bool peers_e = DH_KEYS[token][hs->initiator ? 1 : 0] == TOKEN_E;
    if (!(own_e ? hs->has_e : hs->has_s) || !(peers_e ? hs->has_re : hs->has_rs))
        return DP_E_STATE;
    int bad = crypto_scalarmult(dh, own_e ? hs->e : hs->s, peers_e ? hs->re : hs->rs);
    if (!bad)
        symmetric_mix_key(&hs->symmetric, dh);
    sodium_memzero(dh, sizeof dh);
    return bad ? DP_E_KEY : DP_OK;
}

static int mix_psk(struct handshake *hs) {
    symmetric_mix_key_and_hash(&hs->symmetric, hs->psk);
    return DP_OK;
}

static void mix_ephemeral(struct handshake *hs, const uint8_t key[DP_KEY_LEN]) {
    symmetric_mix_hash(&hs->symmetric, key, DP_KEY_LEN);
    if (pattern_of(hs)->psk)
        symmetric_mix_key(&hs->symmetric, key);
}

static int write_e(struct handshake *hs, uint8_t **at) {
    hs->random(hs->random_context, hs->e, DP_KEY_LEN);
    x25519_base(hs->epk, hs->e);
    hs->has_e = true;
    memcpy(*at, hs->epk, DP_KEY_LEN);
    *at += DP_KEY_LEN;
    mix_ephemeral(hs, hs->epk);
    return DP_OK;
}

static int write_s(struct handshake *hs, uint8_t **at) {
    size_t len = DP_KEY_LEN + symmetric_tag_len(&hs->symmetric);
    int rc = symmetric_seal(&hs->symmetric, hs->aead, *at, hs->spk, DP_KEY_LEN);
    *at += len;
    return rc;
}

static int write_token(struct handshake *hs, uint8_t token, uint8_t **at) {
    switch (token) {
    case TOKEN_E:
        return write_e(hs, at);
    case TOKEN_S:
        return write_s(hs, at);
    case TOKEN_PSK:
        return mix_psk(hs);
    default:
        return mix_dh(hs, token);
    }
}

static int read_e(struct handshake *hs, const uint8_t **at) {
    memcpy(hs->re, *at, DP_KEY_LEN);
    hs->has_re = true;
    *at += DP_KEY_LEN;
    mix_ephemeral(hs, hs->re);
    return DP_OK;
}

static int read_s(struct handshake *hs, const uint8_t **at) {
    size_t len = DP_KEY_LEN + symmetric_tag_len(&hs->symmetric);
    int rc = symmetric_open(&hs->symmetric, hs->aead, hs->rs, *at, len);
    hs->has_rs = true;
    *at += len;
    return rc;
}

static int read_token(struct handshake *hs, uint8_t token, const uint8_t **at) {
    switch (token) {
    case TOKEN_E:
        return read_e(hs, at);
    case TOKEN_S:
        return read_s(hs, at);
    case TOKEN_PSK:
        return mix_psk(hs);
    default:
        return mix_dh(hs, token);
    }
}

/* --- messages ---------------------------------------------------------------------------------- */

/* Mirrors what the tokens do to the key: all but `s` and, outside psk handshakes, `e` make one. */
size_t handshake_overhead(const struct handshake *hs) {
    bool keyed = symmetric_has_key(&hs->symmetric);
    size_t len = 0;
    if (handshake_finished(hs))
        return 0;
    for (const uint8_t *token = next_tokens(hs); *token != TOKEN_END; token++) {
        if (*token == TOKEN_S)
            len += keyed ? DP_KEY_LEN + DP_TAG_LEN : DP_KEY_LEN;
        else if (*token == TOKEN_E)
            len += DP_KEY_LEN;
        if (*token != TOKEN_S && (*token != TOKEN_E || pattern_of(hs)->psk))
            keyed = true;
    }
    return len + (keyed ? DP_TAG_LEN : 0);
}

bool handshake_finished(const struct handshake *hs) {
    return hs->message >= pattern_of(hs)->message_count;
}

bool handshake_our_turn(const struct handshake *hs) {
    return !handshake_finished(hs) && pattern_writes(pattern_of(hs), hs->initiator, hs->message);
}

int handshake_write(struct handshake *hs, uint8_t *out, size_t out_cap, size_t *out_len,
                    const uint8_t *payload, size_t payload_len) {
    if (!handshake_our_turn(hs))
        return DP_E_STATE;
    size_t overhead = handshake_overhead(hs);
    if (payload_len > MESSAGE_MAX - overhead || out_cap < overhead + payload_len)
        return DP_E_SIZE;
    struct handshake next = *hs; /* secret: wiped below */
    uint8_t *at = out;
    int rc = DP_OK;
    for (const uint8_t *token = next_tokens(hs); rc == DP_OK && *token != TOKEN_END; token++)
        rc = write_token(&next, *token, &at);
    if (rc != DP_OK)
        goto out;
    rc = symmetric_seal(&next.symmetric, next.aead, at, payload, payload_len);
    if (rc != DP_OK)
        goto out;
    next.message++;
    *hs = next;
    *out_len = overhead + payload_len;
out:
    if (rc != DP_OK)
        sodium_memzero(out, overhead + payload_len);
    sodium_memzero(&next, sizeof next);
    return rc;
}

int handshake_read(struct handshake *hs, uint8_t *out, size_t out_cap, size_t *out_len,
                   const uint8_t *message, size_t message_len) {
    if (handshake_finished(hs) || handshake_our_turn(hs))
        return DP_E_STATE;
    size_t overhead = handshake_overhead(hs);
    if (message_len < overhead || message_len > MESSAGE_MAX || out_cap < message_len - overhead)
        return DP_E_SIZE;
    struct handshake next = *hs; /* secret: wiped below */
    const uint8_t *at = message;
    int rc = DP_OK;
    for (const uint8_t *token = next_tokens(hs); rc == DP_OK && *token != TOKEN_END; token++)
        rc = read_token(&next, *token, &at);
    if (rc != DP_OK)
        goto out;
    rc = symmetric_open(&next.symmetric, next.aead, out, at, message_len - (size_t)(at - message));
    if (rc != DP_OK)
        goto out;
    next.message++;
    *hs = next;
    *out_len = message_len - overhead;
out:
    sodium_memzero(&next, sizeof next);
    return rc;
}

/* To Split() the initiator is who writes the first message: in XXfallback the other side. */
int handshake_split(struct handshake *hs, struct cipher_state *tx, struct cipher_state *rx,
                    uint8_t hash[DP_HASH_LEN], uint8_t secret[DP_KEY_LEN]) {
    if (!handshake_finished(hs))
        return DP_E_STATE;
    bool first = pattern_writes(pattern_of(hs), hs->initiator, 0);
    symmetric_split(&hs->symmetric, first ? tx : rx, first ? rx : tx, secret);
    memcpy(hash, hs->symmetric.h, DP_HASH_LEN);
    handshake_wipe(hs);
    return DP_OK;
}

void handshake_wipe(struct handshake *hs) {
    sodium_memzero(hs, sizeof *hs);
}
