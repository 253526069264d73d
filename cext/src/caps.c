#include "caps.h"

#include <stddef.h>

#include "node.h"

enum { TURN_GROUP = 1, TURN_LINK = 2, TURN_NODE = 4 };

/* Ours. Turns are as large as this whatever the tokens are, so that they are worth the same to all. */
enum {
    TURN_MIN = 2048, /* bytes written in a turn; more, if that goes out within */
    TURN_MS = 4,
    GRANT_MIN = 1024, /* bytes of credit granted in a turn; more, if they come in within */
    GRANT_MS = 20,
    WINDOW_MS = 200, /* what the window of a capped flow holds: it must cover a round trip */
    MILLI = 1000
};

#define CONTAINER(pointer, type, member) \
    ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

/* The meters that a flow passes in one direction. */
struct way {
    struct meter *meter[3];
};

/* The lowest rate on the way; 0: none. */
static uint64_t rate_of(const struct way *way) {
    uint64_t rate = 0;
    for (int i = 0; i < 3; i++)
        if (way->meter[i]->rate && (!rate || way->meter[i]->rate < rate))
            rate = way->meter[i]->rate;
    return rate;
}

/* --- who wakes up --- */

static void wake_flow(struct waiter *w) {
    struct flow *flow = CONTAINER(w, struct flow, up);
    sched_return(&flow->link->sched, flow);
    link_mark(flow->link);
}

static void wake_link(struct waiter *w) {
    link_mark(CONTAINER(w, struct link, up));
}

static void wake_credit(struct waiter *w) {
    link_mark_credit(CONTAINER(w, struct flow, down));
}

void caps_init(struct dp_node *node) {
    meters_init(&node->up);
    meters_init(&node->down);
    meter_init(&node->caps.up, &node->up, TURN_NODE, wake_link);
    meter_init(&node->caps.down, &node->down, TURN_NODE, wake_credit);
    for (int i = 0; i < DP_GROUP_COUNT; i++) {
        meter_init(&node->groups[i].caps.up, &node->up, TURN_GROUP, wake_flow);
        meter_init(&node->groups[i].caps.down, &node->down, TURN_GROUP, wake_credit);
    }
}

void caps_init_link(struct link *link) {
    meter_init(&link->caps.up, &link->node->up, TURN_LINK, wake_link);
    meter_init(&link->caps.down, &link->node->down, TURN_LINK, wake_credit);
}

void caps_end_link(struct link *link) {
    meter_leave(&link->up);
    meter_set(&link->caps.up, 0, link->node->now_ms);
    meter_set(&link->caps.down, 0, link->node->now_ms);
}

uint64_t caps_tick(struct dp_node *node, uint64_t now_ms) {
    uint64_t up = meters_run(&node->up, now_ms), down = meters_run(&node->down, now_ms);
    return up < down ? up : down;
}

uint64_t caps_due(const struct dp_node *node) {
    return node->up.due_ms < node->down.due_ms ? node->up.due_ms : node->down.due_ms;
}

/* --- up --- */

bool caps_link_may_send(struct link *link) {
    struct dp_node *node = link->node;
    if (link->up.meter)
        return false;
    return !node->up.capped || (meter_pass(&link->caps.up, &link->up, node->now_ms) &&
                                meter_pass(&node->caps.up, &link->up, node->now_ms));
}

bool caps_flow_may_send(struct flow *flow) {
    const struct dp_node *node = flow->link->node;
    return !node->up.capped || meter_pass(&flow->group->caps.up, &flow->up, node->now_ms);
}

size_t caps_turn(const struct flow *flow) {
    struct dp_node *node = flow->link->node;
    if (!node->up.capped)
        return SIZE_MAX;
    struct way way = {{&flow->group->caps.up, &flow->link->caps.up, &node->caps.up}};
    uint64_t rate = rate_of(&way), bytes = rate * TURN_MS / MILLI;
    return !rate ? SIZE_MAX : bytes > TURN_MIN ? bytes : TURN_MIN;
}

void caps_sent(struct flow *flow, uint64_t cost) {
    struct dp_node *node = flow->link->node;
    flow->group->up_bytes += cost;
    if (!node->up.capped || !cost)
        return;
    meter_take(&flow->group->caps.up, &flow->up, cost, node->now_ms);
    meter_take(&flow->link->caps.up, &flow->link->up, cost, node->now_ms);
    meter_take(&node->caps.up, &flow->link->up, cost, node->now_ms);
}

/* --- down --- */

static struct way way_down(const struct flow *flow) {
    struct link *link = flow->link;
    return (struct way){{&flow->group->caps.down, &link->caps.down, &link->node->caps.down}};
}

bool caps_hold_credit(const struct flow *flow) {
    struct way way = way_down(flow);
    return flow->link->node->down.capped && rate_of(&way);
}

uint32_t caps_window(const struct flow *flow) {
    if (!flow->link->node->down.capped)
        return flow->window;
    struct way way = way_down(flow);
    uint64_t window = rate_of(&way) * WINDOW_MS / MILLI;
    uint64_t largest = (uint64_t)flow->max_datagram + DP_DATAGRAM_COST;
    if (!rate_of(&way))
        return flow->window;
    window = window > largest ? window : largest;
    return window < flow->window ? (uint32_t)window : flow->window;
}

static uint64_t portion(const struct way *way, uint64_t wanted) {
    uint64_t most = rate_of(way) * GRANT_MS / MILLI;
    most = most > GRANT_MIN ? most : GRANT_MIN;
    return wanted < most ? wanted : most;
}

/* It has got less than it wants: behind those that wait already, if any do. */
static void wait_for_more(const struct way *way, struct waiter *w) {
    struct meter *slowest = NULL;
    for (int i = 0; i < 3; i++) {
        struct meter *m = way->meter[i];
        if (m->rate && (!slowest || m->tokens < slowest->tokens))
            slowest = m;
    }
    meter_wait(slowest, w);
}

uint64_t caps_grant(struct flow *flow, uint64_t wanted) {
    uint64_t now_ms = flow->link->node->now_ms;
    if (!caps_hold_credit(flow)) {
        flow->receive.free = flow->receive.limit + wanted;
        return wanted;
    }
    struct way way = way_down(flow);
    if (!wanted || flow->down.meter)
        return 0;
    for (int i = 0; i < 3; i++)
        if (!meter_pass(way.meter[i], &flow->down, now_ms))
            return 0;
    uint64_t granted = portion(&way, wanted);
    for (int i = 0; i < 3; i++)
        meter_take(way.meter[i], &flow->down, granted, now_ms);
    if (granted < wanted)
        wait_for_more(&way, &flow->down);
    return granted;
}

void caps_received(struct flow *flow, uint64_t cost) {
    struct dp_node *node = flow->link->node;
    uint64_t before = flow->receive.received.bytes - cost;
    flow->group->down_bytes += cost;
    if (!node->down.capped || before >= flow->receive.free)
        return;
    uint64_t rest = flow->receive.free - before;
    struct way way = way_down(flow);
    for (int i = 0; i < 3; i++)
        meter_charge(way.meter[i], cost < rest ? cost : rest, node->now_ms);
}

/* --- by request --- */

static int set_caps(struct dp_node *node, struct caps *caps, uint64_t up, uint64_t down) {
    if (up > DP_RATE_MAX || down > DP_RATE_MAX)
        return DP_E_ARGUMENT;
    meter_set(&caps->up, up, node->now_ms);
    meter_set(&caps->down, down, node->now_ms);
    return DP_OK;
}

int dp_node_limit(dp_node *node, uint64_t up, uint64_t down) {
    return set_caps(node, &node->caps, up, down);
}

int dp_group_limit(dp_node *node, uint32_t group, uint64_t up, uint64_t down) {
    if (group >= DP_GROUP_COUNT)
        return DP_E_ARGUMENT;
    return set_caps(node, &node->groups[group].caps, up, down);
}

int dp_link_limit(dp_node *node, uint64_t handle, uint64_t up, uint64_t down) {
    struct link *link = table_get(&node->links, handle);
    return link ? set_caps(node, &link->caps, up, down) : DP_E_ARGUMENT;
}

static void take_short(struct caps *caps, struct dp_usage *out) {
    out->up_short = caps->up.was_short;
    out->down_short = caps->down.was_short;
    caps->up.was_short = caps->down.was_short = false;
}

int dp_node_usage(dp_node *node, struct dp_usage *out) {
    *out = (struct dp_usage){0};
    for (int i = 0; i < DP_GROUP_COUNT; i++) {
        out->up_bytes += node->groups[i].up_bytes;
        out->down_bytes += node->groups[i].down_bytes;
    }
    take_short(&node->caps, out);
    return DP_OK;
}

int dp_group_usage(dp_node *node, uint32_t group, struct dp_usage *out) {
    if (group >= DP_GROUP_COUNT)
        return DP_E_ARGUMENT;
    *out = (struct dp_usage){.up_bytes = node->groups[group].up_bytes,
                             .down_bytes = node->groups[group].down_bytes};
    take_short(&node->groups[group].caps, out);
    return DP_OK;
}
