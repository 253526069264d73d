#include "flow_window.h"

#include "node.h"

/* An application that has left unread no more than a quarter of its window keeps up with its peer, and
 * a sender with less than a quarter left is held up: libraries move in steps of a quarter. */
enum { NEAR = 4, NEWS_MIN = 1024 }; /* NEWS_MIN, ours: credit that applications are told of */

static uint32_t largest(const struct flow *f) {
    return f->max_datagram + DP_DATAGRAM_COST;
}

/* --- all windows together --- */

static bool has_room(const struct dp_node *node, uint64_t more) {
    uint64_t cap = node->config.window_bytes_max;
    uint64_t sum = node->stats.window_bytes + node->stats.peer_window_bytes;
    return !cap || (sum <= cap && more <= cap - sum);
}

/* What each flow may have in one direction when all want as much as they can get. */
static uint64_t fair_share(const struct dp_node *node) {
    return node->config.window_bytes_max / 2 / node->flows.count;
}

static void count_granted(struct flow *f, uint64_t granted) {
    f->link->node->stats.window_bytes += granted - f->receive.granted;
    f->receive.granted = granted;
}

static uint64_t usable(const struct flow *f) {
    return f->send.limit - f->send.confirmed.bytes;
}

/* How much of a window that the peer offers is used: it must not make this side keep without bound
 * what is not confirmed. */
static uint32_t used_of(const struct flow *f, uint32_t offered) {
    const struct dp_node *node = f->link->node;
    uint32_t most = node->config.window_max, kept = f->send.peer_window;
    most = most > largest(f) ? most : largest(f);
    kept = kept > largest(f) ? kept : largest(f);
    uint32_t used = offered < most ? offered : most;
    return used <= kept || has_room(node, used - kept) ? used : kept;
}

void window_begin(struct flow *f, uint32_t window, uint32_t peer_window) {
    struct dp_node *node = f->link->node;
    f->window = f->receive.first_window = window;
    f->receive.limit = f->receive.fresh_limit = window;
    f->receive.squeezes = node->window_squeezes;
    count_granted(f, window);
    uint32_t most = node->config.window_max > largest(f) ? node->config.window_max : largest(f);
    f->send.peer_window = peer_window < most ? peer_window : most;
    f->send.limit = f->send.peer_window;
    f->send.capped = peer_window > most;
    window_told(f);
    node->stats.peer_window_bytes += f->send.limit;
}

void window_end(struct flow *f) {
    count_granted(f, 0);
    f->link->node->stats.peer_window_bytes -= usable(f);
}

/* --- what peers may send --- */

static bool keeps_up(const struct flow *f) {
    return f->receive.received.bytes - f->receive.consumed.bytes <= f->window / NEAR;
}

int window_blocked(struct flow *f, uint64_t limit) {
    if (limit > f->receive.limit)
        return DP_E_CREDIT;
    if (limit < f->receive.fresh_limit)
        return DP_OK; /* said before the peer knew of the last growth */
    f->receive.starved = true;
    if (keeps_up(f))
        link_mark_credit(f);
    return DP_OK;
}

/* Whether it grew. One that has less than its share makes others give back. */
static bool grow(struct flow *f) {
    struct dp_node *node = f->link->node;
    uint32_t most = node->config.window_max;
    if (f->window >= most)
        return false;
    uint32_t next = f->window > most / 2 ? most : 2 * f->window;
    if (!has_room(node, next - f->window)) {
        node->window_squeezes += f->window < fair_share(node);
        return false;
    }
    f->window = next;
    node->stats.windows_grown++;
    return true;
}

static void give_back(struct flow *f) {
    uint32_t half = f->window / 2, first = f->receive.first_window;
    if (f->window > first && f->window > fair_share(f->link->node))
        f->window = half > first ? half : first;
}

void window_settle(struct flow *f) {
    const struct dp_node *node = f->link->node;
    bool held = f->receive.starved && keeps_up(f) && !caps_hold_credit(f);
    f->receive.grew = held && grow(f);
    if (!f->receive.grew && f->receive.squeezes != node->window_squeezes)
        give_back(f);
    f->receive.squeezes = node->window_squeezes;
    f->receive.starved = false;
}

void window_grant(struct flow *f, uint64_t more) {
    f->receive.limit += more;
    if (f->receive.grew)
        f->receive.fresh_limit = f->receive.limit;
    uint64_t open = f->receive.limit - f->receive.consumed.bytes;
    count_granted(f, open > f->window ? open : f->window);
}

/* --- what this side may send --- */

int window_credit(struct flow *f, const struct segment *segment) {
    struct segment used = *segment;
    uint64_t before = usable(f);
    used.total = used_of(f, segment->total);
    int rc = flow_credit(f, &used);
    if (rc == DP_OK)
        f->send.capped = used.total < segment->total;
    f->link->node->stats.peer_window_bytes += usable(f) - before;
    return rc;
}

static uint64_t reach(const struct flow *f) {
    return f->send.confirmed.bytes + f->send.peer_window;
}

/* What an application does not read stays in this process, and a peer may say CREDIT as often as it
 * likes. So one that says next to nothing is not passed on: it may be less than NEWS_MIN of credit, and
 * nobody waits for that who has enough for a largest datagram. */
bool window_is_news(const struct flow *f) {
    uint64_t told = f->send.told_limit, needed = f->send.accepted.bytes + largest(f);
    return f->send.confirmed.datagrams != f->send.told_datagrams || reach(f) >= told + NEWS_MIN ||
           (told < needed && reach(f) >= needed);
}

void window_told(struct flow *f) {
    f->send.told_datagrams = f->send.confirmed.datagrams;
    f->send.told_limit = reach(f);
}

bool window_is_short(const struct flow *f) {
    uint32_t quarter = f->send.peer_window / NEAR;
    uint64_t left = f->send.limit - f->send.accepted.bytes;
    return !f->send.head && !f->send.capped && f->send.limit != f->send.blocked_limit &&
           left < (quarter > largest(f) ? quarter : largest(f));
}
