/* Caps on rates, for a node, its groups of flows and its links, in both directions; and the accounts.
 *
 * What goes up is charged when it is written. A flow whose group is short is parked beside its ring, a
 * link that is short, or whose node is, writes no datagrams. What comes down is charged when credit for
 * it is granted, so that senders decide what comes first, and no queue forms on the way. Credit that
 * was given while no cap was in force, the offer at a flow's opening above all, is charged as it is
 * used. */
#ifndef DP2P_CAPS_H
#define DP2P_CAPS_H

#include "flow.h"

struct dp_node;
struct link;

struct caps {
    struct meter up, down;
};

/* All flows of one protocol. */
struct group {
    struct caps caps;
    uint64_t up_bytes, down_bytes;
};

void caps_init(struct dp_node *node);
void caps_init_link(struct link *link);
/* Its caps are gone, and it waits for none. */
void caps_end_link(struct link *link);

/* Wake who waits for a cap; returns when to call next, or UINT64_MAX. */
uint64_t caps_tick(struct dp_node *node, uint64_t now_ms);
uint64_t caps_due(const struct dp_node *node);

/* --- up --- */

/* Whether datagrams may be written now; if not, the link waits, and is marked when its turn comes. */
bool caps_link_may_send(struct link *link);
/* Whether this flow's may be; if not, it waits for its group, and comes back to its ring by itself. */
bool caps_flow_may_send(struct flow *flow);
/* Bytes that it may write in one turn. */
size_t caps_turn(const struct flow *flow);
/* It has written datagrams at this cost. */
void caps_sent(struct flow *flow, uint64_t cost);

/* --- down --- */

/* The window as caps leave it. */
uint32_t caps_window(const struct flow *flow);
/* Of the `wanted` credit, what may be granted now. When that is less than wanted, the flow waits, and
 * is marked when its turn comes. */
uint64_t caps_grant(struct flow *flow, uint64_t wanted);
/* Whether a cap decides how much credit the flow gets. */
bool caps_hold_credit(const struct flow *flow);
/* A datagram has begun to arrive. */
void caps_received(struct flow *flow, uint64_t cost);

#endif
