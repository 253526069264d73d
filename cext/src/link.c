#include "link.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "flow_window.h"
#include "node.h"

enum { INDEX_FROM = 8 }; /* ours: flows on a link before an index pays */

/* What a peer is told when it broke a rule (docs/spec/wire.md, "Close reasons"). */
enum close_reason { CLOSE_SILENT = 0, CLOSE_PROTOCOL = 6, CLOSE_CREDIT = 7, CLOSE_TIMEOUT = 9 };

static const struct {
    int status;
    enum close_reason reason;
} CLOSE_REASONS[] = {
    {DP_E_SEGMENT, CLOSE_PROTOCOL},  {DP_E_CHANNEL, CLOSE_PROTOCOL}, {DP_E_CREDIT, CLOSE_CREDIT},
    {DP_E_DATAGRAM, CLOSE_PROTOCOL}, {DP_E_REKEY, CLOSE_PROTOCOL},   {DP_E_TIMEOUT, CLOSE_TIMEOUT},
};

static enum close_reason reason_for(int status) {
    for (size_t i = 0; i < sizeof CLOSE_REASONS / sizeof *CLOSE_REASONS; i++)
        if (CLOSE_REASONS[i].status == status)
            return CLOSE_REASONS[i].reason;
    return CLOSE_SILENT;
}

/* --- timers: each list has one delay, so appending keeps it in order --- */

void link_timer_clear(struct link *link) {
    if (link->timer == LINK_TIMER_NONE)
        return;
    struct link_list *list = &link->node->timers[link->timer];
    *(link->timer_prev ? &link->timer_prev->timer_next : &list->head) = link->timer_next;
    *(link->timer_next ? &link->timer_next->timer_prev : &list->tail) = link->timer_prev;
    link->timer_prev = link->timer_next = NULL;
    list->count--;
    link->timer = LINK_TIMER_NONE;
}

void link_timer_set(struct link *link, enum link_timer timer, uint64_t due_ms) {
    link_timer_clear(link);
    struct link_list *list = &link->node->timers[timer];
    link->timer = timer;
    link->due_ms = due_ms;
    link->timer_prev = list->tail;
    link->timer_next = NULL;
    *(list->tail ? &list->tail->timer_next : &list->head) = link;
    list->tail = link;
    list->count++;
}

/* --- life --- */

int link_new(struct dp_node *node, struct link **out, bool initiator, const struct dp_known *known,
             const struct dp_address *remote, uint64_t dial, uint64_t now_ms) {
    struct link *link = calloc(1, sizeof *link);
    if (!link)
        return DP_E_MEMORY;
    link->node = node;
    link->initiator = initiator;
    link->dial = dial;
    link->timer = LINK_TIMER_NONE;
    link->last_in_ms = now_ms;
    if (remote)
        link->remote = *remote;
    caps_init_link(link);
    int rc = table_add(&node->links, link, &link->handle);
    if (rc == DP_OK)
        rc = shake_start(link, known);
    if (rc != DP_OK) {
        table_remove(&node->links, link->handle);
        shake_free(link);
        free(link);
        return rc;
    }
    link_timer_set(link, LINK_TIMER_HANDSHAKE, now_ms + node->config.handshake_ms);
    node->pending_inbound += !initiator;
    *out = link;
    return DP_OK;
}

void link_mark(struct link *link) {
    if (link->dirty)
        return;
    link->dirty = true;
    link->next_dirty = NULL;
    *(link->node->dirty_tail ? &link->node->dirty_tail->next_dirty : &link->node->dirty) = link;
    link->node->dirty_tail = link;
}

static void no_longer_pending(struct link *link) {
    if (!link->established && !link->initiator && link->state < DP_LINK_CLOSING)
        link->node->pending_inbound--;
}

void link_established(struct link *link, uint64_t now_ms) {
    no_longer_pending(link);
    link->established = true;
    link->node->stats.handshakes_done++;
    link_timer_set(link, LINK_TIMER_KEEPALIVE, now_ms + link->node->config.keepalive_ms);
}

/* --- flows of a link --- */

struct flow *link_flow(const struct link *link, uint8_t number) {
    if (link->index)
        return link->index[number];
    struct flow *flow = link->flows;
    while (flow && flow->number != number)
        flow = flow->next;
    return flow;
}

struct flow *link_flow_by_peer(const struct link *link, uint8_t number) {
    if (link->index)
        return link->index[LINK_CHANNELS + number];
    struct flow *flow = link->flows;
    while (flow && flow->peer_number != number)
        flow = flow->next;
    return flow;
}

void link_mark_signal(struct flow *flow) {
    if (flow->signals)
        return;
    flow->signals = true;
    flow->next_signal = flow->link->signals;
    flow->link->signals = flow;
    link_mark(flow->link);
}

void link_mark_credit(struct flow *flow) {
    flow->credit_due = true;
    link_mark_signal(flow);
}

static void forget_signals(struct flow *flow) {
    if (!flow->signals)
        return;
    struct flow **at = &flow->link->signals;
    while (*at != flow)
        at = &(*at)->next_signal;
    *at = flow->next_signal;
}

/* Take out of the node's sums what goes with a flow. */
static void forget_sums(struct flow *flow) {
    struct dp_stats *stats = &flow->link->node->stats;
    stats->unread_bytes -= flow->receive.received.bytes - flow->receive.consumed.bytes;
    stats->queued_bytes -= flow->send.accepted.bytes - flow->send.sent.bytes;
    window_end(flow);
}

static void free_flow(struct flow *flow) {
    struct dp_node *node = flow->link->node;
    sched_remove(&flow->link->sched, flow);
    meter_leave(&flow->up);
    meter_leave(&flow->down);
    forget_signals(flow);
    if (flow->sink) {
        sink_forget_flow(flow);
        forget_sums(flow);
    }
    items_release(node, flow->send.head);
    builder_clear(&flow->receive.builder, &node->pool);
    table_remove(&node->flows, flow->handle);
    free(flow);
}

void link_drop_flow(struct flow *flow) {
    struct link *link = flow->link;
    struct flow **at = &link->flows;
    while (*at != flow)
        at = &(*at)->next;
    *at = flow->next;
    if (link->index)
        link->index[flow->number] = link->index[LINK_CHANNELS + flow->peer_number] = NULL;
    link->flow_count--;
    if (flow->sink)
        (void)sink_collect_flow(flow); /* what arrived whole was received */
    free_flow(flow);
}

static void index_flow(struct link *link, struct flow *flow) {
    link->index[flow->number] = flow;
    link->index[LINK_CHANNELS + flow->peer_number] = flow;
}

static int index_flows(struct link *link) {
    link->index = calloc(2 * LINK_CHANNELS, sizeof *link->index);
    if (!link->index)
        return DP_E_MEMORY;
    for (struct flow *flow = link->flows; flow; flow = flow->next)
        index_flow(link, flow);
    return DP_OK;
}

static void init_flow(struct flow *flow, const struct dp_flow_config *c) {
    flow->number = c->number;
    flow->peer_number = c->peer_number;
    flow->priority = flow->own_priority = c->priority;
    flow->weight = c->weight;
    flow->max_datagram = c->max_datagram;
    flow->types = c->types;
    flow->receive.free = c->window;
    flow->lift_count = c->lift_count;
    memcpy(flow->lifts, c->lifts, sizeof flow->lifts);
    window_begin(flow, c->window, c->peer_window);
}

static bool lifts_fit(const struct dp_flow_config *c) {
    for (uint8_t i = 0; i < c->lift_count && i < DP_LIFTS_MAX; i++)
        if (c->lifts[i].first > c->lifts[i].last || c->lifts[i].priority >= c->priority)
            return false;
    return c->lift_count <= DP_LIFTS_MAX;
}

static bool fits(const struct dp_flow_config *c) {
    return c->number < DP_CHANNEL_COUNT && c->peer_number < DP_CHANNEL_COUNT &&
           c->priority < DP_CLASS_COUNT && c->weight > 0 && c->max_datagram <= DP_DATAGRAM_MAX &&
           c->types > 0 && c->types <= 65536 && lifts_fit(c);
}

int dp_flow_open(dp_node *node, uint64_t handle, const struct dp_flow_config *c, uint32_t *out) {
    struct link *link = table_get(&node->links, handle);
    struct sink *sink = table_get_short(&node->sinks, c->sink);
    if (!link || !sink || !fits(c))
        return DP_E_ARGUMENT;
    if (link->state != DP_LINK_OPEN || link_buried(link, c->number) || link_flow(link, c->number) ||
        link_flow_by_peer(link, c->peer_number))
        return DP_E_STATE;
    if (link->flow_count == INDEX_FROM && !link->index && index_flows(link) != DP_OK)
        return DP_E_MEMORY;
    struct flow *flow = calloc(1, sizeof *flow);
    int rc = flow ? table_add(&node->flows, flow, &flow->handle) : DP_E_MEMORY;
    if (rc != DP_OK) {
        free(flow);
        return rc;
    }
    flow->link = link;
    flow->sink = sink;
    flow->group = &node->groups[c->group];
    init_flow(flow, c);
    flow->next = link->flows;
    link->flows = flow;
    link->flow_count++;
    if (link->index)
        index_flow(link, flow);
    *out = table_short(flow->handle);
    return DP_OK;
}

bool link_buried(const struct link *link, uint8_t number) {
    return link->tombstones && (link->tombstones->channels[number / 64] >> number % 64 & 1);
}

static int bury_later(struct link *link, uint8_t number) {
    if (!link->tombstones && !(link->tombstones = calloc(1, sizeof *link->tombstones)))
        return DP_E_MEMORY;
    link->tombstones->channels[number / 64] |= UINT64_C(1) << number % 64;
    return DP_OK;
}

int dp_flow_close(dp_node *node, uint32_t handle, bool tombstone) {
    struct flow *flow = table_get_short(&node->flows, handle);
    if (!flow)
        return DP_E_ARGUMENT;
    int rc = tombstone ? bury_later(flow->link, flow->number) : DP_OK;
    link_drop_flow(flow);
    return rc;
}

int dp_flow_tombstone(dp_node *node, uint64_t handle, uint8_t number) {
    struct link *link = table_get(&node->links, handle);
    if (!link || number >= DP_CHANNEL_COUNT)
        return DP_E_ARGUMENT;
    return link->state == DP_LINK_OPEN ? bury_later(link, number) : DP_E_STATE;
}

int dp_flow_bury(dp_node *node, uint64_t handle, uint8_t number) {
    struct link *link = table_get(&node->links, handle);
    if (!link || number >= DP_CHANNEL_COUNT)
        return DP_E_ARGUMENT;
    if (link->tombstones)
        link->tombstones->channels[number / 64] &= ~(UINT64_C(1) << number % 64);
    return DP_OK;
}

/* --- death --- */

static void release_all(struct link *link) {
    while (link->flows)
        link_drop_flow(link->flows);
    if (link->control) {
        free_flow(link->control);
        link->control = NULL;
    }
    buffer_put(&link->node->pool, link->control_in);
    link->control_in = NULL;
    link->signals = NULL;
    caps_end_link(link);
    link->ping_due = link->pong_due = false;
}

static void bury(struct link *link) {
    link->state = DP_LINK_DEAD;
    link_timer_clear(link);
    buffer_put(&link->node->pool, link->pending); /* a dead one has nothing to say */
    link->pending = NULL;
    if (link->reaped)
        return;
    link->reaped = true;
    link->next_reap = link->node->reap;
    link->node->reap = link;
}

void link_down(struct link *link, int status, uint16_t reason) {
    if (link->state >= DP_LINK_CLOSING) {
        bury(link);
        return;
    }
    struct dp_node *node = link->node;
    no_longer_pending(link);
    if (!link->established)
        node->stats.handshakes_failed++;
    struct dp_event event = {.kind = DP_EVENT_DOWN,
                             .status = status,
                             .link = link->handle,
                             .dial = link->dial,
                             .reason = reason,
                             .unsent = link->bytes_out == 0};
    const uint8_t *answered = status == DP_E_IDENTITY ? shake_answered(link) : NULL;
    (void)node_event(node, &event, answered, DP_KEY_LEN); /* if lost, events_lost tells */
    bool peer_is_there = status != DP_E_CLOSED && status != DP_E_IO && status != DP_E_EOF;
    bool say = reason != CLOSE_SILENT && peer_is_there && link->ciphers;
    link->state = DP_LINK_CLOSING;
    release_all(link);
    shake_free(link);
    link_forget_secret(link);
    if (!say) {
        bury(link);
        return;
    }
    link->close_due = true;
    link->close_reason = reason;
    link_timer_set(link, LINK_TIMER_CLOSING, node->now_ms + CLOSING_MS);
    link_mark(link);
}

void link_fail(struct link *link, int status) {
    link_down(link, status, reason_for(status));
}

static void unlink_dirty(struct link *link) {
    struct link *before = NULL, *at = link->node->dirty;
    while (at && at != link) {
        before = at;
        at = at->next_dirty;
    }
    if (!at)
        return;
    *(before ? &before->next_dirty : &link->node->dirty) = link->next_dirty;
    if (link->node->dirty_tail == link)
        link->node->dirty_tail = before;
}

static void unlink_held(struct link *link) {
    struct link **at = &link->node->held;
    while (*at && *at != link)
        at = &(*at)->next_held;
    if (*at)
        *at = link->next_held;
}

void link_free(struct link *link) {
    release_all(link);
    shake_free(link);
    link_timer_clear(link);
    if (link->dirty)
        unlink_dirty(link);
    if (link->on_held)
        unlink_held(link);
    if (link->ciphers) {
        sodium_memzero(link->ciphers, 2 * sizeof *link->ciphers);
        free(link->ciphers);
    }
    buffer_put(&link->node->pool, link->pending);
    free(link->index);
    free(link->tombstones);
    table_remove(&link->node->links, link->handle);
    sodium_memzero(link, sizeof *link);
    free(link);
}
