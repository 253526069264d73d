/* What a flow knows of itself, for whoever shows it. */
#include "node.h"

static struct dp_position shown(struct position at) {
    return (struct dp_position){at.datagrams, at.bytes};
}

static uint32_t wait_ms(const struct flow *flow) {
    const struct item *head = flow->send.head;
    uint64_t ms = head ? flow->link->node->now_ms - head->queued_ms : 0;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

int dp_flow_get(dp_node *node, uint32_t handle, struct dp_flow_info *out) {
    struct flow *flow = table_get_short(&node->flows, handle);
    if (!flow)
        return DP_E_ARGUMENT;
    *out = (struct dp_flow_info){.link = flow->link->handle,
                                 .accepted = shown(flow->send.accepted),
                                 .sent = shown(flow->send.sent),
                                 .confirmed = shown(flow->send.confirmed),
                                 .received = shown(flow->receive.received),
                                 .consumed = shown(flow->receive.consumed),
                                 .send_limit = flow->send.limit,
                                 .receive_limit = flow->receive.limit,
                                 .window = flow->window,
                                 .peer_window = flow->send.peer_window,
                                 .wait_ms = wait_ms(flow),
                                 .waited_max_ms = flow->send.waited_max_ms};
    flow->send.waited_max_ms = 0;
    return DP_OK;
}
