#include "segment.h"

#include <string.h>

#include "bytes.h"

/* Fixed part of each kind, kind byte included. */
static const uint8_t HEADER_SIZE[SEGMENT_KINDS] = {
    [SEGMENT_PADDING] = 1,
    [SEGMENT_DATAGRAM] = DATAGRAM_HEADER,
    [SEGMENT_FIRST] = FIRST_HEADER,
    [SEGMENT_NEXT] = NEXT_HEADER,
    [SEGMENT_CREDIT] = CREDIT_SIZE,
    [SEGMENT_PING] = PING_SIZE,
    [SEGMENT_PONG] = PING_SIZE,
    [SEGMENT_REKEY] = REKEY_SIZE,
    [SEGMENT_CLOSE] = CLOSE_SIZE,
    [SEGMENT_EPOCH] = EPOCH_SIZE,
    [SEGMENT_BLOCKED] = BLOCKED_SIZE,
};

static void read_header(const uint8_t *p, struct segment *s) {
    switch (s->kind) {
    case SEGMENT_DATAGRAM:
        s->channel = p[1], s->type = load16(p + 2), s->len = load16(p + 4);
        s->total = (uint32_t)s->len;
        break;
    case SEGMENT_FIRST:
        s->channel = p[1], s->type = load16(p + 2);
        s->total = load32(p + 4), s->len = load16(p + 8);
        break;
    case SEGMENT_NEXT:
        s->channel = p[1], s->len = load16(p + 2);
        break;
    case SEGMENT_CREDIT:
        s->channel = p[1], s->total = load32(p + 2);
        s->datagrams = load64(p + 6), s->bytes = load64(p + 14);
        break;
    case SEGMENT_PING:
    case SEGMENT_PONG:
        s->bytes = load64(p + 1);
        break;
    case SEGMENT_CLOSE:
        s->type = load16(p + 1);
        break;
    case SEGMENT_EPOCH:
        s->channel = p[1], s->epoch = load64(p + 2);
        s->datagrams = load64(p + 10), s->bytes = load64(p + 18);
        break;
    case SEGMENT_BLOCKED:
        s->channel = p[1], s->bytes = load64(p + 2);
        break;
    default:
        break;
    }
}

static bool well_formed(const struct segment *s, bool at_end) {
    switch (s->kind) {
    case SEGMENT_FIRST:
        return s->len > 0 && s->len < s->total;
    case SEGMENT_NEXT:
        return s->len > 0;
    case SEGMENT_REKEY:
    case SEGMENT_CLOSE:
        return at_end;
    default:
        return true;
    }
}

int segment_next(const uint8_t **cursor, const uint8_t *end, struct segment *out) {
    const uint8_t *p = *cursor;
    size_t room = (size_t)(end - p);
    if (room < 1 || p[0] >= SEGMENT_KINDS || room < HEADER_SIZE[p[0]])
        return DP_E_SEGMENT;
    struct segment s = {.kind = (enum segment_kind)p[0]};
    read_header(p, &s);
    size_t header = HEADER_SIZE[p[0]];
    if (s.kind == SEGMENT_PADDING)
        s.len = room - header;
    if (s.len > room - header || !well_formed(&s, room == header))
        return DP_E_SEGMENT;
    s.data = p + header;
    *cursor = p + header + s.len;
    *out = s;
    return DP_OK;
}

size_t segment_put_datagram(uint8_t *out, uint8_t channel, uint16_t type, uint16_t len) {
    out[0] = SEGMENT_DATAGRAM, out[1] = channel;
    store16(out + 2, type), store16(out + 4, len);
    return DATAGRAM_HEADER;
}

size_t segment_put_first(uint8_t *out, uint8_t channel, uint16_t type, uint32_t total,
                         uint16_t len) {
    out[0] = SEGMENT_FIRST, out[1] = channel;
    store16(out + 2, type), store32(out + 4, total), store16(out + 8, len);
    return FIRST_HEADER;
}

size_t segment_put_next(uint8_t *out, uint8_t channel, uint16_t len) {
    out[0] = SEGMENT_NEXT, out[1] = channel;
    store16(out + 2, len);
    return NEXT_HEADER;
}

size_t segment_put_credit(uint8_t *out, uint8_t channel, uint32_t window, uint64_t datagrams,
                          uint64_t bytes) {
    out[0] = SEGMENT_CREDIT, out[1] = channel;
    store32(out + 2, window), store64(out + 6, datagrams), store64(out + 14, bytes);
    return CREDIT_SIZE;
}

size_t segment_put_epoch(uint8_t *out, uint8_t channel, const uint8_t body[EPOCH_BODY]) {
    out[0] = SEGMENT_EPOCH, out[1] = channel;
    memcpy(out + 2, body, EPOCH_BODY);
    return EPOCH_SIZE;
}

size_t segment_put_blocked(uint8_t *out, uint8_t channel, uint64_t limit) {
    out[0] = SEGMENT_BLOCKED, out[1] = channel;
    store64(out + 2, limit);
    return BLOCKED_SIZE;
}

size_t segment_put_ping(uint8_t *out, enum segment_kind kind, uint64_t token) {
    out[0] = (uint8_t)kind;
    store64(out + 1, token);
    return PING_SIZE;
}

size_t segment_put_rekey(uint8_t *out) {
    out[0] = SEGMENT_REKEY;
    return REKEY_SIZE;
}

size_t segment_put_close(uint8_t *out, uint16_t reason) {
    out[0] = SEGMENT_CLOSE;
    store16(out + 1, reason);
    return CLOSE_SIZE;
}
