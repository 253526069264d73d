/* Caps on rates: token buckets, and who waits for them. Sans-IO: time comes in, in ms.
 *
 * Tokens may go into debt by what was taken last, so nothing is ever cut to fit. Who finds a debt, or
 * others who wait, waits in line; the first in line gets a *turn*: the right to take once, whatever the
 * tokens are by then. Whoever took while others wait goes to the back. A turn that is not used (its
 * link's peer is slow) holds nobody up: the next one in line gets his a little later. */
#ifndef DP2P_METER_H
#define DP2P_METER_H

#include "dp2p.h"

struct meter;

/* Stands in the thing that waits. In one line at a time; turns of several meters are kept. */
struct waiter {
    struct waiter *prev, *next;
    struct meter *meter; /* whose line it is in, or NULL */
    uint8_t turns;       /* bits of the meters that gave it a turn */
};

/* All meters of one node and direction. */
struct meters {
    struct meter *waiting; /* those with somebody in line */
    uint64_t due_ms;       /* nothing is to be done before; UINT64_MAX: nothing at all */
    uint32_t capped;       /* meters with a rate */
};

struct meter {
    uint64_t rate;  /* bytes a second; 0: no cap */
    int64_t tokens; /* thousandths of a byte, so that a millisecond's worth is a whole number */
    uint64_t at_ms; /* when they were counted */
    uint64_t due_ms;
    struct meters *all;
    struct waiter *head, *tail;
    struct meter *prev, *next; /* in `all->waiting`, while somebody waits */
    void (*wake)(
        struct waiter *); /* it has left the line: for a turn, or because the cap is gone */
    uint8_t turn;         /* its bit in waiter.turns */
    bool was_short;       /* somebody had to wait since this was last cleared */
};

void meters_init(struct meters *all);
void meter_init(struct meter *m, struct meters *all, uint8_t turn, void (*wake)(struct waiter *));
/* Change the rate (0: no cap), at most DP_RATE_MAX. There is no burst with it: a new cap begins
 * without tokens, and a debt takes no longer to work off than it did. */
void meter_set(struct meter *m, uint64_t rate, uint64_t now_ms);

/* Whether `w` may take now; if not, it is put in line. */
bool meter_pass(struct meter *m, struct waiter *w, uint64_t now_ms);
/* Put it in line all the same. It is in none. */
void meter_wait(struct meter *m, struct waiter *w);
/* Something was taken out of turn. */
void meter_charge(struct meter *m, uint64_t bytes, uint64_t now_ms);
/* `w`, which had passed, took so much. */
void meter_take(struct meter *m, struct waiter *w, uint64_t bytes, uint64_t now_ms);
/* Out of whatever line it is in. */
void meter_leave(struct waiter *w);

/* Give turns that are due; returns when to call next, or UINT64_MAX. */
uint64_t meters_run(struct meters *all, uint64_t now_ms);

#endif
