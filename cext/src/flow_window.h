/* How far a flow's windows open, and what all of them come to (docs/spec/wire.md, "Credit").
 *
 * A sender that has nothing queued and little credit left says so, BLOCKED. A receiver whose
 * application is not far behind then doubles the window: only the window has held the sender up.
 * docs/adr/0012 has the argument. */
#ifndef DP2P_FLOW_WINDOW_H
#define DP2P_FLOW_WINDOW_H

#include "flow.h"

/* Both windows of a new flow. */
void window_begin(struct flow *flow, uint32_t window, uint32_t peer_window);
/* Take what goes with a flow out of the node's sums. */
void window_end(struct flow *flow);

/* --- what peers may send --- */

/* Take a BLOCKED. Errors: DP_E_CREDIT for a limit that was never announced. */
int window_blocked(struct flow *flow, uint64_t limit);
/* A CREDIT of what is consumed is about to be written: settle on its window. */
void window_settle(struct flow *flow);
/* It grants so much beyond the limit. */
void window_grant(struct flow *flow, uint64_t more);

/* --- what this side may send --- */

/* As flow_credit, with as much of the peer's window as this node uses. */
int window_credit(struct flow *flow, const struct segment *segment);
/* Whether the latest CREDIT says something that the application needs to hear. */
bool window_is_news(const struct flow *flow);
/* It has heard how things stand. */
void window_told(struct flow *flow);
/* Whether the peer is to be told that its window holds this side up: once for each limit. */
bool window_is_short(const struct flow *flow);

#endif
