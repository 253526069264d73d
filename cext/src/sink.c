#include "sink.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "flow_window.h"
#include "node.h"

enum {
    SHARE_MAX = 16384, /* ours: a larger record is a message of its own */
    LENT = 1,          /* `start` of a message that dp_node_output has given out */
    POSITION_SIZE = 32 /* bytes of a CREDIT or CONSUMED record */
};

static void mark_busy(struct sink *sink) {
    if (sink->busy)
        return;
    sink->busy = true;
    sink->next_busy = NULL;
    if (sink->node->busy_tail)
        sink->node->busy_tail->next_busy = sink;
    else
        sink->node->busy = sink;
    sink->node->busy_tail = sink;
}

/* Copy a small record behind the last message when it has room. */
static bool share(struct sink *sink, const uint8_t *record, size_t len) {
    struct buffer *last = sink->tail;
    if (!last || last->start == LENT || len > SHARE_MAX || last->cap - last->len < len)
        return false;
    memcpy(last->data + last->len, record, len);
    last->len += len;
    return true;
}

int sink_take(void *context, struct buffer *record) {
    struct sink *sink = context;
    if (share(sink, record->data, record->len)) {
        buffer_put(&sink->node->pool, record);
        return DP_OK;
    }
    record->next = NULL;
    if (sink->tail)
        sink->tail->next = record;
    else
        sink->head = record;
    sink->tail = record;
    mark_busy(sink);
    return DP_OK;
}

static int push(struct sink *sink, const uint8_t *record, size_t len) {
    if (share(sink, record, len))
        return DP_OK;
    struct buffer *buffer = buffer_get(&sink->node->pool, len);
    if (!buffer)
        return DP_E_MEMORY;
    memcpy(buffer->data, record, len);
    buffer->len = len;
    return sink_take(sink, buffer);
}

void sink_mark(struct flow *flow) {
    if (flow->dirty)
        return;
    flow->dirty = true;
    flow->next_dirty = flow->sink->dirty;
    flow->sink->dirty = flow;
}

static int push_credit(struct flow *flow) {
    uint8_t record[POSITION_SIZE];
    store32(record, POSITION_SIZE);
    store16(record + 4, RECORD_CREDIT);
    store16(record + 6, 0);
    store32(record + 8, table_short(flow->handle));
    store32(record + 12, flow->send.peer_window);
    store64(record + 16, flow->send.confirmed.datagrams);
    store64(record + 24, flow->send.confirmed.bytes);
    int rc = push(flow->sink, record, sizeof record);
    if (rc == DP_OK)
        window_told(flow);
    return rc;
}

int sink_push_epoch(struct flow *flow, const uint8_t body[EPOCH_BODY]) {
    uint8_t record[EPOCH_RECORD_SIZE];
    store32(record, EPOCH_RECORD_SIZE);
    store16(record + 4, RECORD_EPOCH);
    store16(record + 6, 0);
    store32(record + 8, table_short(flow->handle));
    store32(record + 12, 0);
    memcpy(record + 16, body, EPOCH_BODY);
    return push(flow->sink, record, sizeof record);
}

int sink_collect_flow(struct flow *flow) {
    struct builder_output out = {.pool = &flow->sink->node->pool,
                                 .flow = table_short(flow->handle),
                                 .emit = sink_take,
                                 .context = flow->sink};
    int rc = builder_finish(&flow->receive.builder, &out);
    if (rc == DP_OK && flow->confirmed_news)
        rc = push_credit(flow);
    if (rc == DP_OK)
        flow->confirmed_news = false;
    return rc;
}

void sink_forget_flow(struct flow *flow) {
    if (!flow->dirty)
        return;
    struct flow **at = &flow->sink->dirty;
    while (*at != flow)
        at = &(*at)->next_dirty;
    *at = flow->next_dirty;
    flow->dirty = false;
}

void sink_clear(struct sink *sink) {
    while (sink->head) {
        struct buffer *next = sink->head->next;
        buffer_put(&sink->node->pool, sink->head);
        sink->head = next;
    }
    sink->tail = NULL;
}

int dp_sink_push(dp_node *node, uint32_t handle, const uint8_t *record, size_t len) {
    struct sink *sink = table_get_short(&node->sinks, handle);
    return sink ? push(sink, record, len) : DP_E_ARGUMENT;
}

/* All flows of one sink; those that fail stay marked for the next time. */
static int collect(struct sink *sink) {
    while (sink->dirty) {
        struct flow *flow = sink->dirty;
        int rc = sink_collect_flow(flow);
        if (rc != DP_OK)
            return rc;
        sink->dirty = flow->next_dirty;
        flow->dirty = false;
    }
    return DP_OK;
}

int dp_node_collect(dp_node *node) {
    for (uint32_t i = 0; i < node->sinks.used; i++) {
        struct sink *sink = node->sinks.slots[i].object;
        int rc = sink && sink->dirty ? collect(sink) : DP_OK;
        if (rc != DP_OK)
            return rc;
    }
    return DP_OK;
}

bool dp_node_output(dp_node *node, struct dp_output *out) {
    struct sink *sink = node->busy;
    if (!sink)
        return false;
    sink->head->start = LENT;
    *out = (struct dp_output){table_short(sink->handle), sink->head->data, sink->head->len};
    return true;
}

static void unlink_busy(dp_node *node) {
    struct sink *sink = node->busy;
    node->busy = sink->next_busy;
    if (!node->busy)
        node->busy_tail = NULL;
    sink->busy = false;
}

void dp_node_output_done(dp_node *node) {
    struct sink *sink = node->busy;
    if (!sink)
        return;
    struct buffer *sent = sink->head;
    sink->head = sent->next;
    buffer_put(&node->pool, sent);
    if (sink->head)
        return;
    sink->tail = NULL;
    unlink_busy(node);
}

int dp_sink_open(dp_node *node, uint32_t *handle) {
    struct sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return DP_E_MEMORY;
    sink->node = node;
    int rc = table_add(&node->sinks, sink, &sink->handle);
    if (rc == DP_OK)
        *handle = table_short(sink->handle);
    else
        free(sink);
    return rc;
}

static void forget_busy(struct sink *sink) {
    dp_node *node = sink->node;
    if (!sink->busy)
        return;
    struct sink **at = &node->busy, *before = NULL;
    while (*at != sink) {
        before = *at;
        at = &(*at)->next_busy;
    }
    *at = sink->next_busy;
    if (node->busy_tail == sink)
        node->busy_tail = before;
}

void dp_sink_close(dp_node *node, uint32_t handle) {
    struct sink *sink = table_get_short(&node->sinks, handle);
    if (!sink)
        return;
    for (uint32_t i = 0; i < node->flows.used; i++) {
        struct flow *flow = node->flows.slots[i].object;
        if (flow && flow->sink == sink)
            dp_flow_close(node, table_short(flow->handle), true);
    }
    forget_busy(sink);
    sink_clear(sink);
    table_remove(&node->sinks, sink->handle);
    free(sink);
}
