#include "meter.h"

enum {
    BURST_MS = 20,            /* ours: what an idle meter saves up, */
    BURST_MIN = DP_FRAME_MAX, /* but at least so many bytes */
    GATHER_MS = 4,            /* ours: tokens are handed out in portions, not byte by byte */
    MILLI = 1000
};

void meters_init(struct meters *all) {
    *all = (struct meters){.due_ms = UINT64_MAX};
}

void meter_init(struct meter *m, struct meters *all, uint8_t turn, void (*wake)(struct waiter *)) {
    *m = (struct meter){.all = all, .turn = turn, .wake = wake};
}

/* --- tokens --- */

static int64_t burst(const struct meter *m) {
    int64_t worth = (int64_t)(m->rate * BURST_MS), least = (int64_t)BURST_MIN * MILLI;
    return worth > least ? worth : least;
}

static void refill(struct meter *m, uint64_t now_ms) {
    if (!m->rate || now_ms <= m->at_ms)
        return;
    uint64_t missing = (uint64_t)(burst(m) - m->tokens), elapsed = now_ms - m->at_ms;
    m->at_ms = now_ms;
    if (elapsed > missing / m->rate)
        m->tokens = burst(m);
    else
        m->tokens += (int64_t)(m->rate * elapsed);
}

/* When a portion of tokens will be there. */
static uint64_t due(const struct meter *m) {
    int64_t lack = (int64_t)(m->rate * GATHER_MS) - m->tokens;
    return lack <= 0 ? m->at_ms : m->at_ms + ((uint64_t)lack + m->rate - 1) / m->rate;
}

/* --- the line --- */

static void list(struct meter *m) {
    m->prev = NULL;
    m->next = m->all->waiting;
    if (m->next)
        m->next->prev = m;
    m->all->waiting = m;
    m->due_ms = due(m);
    if (m->due_ms < m->all->due_ms)
        m->all->due_ms = m->due_ms;
}

static void unlist(struct meter *m) {
    *(m->prev ? &m->prev->next : &m->all->waiting) = m->next;
    if (m->next)
        m->next->prev = m->prev;
}

void meter_wait(struct meter *m, struct waiter *w) {
    if (!m->head)
        list(m);
    m->was_short = true;
    w->meter = m;
    w->next = NULL;
    w->prev = m->tail;
    *(m->tail ? &m->tail->next : &m->head) = w;
    m->tail = w;
}

void meter_leave(struct waiter *w) {
    struct meter *m = w->meter;
    if (!m)
        return;
    *(w->prev ? &w->prev->next : &m->head) = w->next;
    *(w->next ? &w->next->prev : &m->tail) = w->prev;
    w->meter = NULL;
    if (!m->head)
        unlist(m);
}

static void give_turn(struct meter *m) {
    struct waiter *first = m->head;
    meter_leave(first);
    first->turns |= m->turn;
    m->wake(first);
}

bool meter_pass(struct meter *m, struct waiter *w, uint64_t now_ms) {
    if (!m->rate || w->turns & m->turn)
        return true;
    refill(m, now_ms);
    if (m->tokens > 0 && !m->head)
        return true;
    meter_wait(m, w);
    return false;
}

void meter_charge(struct meter *m, uint64_t bytes, uint64_t now_ms) {
    if (!m->rate)
        return;
    refill(m, now_ms);
    m->tokens -= (int64_t)(bytes * MILLI);
}

void meter_take(struct meter *m, struct waiter *w, uint64_t bytes, uint64_t now_ms) {
    w->turns &= (uint8_t)~m->turn;
    meter_charge(m, bytes, now_ms);
    if (m->head && m->tokens > 0)
        give_turn(m);
}

/* --- rates and time --- */

/* What is owed takes as long as before, or less. */
static void convert_debt(struct meter *m, uint64_t rate) {
    if (m->tokens >= 0 || rate >= m->rate)
        return;
    uint64_t debt = (uint64_t)-m->tokens;
    double part = (double)(debt % m->rate) * (double)rate / (double)m->rate;
    m->tokens = -(int64_t)(debt / m->rate * rate + (uint64_t)part);
}

static void wake_all(struct meter *m) {
    while (m->head) {
        struct waiter *first = m->head;
        meter_leave(first);
        m->wake(first);
    }
}

void meter_set(struct meter *m, uint64_t rate, uint64_t now_ms) {
    refill(m, now_ms);
    m->all->capped += (uint32_t)(rate != 0) - (uint32_t)(m->rate != 0);
    if (m->rate) {
        convert_debt(m, rate);
    } else {
        m->tokens = 0;
        m->at_ms = now_ms;
    }
    m->rate = rate;
    if (!rate) {
        wake_all(m);
        return;
    }
    if (m->tokens > burst(m))
        m->tokens = burst(m);
    if (m->head)
        m->due_ms = m->all->due_ms = now_ms; /* to be looked at anew */
}

uint64_t meters_run(struct meters *all, uint64_t now_ms) {
    if (now_ms < all->due_ms)
        return all->due_ms;
    struct meter *next;
    all->due_ms = UINT64_MAX;
    for (struct meter *m = all->waiting; m; m = next) {
        next = m->next;
        if (m->due_ms <= now_ms) {
            refill(m, now_ms);
            m->due_ms = m->tokens > 0 ? now_ms + GATHER_MS : due(m);
            if (m->tokens > 0)
                give_turn(m);
        }
        if (m->head && m->due_ms < all->due_ms)
            all->due_ms = m->due_ms;
    }
    return all->due_ms;
}
