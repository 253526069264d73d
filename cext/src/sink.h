/* An application as the transport sees it: what it is to get, and what it sent. */
#ifndef DP2P_SINK_H
#define DP2P_SINK_H

#include "flow.h"

struct dp_node;

enum { EPOCH_RECORD_SIZE = 40 };

struct sink {
    struct dp_node *node;
    uint64_t handle;
    struct buffer *head, *tail; /* messages ready for it */
    struct flow *dirty;         /* flows with news since the last collection */
    struct sink *next_busy;     /* in the node's list of sinks with messages */
    bool busy;
};

/* Take over a finished record. Small ones share a message. Errors: none; fits record_fn. */
int sink_take(void *sink, struct buffer *record);
/* The peer's EPOCH, for the application before any DATA of the flow. Errors: DP_E_MEMORY. */
int sink_push_epoch(struct flow *flow, const uint8_t body[EPOCH_BODY]);
/* Note that `flow` has something for its sink. */
void sink_mark(struct flow *flow);
/* Turn what a flow has for its application into records. Errors: DP_E_MEMORY. */
int sink_collect_flow(struct flow *flow);
void sink_forget_flow(struct flow *flow);
void sink_clear(struct sink *sink);

#endif
