/* Bytes from the peer: frames, segments, datagrams. */
#include <string.h>

#include "bytes.h"
#include "flow_window.h"
#include "node.h"

static void hold(struct link *link) {
    link->held = true;
    if (link->on_held)
        return;
    link->on_held = true;
    link->next_held = link->node->held;
    link->node->held = link;
}

/* --- the node's own channel --- */

static int control_done(struct link *link, uint16_t type, const uint8_t *data, size_t len,
                        uint64_t now_ms) {
    struct dp_event event = {.kind = DP_EVENT_CONTROL, .link = link->handle, .type = type};
    if (!node_event(link->node, &event, data, len))
        return DP_E_MEMORY;
    hold(link);
    link->heard = true;
    if (!link->established && link->state == DP_LINK_OPEN)
        link_established(link, now_ms);
    return DP_OK;
}

static int control_piece(struct link *link, const struct segment *s, uint64_t now_ms) {
    if (s->kind == SEGMENT_FIRST) {
        if (link->control_in || s->total > DP_CONTROL_MAX)
            return DP_E_DATAGRAM;
        link->control_in = buffer_get(&link->node->pool, s->total);
        if (!link->control_in)
            return DP_E_MEMORY;
        link->control_total = s->total;
        link->control_type = s->type;
    }
    struct buffer *in = link->control_in;
    if (!in || s->len > link->control_total - in->len)
        return DP_E_DATAGRAM;
    memcpy(in->data + in->len, s->data, s->len);
    in->len += s->len;
    if (in->len < link->control_total)
        return DP_OK;
    link->control_in = NULL;
    int rc = control_done(link, link->control_type, in->data, in->len, now_ms);
    buffer_put(&link->node->pool, in);
    return rc;
}

static int on_control(struct link *link, const struct segment *s, bool at_end, uint64_t now_ms) {
    if (!at_end)
        return DP_E_SEGMENT; /* what follows must wait until it is handled */
    if (s->kind != SEGMENT_DATAGRAM)
        return control_piece(link, s, now_ms);
    if (link->control_in)
        return DP_E_DATAGRAM;
    return control_done(link, s->type, s->data, s->len, now_ms);
}

/* --- applications' datagrams --- */

static int take_datagram(struct flow *flow, const struct segment *s) {
    struct builder_output out = {.pool = &flow->link->node->pool,
                                 .flow = table_short(flow->handle),
                                 .emit = sink_take,
                                 .context = flow->sink};
    struct builder *b = &flow->receive.builder;
    int rc;
    if (s->kind == SEGMENT_NEXT) {
        if (!b->total || s->len > b->total - b->have)
            return DP_E_DATAGRAM;
        builder_append(b, s->data, s->len);
        return DP_OK;
    }
    rc = flow_accept(flow, s->total, s->type);
    if (rc != DP_OK)
        return rc;
    caps_received(flow, (uint64_t)s->total + DP_DATAGRAM_COST);
    flow->link->node->stats.unread_bytes += (uint64_t)s->total + DP_DATAGRAM_COST;
    return s->kind == SEGMENT_DATAGRAM ? builder_add(b, &out, s->type, s->data, s->len)
                                       : builder_begin(b, &out, s->type, s->total, s->data, s->len);
}

static int on_datagram(struct link *link, const struct segment *s) {
    struct flow *flow = link_flow(link, s->channel);
    if (link_buried(link, s->channel))
        return DP_OK;
    if (!flow)
        return DP_E_CHANNEL;
    int rc = take_datagram(flow, s);
    if (rc != DP_OK)
        return rc;
    if (!flow->receive.builder.total) {
        link->datagrams_in++;
        link->node->stats.datagrams_in++;
    }
    link->node->stats.payload_in += s->len;
    sink_mark(flow);
    return DP_OK;
}

static int on_epoch(struct link *link, const struct segment *s) {
    struct flow *flow = link_flow(link, s->channel);
    if (link_buried(link, s->channel))
        return DP_OK;
    if (!flow)
        return DP_E_CHANNEL;
    int rc = flow_epoch(flow);
    return rc == DP_OK ? sink_push_epoch(flow, s->data - EPOCH_BODY) : rc;
}

static int on_blocked(struct link *link, const struct segment *s) {
    struct flow *flow = link_flow(link, s->channel);
    if (link_buried(link, s->channel))
        return DP_OK;
    return flow ? window_blocked(flow, s->bytes) : DP_E_CHANNEL;
}

static int on_credit(struct link *link, const struct segment *s) {
    struct flow *flow = link_flow_by_peer(link, s->channel);
    if (!flow)
        return DP_OK; /* for a flow that this side has closed */
    int rc = window_credit(flow, s);
    if (rc != DP_OK)
        return rc;
    if (!window_is_news(flow))
        return DP_OK;
    flow->confirmed_news = true;
    sink_mark(flow);
    return DP_OK;
}

/* --- segments and frames --- */

static int on_segment(struct link *link, const struct segment *s, bool at_end, uint64_t now_ms) {
    switch (s->kind) {
    case SEGMENT_DATAGRAM:
    case SEGMENT_FIRST:
    case SEGMENT_NEXT:
        if (s->channel == DP_CONTROL_CHANNEL)
            return on_control(link, s, at_end, now_ms);
        return on_datagram(link, s);
    case SEGMENT_CREDIT:
        return on_credit(link, s);
    case SEGMENT_EPOCH:
        return on_epoch(link, s);
    case SEGMENT_BLOCKED:
        return on_blocked(link, s);
    case SEGMENT_PING:
        link->pong_due = true;
        link->pong_token = s->bytes;
        link_mark(link);
        return DP_OK;
    case SEGMENT_REKEY:
        link->node->stats.rekeys++;
        return frame_rekey(&link->ciphers[1], link->node->aead, now_ms);
    case SEGMENT_CLOSE:
        link_down(link, DP_E_CLOSED, s->type);
        return DP_E_CLOSED;
    default: /* padding; a pong has done its work by arriving */
        return DP_OK;
    }
}

static bool is_piece(const struct segment *s) {
    return s->kind == SEGMENT_FIRST || s->kind == SEGMENT_NEXT;
}

static int on_frame(struct link *link, const uint8_t *plain, size_t len, uint64_t now_ms) {
    const uint8_t *cursor = plain, *end = plain + len;
    link->streaming = 0;
    while (cursor < end) {
        struct segment s;
        bool at_start = cursor == plain;
        int rc = segment_next(&cursor, end, &s);
        if (rc == DP_OK)
            rc = on_segment(link, &s, cursor == end, now_ms);
        if (rc != DP_OK)
            return rc;
        if (at_start && cursor == end && is_piece(&s) && s.channel != DP_CONTROL_CHANNEL)
            link->streaming = (uint16_t)(1 + s.channel);
    }
    return DP_OK;
}

/* --- pieces of large datagrams, opened where they belong --- */

/* The latest frame was one piece of a large datagram, and the next one is likely to be too. It is
 * opened so that its payload comes to stand where the builder wants it, and its header over the bytes
 * before, which are put back. */
struct landing {
    uint8_t *payload; /* NULL: nothing is expected */
    size_t header;
    struct builder *builder;
    uint8_t before[FIRST_HEADER];
};

static struct landing land(struct link *link, size_t plain_len) {
    struct landing l = {0};
    uint8_t number = (uint8_t)(link->streaming - 1);
    struct flow *flow = link->streaming ? link_flow(link, number) : NULL;
    if (!flow || link_buried(link, number))
        return l;
    l.builder = &flow->receive.builder;
    l.header = l.builder->total ? NEXT_HEADER : FIRST_HEADER;
    if (plain_len > l.header)
        l.payload = builder_place(l.builder, &link->node->pool, plain_len - l.header);
    if (l.payload)
        memcpy(l.before, l.payload - l.header, l.header);
    return l;
}

/* Whether what was opened is the one piece that was expected. */
static bool landed(const struct link *link, const struct landing *l, size_t plain_len,
                   struct segment *s) {
    const uint8_t *cursor = l->payload - l->header, *end = cursor + plain_len;
    return segment_next(&cursor, end, s) == DP_OK && cursor == end && s->data == l->payload &&
           is_piece(s) && s->channel + 1 == link->streaming &&
           (s->kind == SEGMENT_NEXT || s->total == l->builder->large);
}

static int open_to(struct link *link, uint8_t *out, const uint8_t *wire, size_t wire_len,
                   size_t *len) {
    int rc = frame_open(&link->ciphers[1], link->node->aead, out, wire, wire_len, len);
    link->node->stats.frames_in += rc == DP_OK;
    return rc;
}

static int open_landing(struct link *link, struct landing *l, uint8_t *wire, size_t wire_len,
                        uint64_t now_ms) {
    struct segment s;
    size_t len;
    uint8_t *at = l->payload - l->header;
    int rc = open_to(link, at, wire, wire_len, &len);
    bool expected = rc == DP_OK && landed(link, l, len, &s);
    if (rc == DP_OK && !expected)
        memcpy(wire + FRAME_HEADER, at, len);
    memcpy(at, l->before, l->header);
    if (expected)
        return on_segment(link, &s, true, now_ms);
    builder_unplace(l->builder, &link->node->pool);
    return rc == DP_OK ? on_frame(link, wire + FRAME_HEADER, len, now_ms) : rc;
}

static int open_frame(struct link *link, uint8_t *wire, size_t wire_len, uint64_t now_ms) {
    struct landing l = land(link, wire_len - FRAME_OVERHEAD);
    if (l.payload)
        return open_landing(link, &l, wire, wire_len, now_ms);
    uint8_t *plain = wire + FRAME_HEADER;
    size_t len;
    int rc = open_to(link, plain, wire, wire_len, &len);
    return rc == DP_OK ? on_frame(link, plain, len, now_ms) : rc;
}

/* One frame, when it is there whole; *used stays 0 when it is not. */
static int take_frame(struct link *link, uint8_t *data, size_t len, size_t *used, uint64_t now_ms) {
    size_t wire_len;
    *used = 0;
    if (len < FRAME_HEADER)
        return DP_OK;
    int rc = frame_peek(&link->ciphers[1], data, &wire_len);
    if (rc != DP_OK || len < wire_len)
        return rc;
    *used = wire_len;
    return open_frame(link, data, wire_len, now_ms);
}

size_t link_frame_size(const struct link *link, const uint8_t *data, size_t len) {
    size_t wire_len;
    bool known = !link->shake && link->ciphers && len >= FRAME_HEADER;
    return known && frame_peek(&link->ciphers[1], data, &wire_len) == DP_OK ? wire_len : 0;
}

bool link_may_read(const struct link *link) {
    switch (link->state) {
    case DP_LINK_HANDSHAKE:
        return !shake_rests(link);
    case DP_LINK_READY:
        return !link->heard;
    case DP_LINK_OPEN:
        return !link->held;
    default:
        return false;
    }
}

int link_receive(struct link *link, uint8_t *data, size_t len, size_t *used, uint64_t now_ms) {
    size_t at = 0, step = 1;
    int rc = DP_OK;
    while (rc == DP_OK && step && at < len && link_may_read(link)) {
        rc = link->shake ? shake_receive(link, data + at, len - at, &step, now_ms)
                         : take_frame(link, data + at, len - at, &step, now_ms);
        at += step;
    }
    *used = at;
    if (at)
        link->last_in_ms = now_ms;
    link->bytes_in += at;
    link->node->stats.bytes_in += at;
    if (rc != DP_OK)
        link_fail(link, rc);
    return rc;
}
