#include "node.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dp2p_identity.h"

enum { NETWORK_MAX = 64, CONTROL_TYPE_FIRST = 1, FLOWS_MAX = 1 << 20, SINKS_MAX = 4096 };

static const char PROLOGUE[] = "dp2p/1";
static const char NETWORK_LABEL[] = "dp2p network";

/* --- making one --- */

/* prologue = "dp2p/1", a zero byte, the network's name. */
static int set_network(struct dp_node *node, const char *network) {
    size_t len = strlen(network);
    if (len < 1 || len > NETWORK_MAX)
        return DP_E_ARGUMENT;
    memcpy(node->prologue, PROLOGUE, sizeof PROLOGUE);
    memcpy(node->prologue + sizeof PROLOGUE, network, len);
    node->prologue_len = sizeof PROLOGUE + len;
    return dp_blake2b(node->network_key, DP_KEY_LEN, (const uint8_t *)network, len,
                      (const uint8_t *)NETWORK_LABEL, sizeof NETWORK_LABEL - 1);
}

static int set_identity(struct dp_node *node) {
    int rc = dp_identity_public(node->public_key, node->config.seed);
    if (rc == DP_OK)
        rc = dp_identity_static(node->static_key, node->config.seed);
    if (rc == DP_OK)
        rc = dp_identity_static_public(node->static_public, node->public_key);
    sodium_memzero(node->config.seed, sizeof node->config.seed);
    return rc;
}

int dp_node_new(dp_node **out, const struct dp_node_config *config) {
    int rc = dp_init();
    if (rc != DP_OK)
        return rc;
    if (!config->network || !config->max_links || !config->handshake_ms || !config->rekey_bytes ||
        !config->window_max || !config->keepalive_ms || config->idle_ms / 2 <= config->keepalive_ms)
        return DP_E_ARGUMENT;
    dp_node *node = calloc(1, sizeof *node);
    if (!node)
        return DP_E_MEMORY;
    node->config = *config;
    if (!node->config.random) {
        node->config.random = draws_take;
        node->config.random_context = &node->draws;
    }
    caps_init(node);
    table_init(&node->links, config->max_links);
    table_init(&node->flows, FLOWS_MAX);
    table_init(&node->sinks, SINKS_MAX);
    rc = set_network(node, config->network);
    if (rc == DP_OK)
        rc = set_identity(node);
    if (rc == DP_OK)
        rc = aead_new(&node->aead, config->aead);
    node->config.network = node->config.aead = NULL; /* the caller's; not kept */
    if (rc != DP_OK) {
        dp_node_free(node);
        return rc;
    }
    *out = node;
    return DP_OK;
}

void dp_node_free(dp_node *node) {
    if (!node)
        return;
    for (uint32_t i = 0; i < node->links.used; i++)
        if (node->links.slots[i].object)
            link_free(node->links.slots[i].object);
    for (uint32_t i = 0; i < node->sinks.used; i++)
        if (node->sinks.slots[i].object)
            dp_sink_close(node, table_short((uint64_t)node->sinks.slots[i].generation << 32 | i));
    for (uint32_t i = 0; i < node->events.count; i++)
        buffer_put(&node->pool, node->events.data[i]);
    uint64_t token;
    while (dp_node_released(node, &token, 1))
        continue;
    table_free(&node->links);
    table_free(&node->flows);
    table_free(&node->sinks);
    pool_clear(&node->pool);
    aead_free(node->aead);
    free(node->events.events);
    free(node->events.data);
    free(node->hello);
    sodium_memzero(node, sizeof *node);
    free(node);
}

const char *dp_node_aead(const dp_node *node) {
    return aead_name(node->aead);
}

void node_random(const struct dp_node *node, uint8_t *out, size_t len) {
    node->config.random(node->config.random_context, out, len);
}

int dp_node_set_hello(dp_node *node, const uint8_t *hello, size_t len) {
    if (len > DP_HELLO_MAX)
        return DP_E_SIZE;
    uint8_t *copy = malloc(len + 1);
    if (!copy)
        return DP_E_MEMORY;
    if (len)
        memcpy(copy, hello, len);
    free(node->hello);
    node->hello = copy;
    node->hello_len = len;
    return DP_OK;
}

/* --- events --- */

static bool grow_events(struct event_list *list) {
    uint32_t capacity = list->capacity ? list->capacity * 2 : 64;
    struct dp_event *events = realloc(list->events, capacity * sizeof *events);
    if (events)
        list->events = events;
    struct buffer **data = realloc(list->data, capacity * sizeof *data);
    if (data)
        list->data = data;
    if (!events || !data)
        return false;
    list->capacity = capacity;
    return true;
}

bool node_event(struct dp_node *node, const struct dp_event *event, const uint8_t *data,
                size_t len) {
    struct event_list *list = &node->events;
    struct buffer *copy = data ? buffer_get(&node->pool, len) : NULL;
    if ((data && !copy) || (list->count == list->capacity && !grow_events(list))) {
        buffer_put(&node->pool, copy);
        node->stats.events_lost++;
        return false;
    }
    list->events[list->count] = *event;
    if (copy) {
        memcpy(copy->data, data, len);
        list->events[list->count].data = copy->data;
        list->events[list->count].len = len;
    }
    list->data[list->count++] = copy;
    return true;
}

size_t dp_node_events(dp_node *node, const struct dp_event **out) {
    *out = node->events.events;
    node->events.handed = node->events.count;
    return node->events.count;
}

/* Remove what was given out; what came while it was handled stays for the next time. */
static void drop_handed(dp_node *node) {
    struct event_list *list = &node->events;
    for (uint32_t i = 0; i < list->handed; i++)
        buffer_put(&node->pool, list->data[i]);
    list->count -= list->handed;
    if (list->count) {
        memmove(list->events, list->events + list->handed, list->count * sizeof *list->events);
        memmove(list->data, list->data + list->handed, list->count * sizeof *list->data);
    }
    list->handed = 0;
}

static void reap_unowned(dp_node *node) {
    for (struct link **at = &node->reap; *at;) {
        struct link *link = *at;
        if (link->owner) {
            at = &link->next_reap;
            continue;
        }
        *at = link->next_reap;
        link_free(link);
    }
}

void dp_node_events_done(dp_node *node) {
    drop_handed(node);
    while (node->held) {
        struct link *link = node->held;
        node->held = link->next_held;
        link->held = link->on_held = false;
        if (node->on_resume)
            node->on_resume(link);
    }
    reap_unowned(node);
}

void dp_node_stats(const dp_node *node, struct dp_stats *out) {
    *out = node->stats;
    out->links = node->links.count;
    out->handshakes_pending = node->pending_inbound;
    out->flows = node->flows.count;
    out->buffer_bytes = node->pool.held_bytes;
}

/* --- time --- */

static void keep_alive(struct link *link, uint64_t now_ms) {
    const struct dp_node_config *config = &link->node->config;
    if (now_ms - link->last_in_ms >= config->idle_ms) {
        link_fail(link, DP_E_TIMEOUT);
        return;
    }
    if (now_ms - link->last_in_ms >= config->keepalive_ms) {
        link->ping_due = true;
        link_mark(link);
    }
    link_timer_set(link, LINK_TIMER_KEEPALIVE, now_ms + config->keepalive_ms);
}

uint64_t dp_node_tick(dp_node *node, uint64_t now_ms) {
    node->now_ms = now_ms;
    uint64_t next = caps_tick(node, now_ms);
    for (int t = 0; t < LINK_TIMERS; t++) {
        struct link *link;
        while ((link = node->timers[t].head) != NULL && link->due_ms <= now_ms) {
            if (t == LINK_TIMER_KEEPALIVE)
                keep_alive(link, now_ms);
            else
                link_fail(link, DP_E_TIMEOUT);
        }
        if (link && link->due_ms < next)
            next = link->due_ms;
    }
    return next;
}

/* --- links by handle --- */

static struct link *find(const dp_node *node, uint64_t handle) {
    return table_get(&node->links, handle);
}

int dp_link_new(dp_node *node, uint64_t *handle, bool initiator, const struct dp_known *known,
                const struct dp_address *remote, uint64_t dial, uint64_t now_ms) {
    struct link *link;
    node->now_ms = now_ms;
    int rc = link_new(node, &link, initiator, known, remote, dial, now_ms);
    if (rc == DP_OK)
        *handle = link->handle;
    return rc;
}

int dp_link_receive(dp_node *node, uint64_t handle, uint8_t *data, size_t len, size_t *used,
                    uint64_t now_ms) {
    struct link *link = find(node, handle);
    *used = 0;
    node->now_ms = now_ms;
    return link ? link_receive(link, data, len, used, now_ms) : DP_E_ARGUMENT;
}

int dp_link_produce(dp_node *node, uint64_t handle, uint8_t *out, size_t cap, size_t *len,
                    uint64_t now_ms) {
    struct link *link = find(node, handle);
    *len = 0;
    node->now_ms = now_ms;
    if (!link)
        return DP_E_ARGUMENT;
    if (cap < DP_PRODUCE_MIN)
        return DP_E_SIZE;
    return link_produce(link, out, cap, DP_FRAME_MAX, len, now_ms);
}

static int control_flow(struct link *link) {
    if (link->control)
        return DP_OK;
    struct flow *flow = calloc(1, sizeof *flow);
    if (!flow)
        return DP_E_MEMORY;
    flow->link = link;
    flow->number = flow->peer_number = DP_CONTROL_CHANNEL;
    link->control = flow;
    return DP_OK;
}

static int queue_control(struct link *link, uint16_t type, const uint8_t *data, size_t len) {
    if (len > DP_CONTROL_MAX)
        return DP_E_SIZE;
    int rc = control_flow(link);
    if (rc != DP_OK)
        return rc;
    const struct send_state *send = &link->control->send;
    if (send->accepted.bytes - send->sent.bytes + len > CONTROL_QUEUE_MAX)
        return DP_E_LIMIT;
    rc = node_queue_copy(link->control, type, data, len);
    if (rc == DP_OK)
        link_mark(link);
    return rc;
}

int dp_link_admit(dp_node *node, uint64_t handle, const uint8_t *control, size_t len) {
    struct link *link = find(node, handle);
    if (!link)
        return DP_E_ARGUMENT;
    if (link->state != DP_LINK_READY)
        return DP_E_STATE;
    int rc = queue_control(link, CONTROL_TYPE_FIRST, control, len);
    if (rc != DP_OK)
        return rc;
    link->state = DP_LINK_OPEN;
    link_forget_secret(link);
    if (link->heard)
        link_established(link, node->now_ms);
    if (node->on_resume)
        node->on_resume(link);
    return DP_OK;
}

int dp_link_control(dp_node *node, uint64_t handle, uint16_t type, const uint8_t *data,
                    size_t len) {
    struct link *link = find(node, handle);
    if (!link)
        return DP_E_ARGUMENT;
    return link->state == DP_LINK_OPEN ? queue_control(link, type, data, len) : DP_E_STATE;
}

int dp_link_ping(dp_node *node, uint64_t handle) {
    struct link *link = find(node, handle);
    if (!link)
        return DP_E_ARGUMENT;
    if (link->state != DP_LINK_OPEN)
        return DP_E_STATE;
    link->ping_due = true;
    link_mark(link);
    return DP_OK;
}

int dp_link_close(dp_node *node, uint64_t handle, uint16_t reason) {
    struct link *link = find(node, handle);
    if (!link)
        return DP_E_ARGUMENT;
    if (link->state < DP_LINK_CLOSING)
        link_down(link, DP_OK, reason);
    return DP_OK;
}

int dp_link_end(dp_node *node, uint64_t handle, int status) {
    struct link *link = find(node, handle);
    if (!link)
        return DP_E_ARGUMENT;
    link_down(link, status, 0);
    return DP_OK;
}

int dp_link_get(const dp_node *node, uint64_t handle, struct dp_link_info *out) {
    const struct link *link = find(node, handle);
    if (!link)
        return DP_E_ARGUMENT;
    *out = (struct dp_link_info){.dial = link->dial,
                                 .state = link->state,
                                 .initiator = link->initiator,
                                 .mode = link->mode,
                                 .fell_back = link->fell_back,
                                 .remote = link->remote,
                                 .seen = link->seen,
                                 .bytes_in = link->bytes_in,
                                 .bytes_out = link->bytes_out,
                                 .datagrams_in = link->datagrams_in,
                                 .datagrams_out = link->datagrams_out,
                                 .flows = link->flow_count};
    memcpy(out->key, link->key, sizeof out->key);
    return DP_OK;
}
