/* Messages from applications: records checked, then queued (docs/spec/app-api.md, "Data"). */
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "node.h"

enum { REFUSALS_MAX = 16, POSITION_SIZE = 32 }; /* refusals told per message; ours */

struct record {
    uint32_t size;
    uint16_t kind;
    uint32_t flow;
    const uint8_t *data; /* the whole record */
};

static int record_next(const uint8_t *at, size_t len, struct record *out) {
    if (len < RECORD_HEADER)
        return DP_E_BATCH;
    struct record r = {load32(at), load16(at + 4), load32(at + 8), at};
    if (r.size < RECORD_HEADER || r.size % 4 || r.size > len || load16(at + 6))
        return DP_E_BATCH;
    *out = r;
    return DP_OK;
}

/* --- DATA --- */

struct columns {
    const uint8_t *payload, *lengths, *types;
    uint32_t count, payload_len;
};

static int columns_of(const struct record *r, struct columns *out) {
    if (r->size < DATA_RECORD_HEADER)
        return DP_E_BATCH;
    uint64_t count = load32(r->data + 12), payload = load32(r->data + 16);
    uint64_t at = DATA_RECORD_HEADER + payload + (-payload & 3);
    if (count == 0 || at + 6 * count + 2 * (count & 1) != r->size)
        return DP_E_BATCH;
    *out = (struct columns){r->data + DATA_RECORD_HEADER, r->data + at, r->data + at + 4 * count,
                            (uint32_t)count, (uint32_t)payload};
    return DP_OK;
}

static int check_columns(const struct flow *flow, const struct columns *c) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        uint32_t len = load32(c->lengths + 4 * (size_t)i);
        if (len > flow->max_datagram || load16(c->types + 2 * (size_t)i) >= flow->types)
            return DP_E_DATAGRAM;
        sum += len;
    }
    if (sum != c->payload_len)
        return DP_E_BATCH;
    uint64_t cost = sum + (uint64_t)c->count * DP_DATAGRAM_COST;
    return flow->send.accepted.bytes + cost <= flow->send.limit ? DP_OK : DP_E_CREDIT;
}

/* Note what of a record is more urgent than its protocol. */
static void note_lifts(struct flow *flow, const struct columns *c) {
    uint64_t before = flow->send.accepted.datagrams;
    for (uint32_t i = 0; i < c->count; i++) {
        uint16_t type = load16(c->types + 2 * (size_t)i);
        for (const struct dp_lift *l = flow->lifts; l < flow->lifts + flow->lift_count; l++)
            if (type >= l->first && type <= l->last)
                flow->lifted[l->priority] = before + i + 1;
    }
    sched_set_class(&flow->link->sched, flow, flow_class(flow));
}

static void queue(struct flow *flow, struct blob *blob, struct item *item, struct position cost) {
    struct dp_node *node = flow->link->node;
    item->queued_ms = node->now_ms;
    blob->items++;
    node->stats.queued_bytes += cost.bytes;
    flow_queue(flow, item, cost);
    sched_add(&flow->link->sched, flow);
    link_mark(flow->link);
}

static int queue_data(struct flow *flow, struct blob *blob, const struct record *r) {
    struct columns c;
    int rc = columns_of(r, &c);
    if (rc == DP_OK)
        rc = check_columns(flow, &c);
    if (rc != DP_OK)
        return rc;
    struct item *item = malloc(sizeof *item);
    if (!item)
        return DP_E_MEMORY;
    *item = (struct item){.blob = blob,
                          .payload = c.payload,
                          .lengths = c.lengths,
                          .types = c.types,
                          .count = c.count};
    struct position cost = {c.count, c.payload_len + (uint64_t)c.count * DP_DATAGRAM_COST};
    if (flow->lift_count)
        note_lifts(flow, &c);
    queue(flow, blob, item, cost);
    return DP_OK;
}

/* --- EPOCH --- */

static int queue_epoch(struct flow *flow, struct blob *blob, const struct record *r) {
    if (r->size != EPOCH_RECORD_SIZE || load32(r->data + 12))
        return DP_E_BATCH;
    if (flow->send.epoch || flow->send.accepted.datagrams)
        return DP_E_STATE;
    struct item *item = malloc(sizeof *item);
    if (!item)
        return DP_E_MEMORY;
    *item = (struct item){.blob = blob, .payload = r->data + 16};
    flow->send.epoch = true;
    queue(flow, blob, item, (struct position){0, 0});
    return DP_OK;
}

/* --- CONSUMED --- */

static int take_consumed(struct flow *flow, const struct record *r) {
    if (r->size != POSITION_SIZE)
        return DP_E_BATCH;
    struct position at = {load64(r->data + 16), load64(r->data + 24)};
    uint64_t before = flow->receive.consumed.bytes;
    int rc = flow_consume(flow, at);
    if (rc != DP_OK)
        return rc;
    flow->link->node->stats.unread_bytes -= at.bytes - before;
    link_mark_credit(flow);
    return DP_OK;
}

/* --- messages --- */

static int take_record(struct sink *sink, struct blob *blob, const struct record *r) {
    struct flow *flow = table_get_short(&sink->node->flows, r->flow);
    if (!flow || flow->sink != sink)
        return DP_E_CHANNEL;
    switch (r->kind) {
    case RECORD_DATA:
        return queue_data(flow, blob, r);
    case RECORD_CONSUMED:
        return take_consumed(flow, r);
    case RECORD_EPOCH:
        return queue_epoch(flow, blob, r);
    default:
        return DP_E_BATCH;
    }
}

static void tell_refusal(struct sink *sink, uint32_t flow, int status) {
    struct dp_event event = {.kind = DP_EVENT_REFUSED,
                             .status = status,
                             .sink = table_short(sink->handle),
                             .flow = flow};
    (void)node_event(sink->node, &event, NULL, 0); /* memory short: counted there */
}

static void take_records(struct sink *sink, struct blob *blob, size_t len) {
    int refusals = 0;
    for (size_t at = 0; at < len;) {
        struct record r = {0};
        int rc = record_next(blob->data + at, len - at, &r);
        if (rc != DP_OK) {
            sink->node->stats.records_refused++;
            tell_refusal(sink, 0, rc);
            return; /* where the next record begins is lost */
        }
        rc = take_record(sink, blob, &r);
        if (rc != DP_OK) {
            sink->node->stats.records_refused++;
            if (refusals++ < REFUSALS_MAX)
                tell_refusal(sink, r.flow, rc);
        }
        at += r.size;
    }
}

int dp_sink_ingest(dp_node *node, uint32_t handle, uint64_t token, const uint8_t *data, size_t len,
                   bool *kept) {
    struct sink *sink = table_get_short(&node->sinks, handle);
    if (!sink)
        return DP_E_ARGUMENT;
    struct blob *blob = malloc(sizeof *blob);
    if (!blob)
        return DP_E_MEMORY;
    *blob = (struct blob){.data = data, .token = token, .items = 1};
    take_records(sink, blob, len);
    *kept = blob->items > 1;
    if (*kept)
        blob->items--;
    else
        free(blob);
    return DP_OK;
}

void blob_release(struct dp_node *node, struct blob *blob) {
    if (--blob->items)
        return;
    if (blob->owned) {
        free(blob);
        return;
    }
    blob->next_released = node->released;
    node->released = blob;
}

void items_release(struct dp_node *node, struct item *item) {
    while (item) {
        struct item *next = item->next;
        blob_release(node, item->blob);
        free(item);
        item = next;
    }
}

size_t dp_node_released(dp_node *node, uint64_t *tokens, size_t cap) {
    size_t n = 0;
    while (node->released && n < cap) {
        struct blob *blob = node->released;
        node->released = blob->next_released;
        tokens[n++] = blob->token;
        free(blob);
    }
    return n;
}

int node_queue_copy(struct flow *flow, uint16_t type, const uint8_t *data, size_t len) {
    struct blob *blob = malloc(sizeof *blob + len + 6);
    struct item *item = malloc(sizeof *item);
    if (!blob || !item) {
        free(blob);
        free(item);
        return DP_E_MEMORY;
    }
    uint8_t *copy = (uint8_t *)(blob + 1);
    *blob = (struct blob){.data = copy, .items = 1, .owned = true};
    if (len)
        memcpy(copy, data, len);
    store32(copy + len, (uint32_t)len);
    store16(copy + len + 4, type);
    *item = (struct item){
        .blob = blob, .payload = copy, .lengths = copy + len, .types = copy + len + 4, .count = 1};
    flow_queue(flow, item, (struct position){1, len + DP_DATAGRAM_COST});
    return DP_OK;
}
