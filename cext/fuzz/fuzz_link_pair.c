/* Two links under any fragmentation, sends, consumption, flows that come and go, control
 * datagrams, renewed keys, epochs and windows that grow: datagrams of a flow arrive whole, in order,
 * once; none that was accepted is lost; when all is consumed, all credit is back and both sides have
 * the same limit; neither link ends.
 *
 * Input: steps of 4 bytes: what, side and flow, two arguments.
 */
#include "link_pair.h"

enum { STEP = 4, STEPS_MAX = 400, WINDOW = 60000, CONTROL = 3 };

static struct pair pair;
static unsigned controls[2]; /* sent to each side */

/* Close on both sides at once; what is under way meets the tombstone. */
static void close_flow(int flow) {
    for (int i = 0; i < 2; i++) {
        if (!pair.flow[flow].handle[i])
            return;
        pair_gather(&pair, i);
        CHECK(dp_flow_close(pair.side[i].node, pair.flow[flow].handle[i], true) == DP_OK);
        pair.flow[flow].handle[i] = 0;
    }
}

/* Numbers are free again once nothing of the old flow is under way. */
static void open_flow(int flow, uint8_t priority) {
    if (pair.flow[flow].handle[0])
        return;
    pair_run(&pair);
    for (int i = 0; i < 2; i++)
        CHECK(dp_flow_bury(pair.side[i].node, pair.side[i].link, (uint8_t)(10 + flow + i)) ==
              DP_OK);
    pair_flow_both(&pair, flow, WINDOW, priority % DP_CLASS_COUNT);
}

static void send_control(int from, size_t len) {
    static const uint8_t ZEROS[DP_CONTROL_MAX];
    struct pair_side *side = &pair.side[from];
    if (dp_link_control(side->node, side->link, CONTROL, ZEROS, len % DP_CONTROL_MAX) == DP_OK)
        controls[1 - from]++;
}

static void step(const uint8_t *s) {
    int i = s[1] & 1, flow = s[1] >> 1 & 3;
    uint32_t arg = load16(s + 2);
    bool is_open = pair.flow[flow].handle[0] != 0;
    switch (s[0] % 11) {
    case 0:
        (void)pair_produce(&pair, i, arg);
        break;
    case 1: /* few bytes */
        CHECK(pair_deliver(&pair, i, s[2]) == DP_OK);
        break;
    case 2:
        CHECK(pair_deliver(&pair, i, arg) == DP_OK);
        break;
    case 3:
        pair_gather(&pair, i);
        break;
    case 4: /* many small ones */
        (void)(is_open && pair_send(&pair, i, flow, s[2], s[3]));
        break;
    case 5:
        (void)(is_open && pair_send(&pair, i, flow, 1, arg % (WINDOW + 1)));
        break;
    case 6:
        if (is_open)
            pair_consume(&pair, i, flow);
        break;
    case 7:
        is_open &&s[3] % 4 == 0 ? close_flow(flow) : open_flow(flow, s[2]);
        break;
    case 8:
        send_control(i, arg);
        break;
    case 10:
        (void)(is_open && pair_send_epoch(&pair, i, flow));
        break;
    default:
        pair.now_ms += s[2];
        (void)dp_node_tick(pair.side[i].node, pair.now_ms);
        break;
    }
}

static void check_lane(int flow, int from) {
    const struct pair_lane *lane = &pair.flow[flow].lane[from];
    const struct flow *f =
        table_get_short(&pair.side[from].node->flows, pair.flow[flow].handle[from]);
    CHECK(lane->received == lane->sent && lane->received_bytes == lane->sent_bytes);
    CHECK(f->send.sent.bytes == lane->sent_bytes && f->send.confirmed.bytes == lane->sent_bytes);
    const struct flow *to =
        table_get_short(&pair.side[1 - from].node->flows, pair.flow[flow].handle[1 - from]);
    CHECK(f->send.confirmed.datagrams == lane->sent && lane->epoch_received == lane->epoch_sent);
    CHECK(f->send.limit >= lane->sent_bytes + WINDOW && f->send.limit == to->receive.limit);
    CHECK(lane->limit == f->send.limit && !f->send.head);
}

static void settle(void) {
    pair_run(&pair);
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        for (int i = 0; i < 2 && pair.flow[flow].handle[0]; i++)
            pair_consume(&pair, i, flow);
    pair_run(&pair);
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        for (int i = 0; i < 2 && pair.flow[flow].handle[0]; i++)
            check_lane(flow, i);
    for (int i = 0; i < 2; i++) {
        const struct pair_seen *seen = &pair.side[i].seen;
        CHECK(!seen->down && !seen->refused && seen->control == 1 + controls[i]);
        CHECK(pair_state(&pair, i) == DP_LINK_OPEN && pair.side[i].kept == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dp_node_config config = pair_config();
    config.rekey_bytes = 20000;
    config.rekey_ms = 1000;
    config.window_max = 5 * WINDOW;
    config.idle_ms = UINT32_MAX; /* steps of time are not the matter here */
    controls[0] = controls[1] = 0;
    pair_open(&pair, &config);
    for (int flow = 0; flow < 3; flow++)
        pair_flow_both(&pair, flow, WINDOW, (uint8_t)flow);
    for (size_t n = 0; n < STEPS_MAX && size >= STEP; n++, data += STEP, size -= STEP)
        step(data);
    settle();
    pair_free(&pair);
    return 0;
}
