/* Bytes for the peer. What goes into a frame is decided when the frame is made, not before. */
#include <string.h>

#include "flow_window.h"
#include "node.h"

struct frame_writer {
    uint8_t *plain;
    size_t len, cap;
    bool ends;   /* nothing may follow in this frame */
    bool closed; /* its last byte is for a REKEY */
    struct tail tail;
};

static size_t room(const struct frame_writer *w) {
    return w->cap - w->len;
}

/* A control datagram, or a piece of one, is alone at the end of its frame: the peer handles it
 * before it looks at what follows. */
static void put_control(struct link *link, struct frame_writer *w) {
    struct flow *control = link->control;
    if (!control || !control->send.head)
        return;
    struct item *done = NULL;
    bool drained;
    w->len += flow_fill(control, w->plain + w->len, room(w), 1, &done, &drained, NULL);
    w->ends = true;
    items_release(link->node, done);
}

static void put_signals(struct link *link, struct frame_writer *w) {
    if (link->pong_due)
        w->len += segment_put_ping(w->plain + w->len, SEGMENT_PONG, link->pong_token);
    if (link->ping_due)
        w->len += segment_put_ping(w->plain + w->len, SEGMENT_PING, link->ciphers[0].cipher.n);
    link->pong_due = link->ping_due = false;
}

/* How much further the peer may be let go: up to the window beyond what is consumed. */
static uint64_t credit_wanted(const struct flow *flow) {
    uint64_t end = flow->receive.consumed.bytes + caps_window(flow);
    return end > flow->receive.limit ? end - flow->receive.limit : 0;
}

/* Now, or in the next frame when this one is full. */
static void put_blocked(struct flow *flow, struct frame_writer *w) {
    if (!window_is_short(flow))
        return;
    if (room(w) < BLOCKED_SIZE || w->tail.len) {
        link_mark_signal(flow);
        return;
    }
    flow->send.blocked_limit = flow->send.limit;
    w->len += segment_put_blocked(w->plain + w->len, flow->peer_number, flow->send.limit);
}

static void put_credit(struct link *link, struct frame_writer *w) {
    while (link->signals && room(w) >= CREDIT_SIZE + BLOCKED_SIZE) {
        struct flow *flow = link->signals;
        struct position at = flow->receive.consumed;
        link->signals = flow->next_signal;
        flow->signals = false;
        if (flow->credit_due) {
            flow->credit_due = false;
            window_settle(flow);
            window_grant(flow, caps_grant(flow, credit_wanted(flow)));
            w->len += segment_put_credit(w->plain + w->len, flow->number,
                                         (uint32_t)(flow->receive.limit - at.bytes), at.datagrams,
                                         at.bytes);
        }
        put_blocked(flow, w);
    }
}

static void count_sent(struct link *link, struct position before, struct position after) {
    uint64_t datagrams = after.datagrams - before.datagrams;
    link->datagrams_out += datagrams;
    link->node->stats.datagrams_out += datagrams;
    link->node->stats.payload_out += after.bytes - before.bytes - datagrams * DP_DATAGRAM_COST;
    link->node->stats.queued_bytes -= after.bytes - before.bytes;
}

static void note_wait(struct flow *flow, uint64_t ms) {
    if (ms > flow->send.waited_max_ms)
        flow->send.waited_max_ms = ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

/* One turn of a flow, of at most so many bytes; false when the frame is full. */
static bool put_turn(struct link *link, struct frame_writer *w, struct flow *flow, size_t most) {
    struct item *done = NULL;
    bool drained;
    struct position before = flow->send.sent;
    uint64_t queued_ms = flow->send.head->queued_ms;
    uint64_t cost = flow_cost_sent(flow);
    size_t deficit = (size_t)flow->deficit;
    size_t n =
        flow_fill(flow, w->plain + w->len, most < room(w) ? most : room(w),
                  most < deficit ? most : deficit, &done, &drained, w->closed ? NULL : &w->tail);
    w->len += n;
    count_sent(link, before, flow->send.sent);
    if (n)
        note_wait(flow, link->node->now_ms - queued_ms);
    sched_charge(&link->sched, flow, n);
    if (drained) {
        sched_remove(&link->sched, flow);
        put_blocked(flow, w);
    }
    if (flow->lift_count)
        sched_set_class(&link->sched, flow, flow_class(flow));
    caps_sent(flow, flow_cost_sent(flow) - cost);
    items_release(link->node, done);
    return (n > 0 || drained) && !w->tail.len;
}

static void put_datagrams(struct link *link, struct frame_writer *w) {
    struct flow *flow;
    bool more = true;
    while (more && (flow = sched_next(&link->sched)) != NULL) {
        if (!caps_link_may_send(link))
            return;
        if (caps_flow_may_send(flow))
            more = put_turn(link, w, flow, caps_turn(flow));
        else
            sched_remove(&link->sched, flow); /* until its group wakes it */
    }
}

/* Senders renew their key by bytes and by time, whichever comes first. */
static bool rekey_due(const struct link *link, uint64_t now_ms) {
    const struct frame_cipher *fc = &link->ciphers[0];
    const struct dp_node_config *config = &link->node->config;
    return fc->key_bytes >= config->rekey_bytes ||
           (fc->key_frames && now_ms - fc->key_since_ms >= config->rekey_ms);
}

static void fill_frame(struct link *link, struct frame_writer *w) {
    if (link->close_due) {
        w->len = segment_put_close(w->plain, link->close_reason);
        link->close_due = false;
        link->close_sent = true;
        return;
    }
    put_signals(link, w);
    put_control(link, w);
    if (w->ends || link->state != DP_LINK_OPEN)
        return;
    put_credit(link, w);
    put_datagrams(link, w);
}

static int put_frame(struct link *link, uint8_t *out, size_t max, size_t *len, uint64_t now_ms) {
    bool rekey = link->state == DP_LINK_OPEN && rekey_due(link, now_ms);
    struct frame_writer w = {
        .plain = out + FRAME_HEADER, .cap = rekey ? max - REKEY_SIZE : max, .closed = rekey};
    fill_frame(link, &w);
    rekey = rekey && !w.ends; /* else in the next frame, alone if need be */
    if (rekey)
        w.len += segment_put_rekey(w.plain + w.len);
    *len = 0;
    if (w.len == 0)
        return DP_OK;
    int rc = frame_seal(&link->ciphers[0], link->node->aead, out, w.len, w.tail.data, w.tail.len);
    if (rc == DP_OK && rekey)
        rc = frame_rekey(&link->ciphers[0], link->node->aead, now_ms);
    if (rc != DP_OK)
        return rc;
    *len = FRAME_OVERHEAD + w.len;
    link->node->stats.frames_out++;
    return DP_OK;
}

static size_t put_pending(struct link *link, uint8_t *out, size_t cap) {
    struct buffer *pending = link->pending;
    if (!pending)
        return 0;
    size_t rest = pending->len - pending->start, n = rest < cap ? rest : cap;
    memcpy(out, pending->data + pending->start, n);
    pending->start += n;
    if (pending->start == pending->len) {
        buffer_put(&link->node->pool, pending);
        link->pending = NULL;
    }
    return n;
}

static int put_frames(struct link *link, uint8_t *out, size_t cap, size_t frame_max, size_t *used,
                      uint64_t now_ms) {
    size_t step = 1;
    while (step && cap - *used >= FRAME_OVERHEAD + frame_max) {
        int rc = put_frame(link, out + *used, frame_max, &step, now_ms);
        if (rc != DP_OK)
            return rc;
        *used += step;
    }
    return DP_OK;
}

int link_produce(struct link *link, uint8_t *out, size_t cap, size_t frame_max, size_t *len,
                 uint64_t now_ms) {
    *len = 0;
    int rc = shake_begin(link);
    if (rc == DP_OK) {
        *len = put_pending(link, out, cap);
        if (!link->pending && link->ciphers)
            rc = put_frames(link, out, cap, frame_max, len, now_ms);
    }
    link->bytes_out += *len;
    link->node->stats.bytes_out += *len;
    if (rc != DP_OK)
        link_fail(link, rc);
    else if (link->close_sent)
        link_down(link, DP_OK, 0);
    return rc;
}
