/* What of a peer's CREDIT an application is told of: all that lets it go on, and no more, since what it
 * does not read stays in the node's process. */
#include "link_pair.h"

enum { FLOOD = 2000, WINDOW = 20000, LARGEST = 1000 };

static struct pair pair;

static void open_all(void) {
    struct dp_node_config config = pair_config();
    config.window_max = 4 * WINDOW;
    pair_open(&pair, &config);
    for (int i = 0; i < 2; i++) {
        struct dp_flow_config c = {.sink = pair.side[i].sink,
                                   .number = 1,
                                   .peer_number = 1,
                                   .priority = DP_NORMAL,
                                   .weight = 1,
                                   .max_datagram = LARGEST,
                                   .types = 7,
                                   .window = WINDOW,
                                   .peer_window = WINDOW};
        pair.flow[0].lane[i].limit = WINDOW;
        CHECK(dp_flow_open(pair.side[i].node, pair.side[i].link, &c, &pair.flow[0].handle[i]) ==
              DP_OK);
    }
}

/* The peer says CREDIT and the application reads nothing. */
static void credit(uint32_t window, uint64_t datagrams, uint64_t bytes) {
    uint8_t segment[CREDIT_SIZE];
    segment_put_credit(segment, 1, window, datagrams, bytes);
    pair_inject(&pair, 0, segment, sizeof segment);
    CHECK(pair_deliver(&pair, 0, PAIR_WIRE) == DP_OK);
    CHECK(dp_node_collect(pair.side[0].node) == DP_OK);
}

/* Records for it until now; the last one's position and window add up to *limit. */
static unsigned told(uint64_t *limit) {
    struct dp_output out;
    unsigned records = 0;
    while (dp_node_output(pair.side[0].node, &out)) {
        for (size_t at = 0; at < out.len; at += load32(out.data + at), records++)
            *limit = load64(out.data + at + 24) + load32(out.data + at + 12);
        dp_node_output_done(pair.side[0].node);
    }
    return records;
}

/* Windows that swing, or creep up byte by byte, confirmation that creeps up: few records. */
static void test_flood(void) {
    uint64_t limit = 0;
    open_all();
    CHECK(pair_send(&pair, 0, 0, 10, LARGEST - DP_DATAGRAM_COST));
    pair_run(&pair);
    for (uint32_t n = 0; n < FLOOD; n++)
        credit(WINDOW, 0, 0);
    for (uint32_t n = 0; n < FLOOD; n++)
        credit(n & 1 ? WINDOW : 0, 0, 0);
    CHECK(told(&limit) == 0);
    for (uint32_t n = 0; n < FLOOD; n++)
        credit(WINDOW + n, 0, n);
    CHECK(told(&limit) == 3 && limit <= WINDOW + 2 * (FLOOD - 1) &&
          limit > WINDOW + 2 * FLOOD - 1026);
    CHECK(pair_stats(&pair, 0).buffer_bytes == 0);
    pair_free(&pair);
}

/* Who waits for credit for one datagram hears of it, however small the step; who has credit for one
 * hears when there is more. */
static void test_news(void) {
    uint64_t limit = 0;
    open_all();
    while (pair_send(&pair, 0, 0, 1, LARGEST - DP_DATAGRAM_COST))
        continue;
    pair_run(&pair);
    CHECK(pair.flow[0].lane[0].sent_bytes == WINDOW && told(&limit) == 0);
    credit(WINDOW + LARGEST + DP_DATAGRAM_COST - 1, 0, 0);
    CHECK(told(&limit) == 0); /* not enough yet */
    credit(WINDOW + LARGEST + DP_DATAGRAM_COST, 0, 0);
    CHECK(told(&limit) == 1 && limit == WINDOW + LARGEST + DP_DATAGRAM_COST);
    credit(0, 1, LARGEST);
    CHECK(told(&limit) == 1 && limit == LARGEST); /* what is confirmed is always told, */
    credit(WINDOW, 1, LARGEST);
    CHECK(told(&limit) == 1 && limit == WINDOW + LARGEST); /* and that it may go on */
    pair_free(&pair);
}

int main(void) {
    test_flood();
    test_news();
    return check_report();
}
