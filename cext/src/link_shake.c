/* The handshake on the wire (docs/spec/wire.md, "Handshake").
 *
 *   messages 1 and 2:  ephemeral (32) | header (3, masked) | rest of the Noise message
 *   message 3:                          header (3, masked) | the Noise message
 *
 * The header is the mode and the length of what follows. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "dp2p_identity.h"
#include "node.h"

enum {
    SHAKE_HEADER = 3,
    SHAKE_MODE_XX = 0,
    PADDING_MIN = 16, /* random payload of the first message; ours */
    PADDING_MAX = 512,
    ADDRESS_SIZE = 19, /* family 1 | address 16 | port 2 */
    PAYLOAD_FIXED = DP_KEY_LEN + ADDRESS_SIZE,
    REST_MAX = PAYLOAD_FIXED + DP_HELLO_MAX + DP_KEY_LEN + 2 * DP_TAG_LEN
};

int shake_start(struct link *link) {
    struct dp_node *node = link->node;
    link->shake = calloc(1, sizeof *link->shake);
    if (!link->shake)
        return DP_E_MEMORY;
    struct handshake_config config = {.pattern = DP_PATTERN_XX,
                                      .initiator = link->initiator,
                                      .aead = node->aead,
                                      .prologue = (const uint8_t *)node->prologue,
                                      .prologue_len = node->prologue_len,
                                      .s = node->static_key,
                                      .spk = node->static_public,
                                      .random = node->config.random,
                                      .random_context = node->config.random_context};
    int rc = handshake_start(&link->shake->noise, &config);
    if (rc == DP_OK && link->initiator)
        link_mark(link);
    return rc;
}

/* Bytes in front of the header: the ephemeral key, in the messages that begin with one. */
static size_t lead_of(uint8_t message) {
    return message < 2 ? DP_KEY_LEN : 0;
}

/* mask = BLAKE2b keyed with the network, of the message's number and the ephemerals so far. */
static void mask_header(const struct link *link, uint8_t message, const uint8_t *lead,
                        uint8_t header[SHAKE_HEADER]) {
    uint8_t input[1 + 2 * DP_KEY_LEN] = {(uint8_t)(message + 1)};
    uint8_t mask[crypto_generichash_BYTES_MIN];
    size_t len = 1;
    for (uint8_t i = 0; i < 2; i++) {
        if (i > message)
            break;
        memcpy(input + len, i == message ? lead : link->shake->ephemerals[i], DP_KEY_LEN);
        len += DP_KEY_LEN;
    }
    crypto_generichash(mask, sizeof mask, input, len, link->node->network_key, DP_KEY_LEN);
    for (size_t i = 0; i < SHAKE_HEADER; i++)
        header[i] ^= mask[i];
}

static void keep_ephemeral(struct link *link, uint8_t message, const uint8_t *lead) {
    if (message < 2)
        memcpy(link->shake->ephemerals[message], lead, DP_KEY_LEN);
}

/* --- payloads --- */

static size_t put_address(uint8_t *out, const struct dp_address *a) {
    out[0] = a->family;
    memcpy(out + 1, a->ip, sizeof a->ip);
    store16(out + 17, a->port);
    return ADDRESS_SIZE;
}

static size_t own_payload(const struct link *link, uint8_t *out) {
    const struct dp_node *node = link->node;
    memcpy(out, node->public_key, DP_KEY_LEN);
    put_address(out + DP_KEY_LEN, &link->remote);
    if (node->hello_len)
        memcpy(out + PAYLOAD_FIXED, node->hello, node->hello_len);
    return PAYLOAD_FIXED + node->hello_len;
}

static size_t padding(const struct link *link, uint8_t *out) {
    uint8_t draw[2];
    node_random(link->node, draw, sizeof draw);
    size_t len = PADDING_MIN + load16(draw) % (PADDING_MAX - PADDING_MIN + 1);
    node_random(link->node, out, len);
    return len;
}

/* The identity in a payload must be the one whose static key the handshake proved. */
static int check_identity(struct link *link, const uint8_t *payload, size_t len) {
    uint8_t static_key[DP_KEY_LEN]; /* public */
    if (len < PAYLOAD_FIXED || len > PAYLOAD_FIXED + DP_HELLO_MAX)
        return DP_E_SIZE;
    if (dp_identity_static_public(static_key, payload) != DP_OK ||
        sodium_memcmp(static_key, link->shake->noise.rs, DP_KEY_LEN) != 0)
        return DP_E_IDENTITY;
    if (link->has_expected && sodium_memcmp(link->expected, payload, DP_KEY_LEN) != 0)
        return DP_E_IDENTITY;
    memcpy(link->key, payload, DP_KEY_LEN);
    const uint8_t *seen = payload + DP_KEY_LEN;
    link->seen = (struct dp_address){.family = seen[0], .port = load16(seen + 17)};
    memcpy(link->seen.ip, seen + 1, sizeof link->seen.ip);
    return DP_OK;
}

/* --- messages --- */

static int write_message(struct link *link) {
    struct dp_node *node = link->node;
    struct shake *shake = link->shake;
    uint8_t number = shake->noise.message;
    size_t lead = lead_of(number), len = 0, noise_len = 0;
    struct buffer *payload = buffer_get(&node->pool, PAYLOAD_FIXED + DP_HELLO_MAX);
    struct buffer *out = buffer_get(&node->pool, SHAKE_HEADER + DP_KEY_LEN + REST_MAX);
    int rc = payload && out ? DP_OK : DP_E_MEMORY;
    if (rc == DP_OK) {
        len = number == 0 ? padding(link, payload->data) : own_payload(link, payload->data);
        rc = handshake_write(&shake->noise, out->data + SHAKE_HEADER, out->cap - SHAKE_HEADER,
                             &noise_len, payload->data, len);
    }
    buffer_put(&node->pool, payload);
    if (rc != DP_OK) {
        buffer_put(&node->pool, out);
        return rc;
    }
    uint8_t header[SHAKE_HEADER] = {SHAKE_MODE_XX};
    store16(header + 1, (uint16_t)(noise_len - lead));
    memmove(out->data, out->data + SHAKE_HEADER, lead);
    mask_header(link, number, out->data, header);
    keep_ephemeral(link, number, out->data);
    memcpy(out->data + lead, header, SHAKE_HEADER);
    out->len = SHAKE_HEADER + noise_len;
    link->pending = out;
    link_mark(link);
    return DP_OK;
}

static int finish(struct link *link, const struct buffer *payload, uint64_t now_ms) {
    struct cipher_state tx, rx; /* secret: wiped below */
    uint8_t hash[DP_HASH_LEN];
    link->ciphers = calloc(2, sizeof *link->ciphers);
    if (!link->ciphers)
        return DP_E_MEMORY;
    int rc = handshake_split(&link->shake->noise, &tx, &rx, hash);
    if (rc == DP_OK)
        rc = frame_init(&link->ciphers[0], &tx, now_ms);
    if (rc == DP_OK)
        rc = frame_init(&link->ciphers[1], &rx, now_ms);
    sodium_memzero(&tx, sizeof tx);
    sodium_memzero(&rx, sizeof rx);
    if (rc != DP_OK)
        return rc;
    sodium_memzero(link->shake, sizeof *link->shake);
    free(link->shake);
    link->shake = NULL;
    link->state = DP_LINK_READY;
    struct dp_event event = {.kind = DP_EVENT_READY, .link = link->handle, .dial = link->dial};
    return node_event(link->node, &event, payload->data + PAYLOAD_FIXED,
                      payload->len - PAYLOAD_FIXED)
               ? DP_OK
               : DP_E_MEMORY;
}

/* What follows from having read message `number` with `payload`. */
static int advance(struct link *link, uint8_t number, const struct buffer *payload,
                   uint64_t now_ms) {
    if (number == 0)
        return write_message(link);
    int rc = check_identity(link, payload->data, payload->len);
    if (rc == DP_OK && number == 1)
        rc = write_message(link);
    return rc == DP_OK ? finish(link, payload, now_ms) : rc;
}

/* The Noise message that starts with `lead` bytes at `data` and goes on behind the header. */
static int read_message(struct link *link, uint8_t *data, size_t lead, size_t rest,
                        uint64_t now_ms) {
    struct dp_node *node = link->node;
    uint8_t number = link->shake->noise.message;
    struct buffer *payload = buffer_get(&node->pool, lead + rest);
    if (!payload)
        return DP_E_MEMORY;
    keep_ephemeral(link, number, data);
    memmove(data + SHAKE_HEADER, data, lead); /* over the header, which is done */
    int rc = handshake_read(&link->shake->noise, payload->data, payload->cap, &payload->len,
                            data + SHAKE_HEADER, lead + rest);
    if (rc == DP_OK)
        rc = advance(link, number, payload, now_ms);
    buffer_put(&node->pool, payload);
    return rc;
}

int shake_receive(struct link *link, uint8_t *data, size_t len, size_t *used, uint64_t now_ms) {
    *used = 0;
    if (link->initiator && link->shake->noise.message == 0)
        return DP_OK; /* nothing can answer what was not sent */
    uint8_t number = link->shake->noise.message, header[SHAKE_HEADER];
    size_t lead = lead_of(number);
    if (len < lead + SHAKE_HEADER)
        return DP_OK;
    memcpy(header, data + lead, SHAKE_HEADER);
    mask_header(link, number, data, header);
    size_t rest = load16(header + 1);
    size_t most = number == 0 ? PADDING_MAX : REST_MAX;
    if (header[0] != SHAKE_MODE_XX || rest > most)
        return DP_E_SIZE;
    if (len < lead + SHAKE_HEADER + rest)
        return DP_OK;
    int rc = read_message(link, data, lead, rest, now_ms);
    if (rc == DP_OK)
        *used = lead + SHAKE_HEADER + rest;
    return rc;
}

/* The initiator's first message is written when the stream is there to take it. */
int shake_begin(struct link *link) {
    return link->initiator && link->shake && link->shake->noise.message == 0 && !link->pending
               ? write_message(link)
               : DP_OK;
}
