/* What all links of one loop share. */
#ifndef DP2P_NODE_H
#define DP2P_NODE_H

#include "draws.h"
#include "link.h"
#include "scheduler.h"
#include "sink.h"
#include "statics.h"
#include "table.h"

struct event_list {
    struct dp_event *events;
    struct buffer **data; /* of each event, or NULL */
    uint32_t count, capacity;
    uint32_t handed; /* of `count`, given out by dp_node_events */
};

struct link_list {
    struct link *head, *tail;
    uint32_t count;
};

struct dp_node {
    struct dp_node_config config; /* seed wiped after dp_node_new */
    struct aead *aead;
    uint8_t public_key[DP_KEY_LEN];
    uint8_t static_key[DP_KEY_LEN]; /* secret: X25519 */
    uint8_t static_public[DP_KEY_LEN];
    uint8_t network_key[DP_KEY_LEN]; /* masks what a handshake cannot hide otherwise */
    char prologue[80];
    size_t prologue_len;
    uint8_t *hello;
    size_t hello_len;
    struct statics statics;
    struct draws draws; /* of the message that is being written */

    struct table links, flows, sinks;
    struct link_list timers[LINK_TIMERS]; /* each in order of due time */
    uint32_t pending_inbound;             /* links not established that peers opened */
    uint32_t window_squeezes;             /* times that a flow needed what others have */
    struct link *dirty;                   /* links with something to send */
    struct link *dirty_tail;
    struct link *held; /* links that rest until events are done */
    struct link *reap; /* dead links to be freed */

    void (*on_resume)(struct link *link); /* the engine: the link reads again */
    uint64_t now_ms;                      /* of the latest call that said */
    struct pool pool;
    struct meters up, down; /* those of the node, its groups and its links */
    struct caps caps;
    struct group groups[DP_GROUP_COUNT];
    struct event_list events;
    struct sink *busy, *busy_tail; /* sinks with messages */
    struct blob *released;
    struct dp_stats stats;
};

/* An event with a copy of `data`; false when memory is short. */
bool node_event(struct dp_node *node, const struct dp_event *event, const uint8_t *data,
                size_t len);
void node_random(const struct dp_node *node, uint8_t *out, size_t len);
void blob_release(struct dp_node *node, struct blob *blob);
void items_release(struct dp_node *node, struct item *items);
/* Queue a copy of one datagram on `flow`; DP_E_MEMORY. */
int node_queue_copy(struct flow *flow, uint16_t type, const uint8_t *data, size_t len);

#endif
