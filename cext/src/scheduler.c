#include "scheduler.h"

enum {
    QUANTUM = 1024,    /* ours: bytes per round and unit of weight */
    OWED_SHARE = 8,    /* ours: a waiting class is owed one byte in eight */
    OWED_TURN = 16384, /* ours: and gets its turn when this much is owed */
    OWED_MAX = 4 * OWED_TURN
};

void sched_return(struct scheduler *s, struct flow *f) {
    struct flow **tail = &s->tail[f->priority];
    if (*tail) {
        f->ring = (*tail)->ring;
        (*tail)->ring = f;
    } else {
        f->ring = f;
    }
    *tail = f;
}

void sched_add(struct scheduler *s, struct flow *f) {
    if (f->ring || f->up.meter)
        return;
    sched_return(s, f);
    if (f->deficit > 0)
        f->deficit = 0; /* what was overdrawn stays owed */
}

void sched_remove(struct scheduler *s, struct flow *f) {
    if (!f->ring)
        return;
    struct flow **tail = &s->tail[f->priority], *before = *tail;
    while (before->ring != f)
        before = before->ring;
    before->ring = f->ring;
    if (*tail == f)
        *tail = before == f ? NULL : before;
    f->ring = NULL;
}

void sched_set_class(struct scheduler *s, struct flow *f, uint8_t priority) {
    bool busy = f->ring != NULL;
    if (priority == f->priority)
        return;
    sched_remove(s, f);
    f->priority = priority;
    if (busy)
        sched_return(s, f);
}

bool sched_busy(const struct scheduler *s) {
    for (int c = 0; c < DP_CLASS_COUNT; c++)
        if (s->tail[c])
            return true;
    return false;
}

/* A class whose turn is due, else the highest busy one; -1 when all are idle. */
static int pick_class(const struct scheduler *s) {
    int highest = -1;
    for (int c = DP_CLASS_COUNT - 1; c >= 0; c--) {
        if (!s->tail[c])
            continue;
        if (s->owed[c] >= OWED_TURN)
            return c;
        highest = c;
    }
    return highest;
}

struct flow *sched_next(struct scheduler *s) {
    int c = pick_class(s);
    if (c < 0)
        return NULL;
    struct flow *head = s->tail[c]->ring;
    while (head->deficit <= 0) {
        head->deficit += QUANTUM * head->weight;
        if (head->deficit > 0)
            break;
        s->tail[c] = head;
        head = head->ring;
    }
    return head;
}

/* Whether a class above `c` waits while `c` has its turn. */
static bool passes_higher(const struct scheduler *s, int c) {
    while (c-- > 0)
        if (s->tail[c])
            return true;
    return false;
}

void sched_charge(struct scheduler *s, struct flow *f, size_t bytes) {
    f->deficit -= (int32_t)bytes;
    if (f->deficit <= 0 && f->ring)
        s->tail[f->priority] = f; /* to the back of its round */
    int32_t own = s->owed[f->priority] - (int32_t)bytes;
    s->owed[f->priority] = !passes_higher(s, f->priority) ? 0 : own > -OWED_MAX ? own : -OWED_MAX;
    for (int c = f->priority + 1; c < DP_CLASS_COUNT; c++) {
        int32_t owed = s->owed[c] + (int32_t)(bytes / OWED_SHARE);
        s->owed[c] = !s->tail[c] ? 0 : owed < OWED_MAX ? owed : OWED_MAX;
    }
}
