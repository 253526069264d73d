/* From READY to OPEN: what a link reads and when both sides count as admitted. */
#include "shake_pair.h"

static struct pair pair;

static void ready(int way) {
    pair_start(&pair);
    pair_dial(&pair, way, false);
    pair_run(&pair);
    pair_check_ready(&pair, 0, way);
    pair_check_ready(&pair, 1, way);
}

static bool established(int i) {
    return pair_stats(&pair, i).handshakes_done == 1;
}

/* A frame with a control datagram of type 2, which carries one byte. */
static int inject_control(int to) {
    static const uint8_t PLAIN[] = {1, 0xff, 2, 0, 1, 0, 'x'};
    pair_inject(&pair, to, PLAIN, sizeof PLAIN);
    return pair_hand(&pair, to);
}

/* Each side admits in turn: who is second finds the other's first control datagram read already. */
static void test_order(void) {
    for (int way = 0; way < PAIR_WAYS; way++)
        for (int first = 0; first < 2; first++) {
            int second = 1 - first;
            ready(way);
            pair_admit(&pair, first);
            pair_run(&pair);
            CHECK_ROW(way, pair.side[second].seen.control == 1 && !established(second));
            CHECK_ROW(way, pair_state(&pair, second) == DP_LINK_READY);
            CHECK_ROW(way, pair.side[first].seen.control == 0 && !established(first));
            CHECK_ROW(way, pair_state(&pair, first) == DP_LINK_OPEN);
            CHECK_ROW(way, pair_stats(&pair, 1).handshakes_pending == 1);
            pair_admit(&pair, second);
            CHECK_ROW(way, established(second) && pair_state(&pair, second) == DP_LINK_OPEN);
            CHECK_ROW(way, dp_link_admit(pair.side[second].node, pair.side[second].link, NULL, 0) ==
                               DP_E_STATE);
            pair_run(&pair);
            CHECK_ROW(way, pair.side[first].seen.control == 1 && established(first));
            for (int i = 0; i < 2; i++)
                CHECK_ROW(way, pair_stats(&pair, i).handshakes_pending == 0);
            CHECK_ROW(way, dp_node_tick(pair.side[0].node, pair.now_ms + 10000) ==
                               pair.now_ms + 20000); /* the handshake's deadline is off */
            pair_free(&pair);
        }
}

/* It reads on until the first control datagram is whole, and then not a byte. */
static void test_rest(void) {
    static const uint8_t FIRST[] = {2, 0xff, 1, 0, 3, 0, 0, 0, 1, 0, 'a'};
    static const uint8_t NEXT[] = {3, 0xff, 2, 0, 'b', 'c'};
    for (int to = 0; to < 2; to++) {
        struct pair_side *side = &pair.side[to];
        ready(PAIR_IK);
        pair_inject(&pair, to, FIRST, sizeof FIRST);
        CHECK(pair_hand(&pair, to) == DP_OK && side->on_wire == 0 && side->seen.control == 0);
        CHECK(link_may_read(pair_link(&pair, to)));
        pair_inject(&pair, to, NEXT, sizeof NEXT);
        CHECK(pair_hand(&pair, to) == DP_OK && side->on_wire == 0);
        CHECK(side->seen.control == 1 && side->seen.control_len == 3);
        CHECK(!link_may_read(pair_link(&pair, to)));
        for (int n = 0; n < 3; n++)
            CHECK(inject_control(to) == DP_OK && side->seen.control == 1);
        size_t waiting = side->on_wire;
        CHECK(waiting > 0);
        pair_admit(&pair, to);
        for (unsigned n = 0; n < 3; n++)
            CHECK(pair_hand(&pair, to) == DP_OK && side->seen.control == 2 + n);
        CHECK(side->on_wire == 0);
        pair_free(&pair);
    }
}

/* Admitted while its control datagram is being handled: it goes on when the events are done. */
static void test_admit_within_events(void) {
    const struct dp_event *events;
    ready(PAIR_XX);
    pair_admit(&pair, 0);
    CHECK(pair_produce(&pair, 0, 0) > 0 && pair_deliver(&pair, 1, PAIR_WIRE) == DP_OK);
    CHECK(dp_node_events(pair.side[1].node, &events) == 1 && events[0].kind == DP_EVENT_CONTROL);
    pair_admit(&pair, 1);
    CHECK(established(1) && !link_may_read(pair_link(&pair, 1)));
    dp_node_events_done(pair.side[1].node);
    CHECK(link_may_read(pair_link(&pair, 1)));
    pair_run(&pair);
    CHECK(established(0));
    pair_free(&pair);
}

/* Before it is admitted a link hears a refusal, answers a ping, and takes no datagram. */
static void test_before(void) {
    static const struct {
        int id;
        size_t len;
        uint8_t plain[9];
        int rc;
    } ROWS[] = {
        {1, 3, {8, 4, 0}, DP_E_CLOSED},
        {2, 9, {5, 1, 2, 3, 4, 5, 6, 7, 8}, DP_OK},
        {3, 6, {1, 7, 0, 0, 0, 0}, DP_E_CHANNEL},
        {4, 1, {7}, DP_OK},
        {5, 2, {0, 0}, DP_OK},
    };
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        ready(PAIR_RESUME);
        pair_inject(&pair, 1, ROWS[row].plain, ROWS[row].len);
        CHECK_ROW(ROWS[row].id, pair_hand(&pair, 1) == ROWS[row].rc);
        CHECK_ROW(ROWS[row].id, pair.side[1].seen.down == (ROWS[row].rc != DP_OK));
        CHECK_ROW(ROWS[row].id, ROWS[row].rc != DP_E_CLOSED || pair.side[1].seen.reason == 4);
        bool answers = ROWS[row].plain[0] == 5 || ROWS[row].rc == DP_E_CHANNEL;
        CHECK_ROW(ROWS[row].id, (pair_produce(&pair, 1, 0) > 0) == answers);
        pair_free(&pair);
    }
}

/* A peer that only pings is not one that admits: the deadline stays. */
static void test_never_admitted(void) {
    ready(PAIR_IK);
    pair_admit(&pair, 1);
    for (int second = 1; second < 10; second++) {
        static const uint8_t PING[9] = {5};
        pair.now_ms += 1000;
        pair_inject(&pair, 1, PING, sizeof PING);
        pair_run(&pair);
        (void)dp_node_tick(pair.side[1].node, pair.now_ms);
        CHECK(pair_state(&pair, 1) == DP_LINK_OPEN);
    }
    pair.now_ms += 1000;
    (void)dp_node_tick(pair.side[1].node, pair.now_ms);
    pair_run(&pair);
    CHECK(pair.side[1].seen.down == 1 && pair.side[1].seen.status == DP_E_TIMEOUT);
    CHECK(pair_stats(&pair, 1).handshakes_failed == 1 && pair.side[0].seen.down == 0);
    pair_admit(&pair, 0); /* it rested, and now reads why */
    pair_run(&pair);
    CHECK(pair.side[0].seen.status == DP_E_CLOSED && pair.side[0].seen.reason == 9);
    pair_free(&pair);
}

static void test_ping(void) {
    pair_start(&pair);
    pair_dial(&pair, PAIR_XX, false);
    dp_node *node = pair.side[0].node;
    uint64_t link = pair.side[0].link;
    CHECK(dp_link_ping(node, link) == DP_E_STATE);
    pair_run(&pair);
    CHECK(dp_link_ping(node, link) == DP_E_STATE);
    pair_admit(&pair, 0);
    pair_admit(&pair, 1);
    pair_run(&pair);
    uint64_t heard = pair_info(&pair, 0).bytes_in;
    CHECK(dp_link_ping(node, link) == DP_OK && dp_link_ping(node, link) == DP_OK);
    pair_run(&pair);
    CHECK(pair_info(&pair, 0).bytes_in == heard + FRAME_OVERHEAD + 9);
    CHECK(pair_info(&pair, 1).bytes_in == pair_info(&pair, 0).bytes_out);
    pair_end(&pair);
    CHECK(dp_link_ping(node, link) == DP_E_ARGUMENT);
    pair_free(&pair);
}

int main(void) {
    test_order();
    test_rest();
    test_admit_within_events();
    test_before();
    test_never_admitted();
    test_ping();
    return check_report();
}
