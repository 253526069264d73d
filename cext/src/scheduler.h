/* Which flow sends next: classes first, deficit round robin within a class.
 *
 * Urgent goes before normal, normal before bulk. A class that waits behind a higher one is owed an
 * eighth of what passes it, so none starves. Source of the round: Shreedhar & Varghese 1995. */
#ifndef DP2P_SCHEDULER_H
#define DP2P_SCHEDULER_H

#include "flow.h"

struct scheduler {
    struct flow *tail[DP_CLASS_COUNT]; /* ring of busy flows; tail->ring is the head */
    int32_t owed[DP_CLASS_COUNT];      /* bytes; negative after a turn that was too long */
};

/* No effect on a busy flow, and on one that waits for its group. */
void sched_add(struct scheduler *s, struct flow *flow);
void sched_remove(struct scheduler *s, struct flow *flow); /* no effect on an idle one */
/* One that was removed while it had something to send: its deficit stays as it is. */
void sched_return(struct scheduler *s, struct flow *flow);
/* Change the class of a busy flow, or of an idle one. */
void sched_set_class(struct scheduler *s, struct flow *flow, uint8_t priority);
bool sched_busy(const struct scheduler *s);

/* The flow to send from, or NULL; it may send flow->deficit bytes, which is more than 0. */
struct flow *sched_next(struct scheduler *s);
/* It has sent `bytes`. */
void sched_charge(struct scheduler *s, struct flow *flow, size_t bytes);

#endif
