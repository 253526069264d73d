/* The course of a handshake: which message comes next, in which mode, and what follows from it. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "link_shake.h"
#include "node.h"

/* XX and XXfallback send a Noise message as the third; IK and NNpsk0 are over after the second, and
 * their third shows that the initiator has the keys. */
static const enum dp_pattern PATTERNS[SHAKE_MODES] = {DP_PATTERN_XX, DP_PATTERN_IK,
                                                      DP_PATTERN_NNPSK0, DP_PATTERN_XXFALLBACK};

/* --- beginning --- */

static struct handshake_config noise_config(const struct link *link) {
    const struct dp_node *node = link->node;
    const struct shake *shake = link->shake;
    return (struct handshake_config){.pattern = PATTERNS[shake->mode],
                                     .initiator = link->initiator,
                                     .aead = node->aead,
                                     .prologue = (const uint8_t *)node->prologue,
                                     .prologue_len = node->prologue_len,
                                     .s = node->static_key,
                                     .spk = node->static_public,
                                     .psk = shake->ticket + DP_TICKET_NAME_LEN,
                                     .random = node->config.random,
                                     .random_context = node->config.random_context};
}

/* What the dial relies on decides its mode. */
static int rely_on(struct link *link, const struct dp_known *known, uint8_t rs[DP_KEY_LEN]) {
    struct shake *shake = link->shake;
    if (!known)
        return DP_OK;
    if (!link->initiator || (!known->key && (known->ticket || known->pinned)))
        return DP_E_ARGUMENT;
    if (!known->key)
        return DP_OK;
    memcpy(shake->known, known->key, DP_KEY_LEN);
    shake->pinned = known->pinned;
    link->mode = shake->mode = known->ticket ? SHAKE_RESUME : SHAKE_IK;
    if (!known->ticket)
        return statics_get(&link->node->statics, rs, known->key);
    memcpy(shake->ticket, known->ticket, DP_TICKET_LEN);
    return DP_OK;
}

int shake_start(struct link *link, const struct dp_known *known) {
    uint8_t rs[DP_KEY_LEN] = {0};
    link->shake = calloc(1, sizeof *link->shake);
    if (!link->shake)
        return DP_E_MEMORY;
    int rc = rely_on(link, known, rs);
    if (rc != DP_OK || !link->initiator)
        return rc;
    struct handshake_config config = noise_config(link);
    config.rs = rs;
    rc = handshake_start(&link->shake->noise, &config);
    if (rc == DP_OK)
        link_mark(link);
    return rc;
}

void shake_free(struct link *link) {
    if (!link->shake)
        return;
    sodium_memzero(link->shake, sizeof *link->shake);
    free(link->shake);
    link->shake = NULL;
}

bool shake_rests(const struct link *link) {
    return link->shake && link->shake->ticket_state == TICKET_ASKED;
}

const uint8_t *shake_answered(const struct link *link) {
    return link->shake && link->shake->has_answered ? link->shake->answered : NULL;
}

/* --- ending --- */

/* Whether the next message is sealed with a transport key: the third of IK and NNpsk0. */
static bool is_split(const struct shake *shake) {
    return shake->tx.has_key;
}

/* Once the Noise handshake is over: its keys, and what it leaves for a later session. */
static int split(struct link *link) {
    struct shake *shake = link->shake;
    uint8_t hash[DP_HASH_LEN];
    if (is_split(shake) || !handshake_finished(&shake->noise))
        return DP_OK;
    int rc = handshake_split(&shake->noise, &shake->tx, &shake->rx, hash, link->secret);
    link->has_secret = rc == DP_OK;
    return rc;
}

static void count_ready(struct link *link) {
    struct dp_stats *stats = &link->node->stats;
    uint64_t *const counters[SHAKE_MODES] = {&stats->handshakes_xx, &stats->handshakes_ik,
                                             &stats->handshakes_resume,
                                             &stats->handshakes_fallback};
    ++*counters[link->shake->mode];
}

static int finish(struct link *link, const struct shake_payload *peer, uint64_t now_ms) {
    struct shake *shake = link->shake;
    link->ciphers = calloc(2, sizeof *link->ciphers);
    if (!link->ciphers)
        return DP_E_MEMORY;
    int rc = frame_init(&link->ciphers[0], &shake->tx, now_ms);
    if (rc == DP_OK)
        rc = frame_init(&link->ciphers[1], &shake->rx, now_ms);
    if (rc != DP_OK)
        return rc;
    memcpy(link->key, peer->key, DP_KEY_LEN);
    link->seen = peer->seen;
    count_ready(link);
    shake_free(link);
    link->state = DP_LINK_READY;
    struct dp_event event = {.kind = DP_EVENT_READY, .link = link->handle, .dial = link->dial};
    return node_event(link->node, &event, peer->hello, peer->hello_len) ? DP_OK : DP_E_MEMORY;
}

/* --- writing --- */

/* Seal `payload` to `out`, as the current message asks; *len is then that of all behind the header,
 * with the ephemeral. */
static int seal(struct shake *shake, struct aead *aead, uint8_t *out, size_t cap, size_t *len,
                const uint8_t *payload, size_t payload_len) {
    if (!is_split(shake))
        return handshake_write(&shake->noise, out, cap, len, payload, payload_len);
    *len = payload_len + DP_TAG_LEN;
    return cap < *len ? DP_E_SIZE
                      : cipher_seal(&shake->tx, aead, NULL, 0, out, payload, payload_len);
}

/* Set the highest bit of a key on its way out, which says nothing, at random. */
static void disguise(const struct link *link, uint8_t *lead) {
    uint8_t draw;
    node_random(link->node, &draw, sizeof draw);
    lead[DP_KEY_LEN - 1] |= draw & TOP_BIT;
}

/* Bring what was sealed behind `gap` bytes, with its ephemeral first, into the order of the wire. */
static void arrange(struct link *link, struct buffer *out, const struct shake_shape *shape,
                    size_t gap, size_t sealed) {
    struct shake *shake = link->shake;
    memmove(out->data, out->data + gap, shape->lead);
    if (shape->lead)
        disguise(link, out->data);
    out->len = gap + sealed;
    shake_put_header(link, out->data, out->data + shape->lead, shake->mode,
                     out->len - shape->lead - SHAKE_HEADER);
    memcpy(out->data + shape->lead + SHAKE_HEADER, shake->ticket, shape->name);
    shake_keep_ephemeral(link, out->data);
    shake->message++;
}

static int make_message(struct link *link) {
    struct dp_node *node = link->node;
    struct shake *shake = link->shake;
    const struct shake_shape *shape = shake_shape(shake->message, shake->mode);
    size_t gap = SHAKE_HEADER + shape->name, sealed = 0;
    struct buffer *payload = buffer_get(&node->pool, PAYLOAD_MAX);
    struct buffer *out = buffer_get(&node->pool, DP_KEY_LEN + SHAKE_HEADER + REST_MAX);
    int rc = payload && out ? DP_OK : DP_E_MEMORY;
    if (rc == DP_OK) {
        size_t len = shake_put_payload(link, payload->data);
        rc = seal(shake, node->aead, out->data + gap, out->cap - gap, &sealed, payload->data, len);
    }
    buffer_put(&node->pool, payload);
    if (rc != DP_OK) {
        buffer_put(&node->pool, out);
        return rc;
    }
    arrange(link, out, shape, gap, sealed);
    link->pending = out;
    link_mark(link);
    return split(link);
}

_Static_assert(DRAWS_FIRST <= (int)DRAWS_MAX, "all that a message draws is ready before it");

static int write_message(struct link *link) {
    struct draws *draws = &link->node->draws;
    draws_begin(draws, link->shake->message == 0 ? DRAWS_FIRST : DRAWS_LATER);
    int rc = make_message(link);
    draws_end(draws);
    return rc;
}

/* --- reading --- */

/* Open what stands at `in`, as the current message asks. */
static int open(struct shake *shake, struct aead *aead, struct buffer *payload, const uint8_t *in,
                size_t len) {
    if (!is_split(shake))
        return handshake_read(&shake->noise, payload->data, payload->cap, &payload->len, in, len);
    payload->len = len - DP_TAG_LEN;
    return cipher_open(&shake->rx, aead, NULL, 0, payload->data, in, len);
}

/* The responder answers what it cannot read, or has no key for, with a handshake that needs none. The
 * ticket is of no more use to either side. */
static int fall_back(struct link *link, const uint8_t *re) {
    struct shake *shake = link->shake;
    sodium_memzero(shake->ticket, sizeof shake->ticket);
    shake->mode = SHAKE_FALLBACK;
    link->fell_back = true;
    struct handshake_config config = noise_config(link);
    config.re = re;
    return link->initiator ? handshake_fallback(&shake->noise, &config, NULL)
                           : handshake_start(&shake->noise, &config);
}

/* The first message decides how this side shakes hands. `noise` begins with its ephemeral. */
static int read_first(struct link *link, struct buffer *payload, const uint8_t *noise, size_t len) {
    struct shake *shake = link->shake;
    link->mode = shake->mode;
    if (shake->ticket_state == TICKET_UNKNOWN)
        return fall_back(link, noise);
    struct handshake_config config = noise_config(link);
    int rc = handshake_start(&shake->noise, &config);
    if (rc == DP_OK)
        rc = open(shake, link->node->aead, payload, noise, len);
    return rc == DP_E_AUTH ? fall_back(link, noise) : rc;
}

/* What follows from having read message 2 or 3. */
static int advance(struct link *link, const struct buffer *payload, uint64_t now_ms) {
    struct shake *shake = link->shake;
    struct shake_payload peer;
    int rc = shake_get_payload(payload->data, payload->len, &peer);
    if (rc == DP_OK)
        rc = shake_check_identity(shake, link->initiator, peer.key);
    if (rc == DP_OK)
        rc = split(link);
    if (rc == DP_OK && link->initiator)
        rc = write_message(link);
    return rc == DP_OK ? finish(link, &peer, now_ms) : rc;
}

/* A whole message of `shape` at `data`, of which `rest` bytes stand behind the header. */
static int read_message(struct link *link, uint8_t *data, const struct shake_shape *shape,
                        size_t rest, uint64_t now_ms) {
    struct dp_node *node = link->node;
    struct shake *shake = link->shake;
    size_t gap = SHAKE_HEADER + shape->name, len = shape->lead + rest - shape->name;
    uint8_t *noise = data + gap; /* over the header and the name, which are done */
    struct buffer *payload = buffer_get(&node->pool, len);
    if (!payload)
        return DP_E_MEMORY;
    bool first = shake->message == 0;
    shake_keep_ephemeral(link, data);
    memmove(noise, data, shape->lead);
    if (shape->lead)
        noise[DP_KEY_LEN - 1] &= (uint8_t)~TOP_BIT;
    shake->message++;
    int rc = first ? read_first(link, payload, noise, len)
                   : open(shake, node->aead, payload, noise, len);
    if (rc == DP_OK && shake->noise.has_rs) /* which the split forgets */
        memcpy(shake->proved, shake->noise.rs, DP_KEY_LEN);
    if (rc == DP_OK)
        rc = first ? write_message(link) : advance(link, payload, now_ms);
    buffer_put(&node->pool, payload);
    return rc;
}

/* Whether the peer may go on in this mode: the responder with XXfallback instead of what relies on
 * something; else both stay in the first message's. */
static bool fits(const struct link *link, uint8_t mode) {
    const struct shake *shake = link->shake;
    if (shake->message == 0)
        return true;
    bool relied = shake->mode == SHAKE_IK || shake->mode == SHAKE_RESUME;
    return mode == shake->mode || (link->initiator && relied && mode == SHAKE_FALLBACK);
}

/* A message whose header is there is to be read in `mode`. */
static int enter(struct link *link, uint8_t mode) {
    struct shake *shake = link->shake;
    if (mode == SHAKE_FALLBACK && shake->mode != SHAKE_FALLBACK)
        return fall_back(link, NULL);
    shake->mode = mode;
    return DP_OK;
}

int shake_receive(struct link *link, uint8_t *data, size_t len, size_t *used, uint64_t now_ms) {
    struct shake *shake = link->shake;
    uint8_t mode;
    size_t lead = shake->message < 2 ? DP_KEY_LEN : 0, rest;
    *used = 0;
    if (link->initiator && shake->message == 0)
        return DP_OK; /* nothing can answer what was not sent */
    if (len < lead + SHAKE_HEADER)
        return DP_OK;
    shake_get_header(link, data, data + lead, &mode, &rest);
    const struct shake_shape *shape = shake_shape(shake->message, mode);
    if (!shape || !fits(link, mode) || rest < shape->rest_min || rest > shape->rest_max)
        return DP_E_SIZE;
    if (len < lead + SHAKE_HEADER + rest)
        return DP_OK;
    if (mode == SHAKE_RESUME && shake->message == 0 && shake->ticket_state == TICKET_NONE)
        return shake_ask_ticket(link, data + lead + SHAKE_HEADER);
    int rc = enter(link, mode);
    if (rc == DP_OK)
        rc = read_message(link, data, shape, rest, now_ms);
    if (rc == DP_OK)
        *used = lead + SHAKE_HEADER + rest;
    return rc;
}

/* The initiator's first message is written when the stream is there to take it. */
int shake_begin(struct link *link) {
    return link->initiator && link->shake && link->shake->message == 0 && !link->pending
               ? write_message(link)
               : DP_OK;
}
