/* Caps on a pair of links: parked flows that go away in every way, what credit is granted, lifts. */
#include "link_pair.h"

static struct pair pair;

enum { WINDOW = 60000, RATE = 100000, GROUP = 7 };

static void open_pair(void) {
    struct dp_node_config config = pair_config();
    config.window_max = WINDOW;
    pair_open(&pair, &config);
}

/* Flow `flow` on both sides, in GROUP, of 1000 bytes at most. */
static void open_flow(int flow, uint8_t priority, struct dp_lift lift, uint8_t lifts) {
    for (int i = 0; i < 2; i++) {
        struct dp_flow_config c = {.sink = pair.side[i].sink,
                                   .number = (uint8_t)(10 + flow + i),
                                   .peer_number = (uint8_t)(10 + flow + 1 - i),
                                   .priority = priority,
                                   .weight = 1,
                                   .max_datagram = 1000,
                                   .types = 7,
                                   .window = WINDOW,
                                   .peer_window = WINDOW,
                                   .group = GROUP,
                                   .lift_count = lifts,
                                   .lifts = {lift}};
        pair.flow[flow].lane[i] = (struct pair_lane){.limit = WINDOW};
        CHECK(dp_flow_open(pair.side[i].node, pair.side[i].link, &c, &pair.flow[flow].handle[i]) ==
              DP_OK);
    }
}

static void plain_flow(int flow) {
    open_flow(flow, DP_NORMAL, (struct dp_lift){0, 0, 0}, 0);
}

static struct flow *flow_at(int i, int flow) {
    return table_get_short(&pair.side[i].node->flows, pair.flow[flow].handle[i]);
}

/* Let `ms` pass, one at a time. Returns the last deadline of side 0. */
static uint64_t pass(unsigned ms) {
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < ms; i++) {
        pair.now_ms++;
        for (int side = 0; side < 2; side++) {
            uint64_t due = dp_node_tick(pair.side[side].node, pair.now_ms);
            CHECK(due > pair.now_ms);
            next = side == 0 ? due : next;
        }
        pair_run(&pair);
    }
    return next;
}

/* --- the way it should go --------------------------------------------------------------------------- */

static void test_parked(void) {
    open_pair();
    plain_flow(0);
    CHECK(dp_group_limit(pair.side[0].node, GROUP, RATE, 0) == DP_OK);
    CHECK(pair_send(&pair, 0, 0, 40, 984));
    pair_run(&pair);
    struct flow *flow = flow_at(0, 0);
    CHECK(pair.flow[0].lane[0].received == 0 && flow->up.meter && !flow->ring);
    CHECK(!sched_busy(&pair_link(&pair, 0)->sched));
    uint64_t next = pass(1);
    CHECK(next <= pair.now_ms + 10); /* the engine sleeps no longer */
    pass(199);
    uint32_t half = pair.flow[0].lane[0].received;
    CHECK(half >= 19 && half <= 21);
    pass(210);
    CHECK(pair.flow[0].lane[0].received == 40 && !flow->up.meter);
    CHECK(pair.side[0].node->up.waiting == NULL);
    pair_free(&pair);
}

/* What waits for a link or the node keeps neither signals nor control back. */
static void test_control_goes_on(void) {
    for (int scope = 0; scope < 2; scope++) {
        open_pair();
        plain_flow(0);
        dp_node *node = pair.side[0].node;
        CHECK((scope ? dp_node_limit(node, 1, 0) : dp_link_limit(node, pair.side[0].link, 1, 0)) ==
              DP_OK);
        CHECK(pair_send(&pair, 0, 0, 10, 984) && pair_send(&pair, 1, 0, 5, 10));
        pass(20);
        CHECK(pair.flow[0].lane[0].received <= 3 && pair.flow[0].lane[1].received == 5);
        CHECK(pair_link(&pair, 0)->up.meter != NULL);
        CHECK(dp_link_control(node, pair.side[0].link, 9, (const uint8_t *)"x", 1) == DP_OK);
        CHECK(dp_link_ping(node, pair.side[0].link) == DP_OK);
        pair_consume(&pair, 0, 0);
        uint64_t heard = pair_link(&pair, 1)->bytes_in;
        pair_run(&pair);
        CHECK(pair.side[1].seen.control == 2 && pair_link(&pair, 1)->bytes_in > heard);
        CHECK(pair.flow[0].lane[1].limit == WINDOW + 5 * 26);
        pair_free(&pair);
    }
}

/* --- ends ------------------------------------------------------------------------------------------- */

enum end { END_FLOW, END_LINK, END_CLOSE, END_SINK, END_CAP, END_NODE, ENDS };

static void end_by(enum end how) {
    struct pair_side *side = &pair.side[0];
    switch (how) {
    case END_FLOW:
        CHECK(dp_flow_close(side->node, pair.flow[0].handle[0], true) == DP_OK);
        pair.flow[0].handle[0] = 0;
        break;
    case END_LINK:
        CHECK(dp_link_end(side->node, side->link, DP_E_EOF) == DP_OK);
        break;
    case END_CLOSE:
        CHECK(dp_link_close(side->node, side->link, 1) == DP_OK);
        break;
    case END_SINK:
        dp_sink_close(side->node, side->sink);
        break;
    case END_CAP:
        CHECK(dp_node_limit(side->node, 0, 0) == DP_OK);
        CHECK(dp_group_limit(side->node, GROUP, 0, 0) == DP_OK);
        CHECK(dp_link_limit(side->node, side->link, 0, 0) == DP_OK);
        break;
    default:
        break;
    }
}

/* Flows that wait to send, and for credit, on a link that may wait too. */
static void test_ends(void) {
    for (int scopes = 1; scopes < 8; scopes++) {
        for (enum end how = 0; how < ENDS; how++) {
            open_pair();
            plain_flow(0);
            plain_flow(2);
            dp_node *node = pair.side[0].node;
            if (scopes & 1)
                CHECK(dp_group_limit(node, GROUP, 2000, 2000) == DP_OK);
            if (scopes & 2)
                CHECK(dp_link_limit(node, pair.side[0].link, 2000, 2000) == DP_OK);
            if (scopes & 4)
                CHECK(dp_node_limit(node, 2000, 2000) == DP_OK);
            for (int flow = 0; flow < 4; flow += 2)
                for (int i = 0; i < 2; i++)
                    CHECK(pair_send(&pair, i, flow, i ? 60 : 30, 984));
            pass(50);
            for (int flow = 0; flow < 4; flow += 2)
                pair_consume(&pair, 0, flow);
            pass(3);
            CHECK_ROW(scopes, node->up.waiting && node->down.waiting);
            end_by(how);
            if (how != END_SINK)
                pass(5);
            CHECK_ROW(how, how != END_CAP || (!node->up.waiting && !node->down.waiting));
            CHECK_ROW(how, how != END_CAP || pair.flow[0].lane[0].received == 30);
            bool over = how == END_LINK || how == END_CLOSE || how == END_SINK;
            CHECK_ROW(how, !over || !node->down.waiting);
            CHECK_ROW(how, !over || !node->up.waiting || how == END_SINK); /* the link lives */
            if (how == END_SINK)
                CHECK(dp_sink_open(node, &pair.side[0].sink) == DP_OK);
            pair_free(&pair);
        }
    }
}

/* --- credit ------------------------------------------------------------------------------------------ */

/* Credit comes at the rate of the cap, also that of the offer, and what waits is not told twice. */
static void test_grants(void) {
    open_pair();
    plain_flow(0);
    struct pair_lane *lane = &pair.flow[0].lane[0];
    CHECK(dp_node_limit(pair.side[1].node, 0, RATE) == DP_OK);
    while (pair_send(&pair, 0, 0, 1, 984))
        continue;
    pass(1);
    CHECK(lane->received == 60); /* what was offered */
    pair_consume(&pair, 1, 0);
    pass(1);
    CHECK(lane->limit == WINDOW && flow_at(1, 0)->down.meter != NULL);
    CHECK(pair.flow[0].lane[0].consumed_bytes == 60000);
    pass(590); /* the offer is paid off at the end of it */
    CHECK(lane->limit == WINDOW);
    pass(118);
    CHECK(lane->limit > WINDOW + 8000 && lane->limit < WINDOW + 14000);
    pass(500);
    CHECK(lane->limit == WINDOW + RATE / 5); /* 200 ms' worth, and no more */
    CHECK(flow_at(1, 0)->down.meter == NULL);
    struct dp_usage usage;
    CHECK(dp_group_usage(pair.side[1].node, GROUP, &usage) == DP_OK);
    CHECK(usage.down_bytes == 60000 && usage.up_bytes == 0 && !usage.down_short);
    CHECK(dp_node_usage(pair.side[1].node, &usage) == DP_OK && usage.down_short);
    CHECK(dp_node_usage(pair.side[1].node, &usage) == DP_OK && !usage.down_short);
    pair_free(&pair);
}

/* --- lifts ------------------------------------------------------------------------------------------- */

/* Datagram n has type n modulo 7; type 6 is urgent. */
static void test_lifts(void) {
    open_pair();
    open_flow(0, DP_BULK, (struct dp_lift){6, 6, DP_URGENT}, 1);
    CHECK(dp_node_limit(pair.side[0].node, RATE, 0) == DP_OK);
    struct flow *flow = flow_at(0, 0);
    CHECK(flow->priority == DP_BULK);
    CHECK(pair_send(&pair, 0, 0, 6, 984) && flow->priority == DP_BULK);
    CHECK(pair_send(&pair, 0, 0, 3, 984) && flow->priority == DP_URGENT); /* the 7th of 9 */
    CHECK(pair_send(&pair, 0, 0, 4, 984) && flow->priority == DP_URGENT);
    while (flow->send.sent.datagrams < 13) {
        CHECK(flow->priority == (flow->send.sent.datagrams < 7 ? DP_URGENT : DP_BULK));
        pass(1);
    }
    CHECK(flow->priority == DP_BULK && !flow->ring);
    CHECK(pair_send(&pair, 0, 0, 1, 10) && flow->priority == DP_URGENT);
    pass(10);
    CHECK(flow->priority == DP_BULK && pair.flow[0].lane[0].received == 14);
    pair_free(&pair);
}

int main(void) {
    test_parked();
    test_control_goes_on();
    test_ends();
    test_grants();
    test_lifts();
    return check_report();
}
