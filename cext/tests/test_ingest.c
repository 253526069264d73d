/* Messages of applications: what is refused, that a refusal changes nothing, and when a message is
 * given back. */
#include "link_pair.h"

enum { WINDOW = 1000, MESSAGE = 4096 };

static struct pair pair;
static uint8_t message[MESSAGE];
static uint32_t foreign; /* a flow of another application */

static const struct send_state *sending(void) {
    const struct flow *f = table_get_short(&pair.side[0].node->flows, pair.flow[0].handle[0]);
    return &f->send;
}

/* One flow of this application, with 3 datagrams (of cost 66) received; one flow of another. */
static void start(void) {
    struct dp_node_config config = pair_config();
    uint32_t sink;
    pair_open(&pair, &config);
    pair_flow_both(&pair, 0, WINDOW, DP_NORMAL);
    CHECK(pair_send(&pair, 1, 0, 3, 50));
    pair_run(&pair);
    CHECK(dp_sink_open(pair.side[0].node, &sink) == DP_OK);
    struct dp_flow_config c = {sink, 100, 100, DP_NORMAL, 1, 100, 7, WINDOW, WINDOW, 0, 0, {{0}}};
    CHECK(dp_flow_open(pair.side[0].node, pair.side[0].link, &c, &foreign) == DP_OK);
}

/* DATA of `count` datagrams of `len` bytes for our flow at `out`. */
static size_t data_record(uint8_t *out, uint32_t count, uint32_t len, uint16_t type) {
    uint32_t payload = count * len;
    size_t column = DATA_RECORD_HEADER + payload + (-payload & 3);
    size_t size = column + 6 * (size_t)count + 2 * (count & 1);
    memset(out, 0, size);
    pair_header(out, size, RECORD_DATA, pair.flow[0].handle[0]);
    store32(out + 12, count);
    store32(out + 16, payload);
    for (uint32_t i = 0; i < count; i++) {
        store32(out + column + 4 * (size_t)i, len);
        store16(out + column + 4 * (size_t)count + 2 * (size_t)i, type);
    }
    return size;
}

static size_t consumed_record(uint8_t *out, uint64_t datagrams, uint64_t bytes) {
    pair_header(out, 32, RECORD_CONSUMED, pair.flow[0].handle[0]);
    store32(out + 12, 0);
    store64(out + 16, datagrams);
    store64(out + 24, bytes);
    return 32;
}

/* Whether the message is refused with `rc`, told so `times`, and nothing else has changed. */
static bool refused(size_t len, int rc, unsigned times) {
    struct pair_side *side = &pair.side[0];
    struct send_state before = *sending();
    struct flow *f = table_get_short(&side->node->flows, pair.flow[0].handle[0]);
    struct position consumed = f->receive.consumed;
    side->seen.refused = 0;
    pair_ingest(side, message, len);
    bool same = memcmp(&before, sending(), sizeof before) == 0 && side->kept == 0 &&
                memcmp(&consumed, &f->receive.consumed, sizeof consumed) == 0;
    pair_gather(&pair, 0);
    return same && side->seen.refused == times && side->seen.refusal == rc;
}

/* --- malformed records ------------------------------------------------------------------------------- */

/* A good record of 3 datagrams of 20 bytes, type 2, with `width` bytes at `at` set to `value`. */
static void test_malformed_data(void) {
    static const struct {
        int id, at, width;
        uint32_t value;
        int rc;
    } ROWS[] = {
        {1, 0, 4, 0, DP_E_BATCH},
        {2, 0, 4, 8, DP_E_BATCH},
        {3, 0, 4, 99, DP_E_BATCH},
        {4, 0, 4, 101, DP_E_BATCH},
        {5, 0, 4, 96, DP_E_BATCH},
        {6, 0, 4, 104, DP_E_BATCH},
        {7, 0, 4, UINT32_MAX, DP_E_BATCH},
        {8, 0, 4, 12, DP_E_BATCH},
        {9, 4, 2, 0, DP_E_BATCH},
        {10, 4, 2, RECORD_CREDIT, DP_E_BATCH},
        {11, 4, 2, RECORD_CONSUMED, DP_E_BATCH},
        {12, 4, 2, 0x103, DP_E_BATCH},
        {13, 6, 2, 1, DP_E_BATCH},
        {14, 8, 4, 0, DP_E_CHANNEL},
        {15, 8, 4, UINT32_MAX, DP_E_CHANNEL},
        {16, 12, 4, 0, DP_E_BATCH},
        {17, 12, 4, 2, DP_E_BATCH},
        {18, 12, 4, 4, DP_E_BATCH},
        {19, 12, 4, UINT32_MAX, DP_E_BATCH},
        {20, 16, 4, 59, DP_E_BATCH},
        {21, 16, 4, 61, DP_E_BATCH},
        {22, 16, 4, UINT32_MAX, DP_E_BATCH},
        {23, 80, 4, 19, DP_E_BATCH},
        {24, 80, 4, 21, DP_E_BATCH},
        {25, 80, 4, WINDOW + 1, DP_E_DATAGRAM},
        {26, 80, 4, UINT32_MAX, DP_E_DATAGRAM},
        {27, 92, 2, 7, DP_E_DATAGRAM},
        {28, 96, 2, 65535, DP_E_DATAGRAM},
    };
    start();
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        size_t size = data_record(message, 3, 20, 2);
        CHECK(size == 100);
        memcpy(message + ROWS[i].at,
               (uint8_t[]){(uint8_t)ROWS[i].value, (uint8_t)(ROWS[i].value >> 8),
                           (uint8_t)(ROWS[i].value >> 16), (uint8_t)(ROWS[i].value >> 24)},
               (size_t)ROWS[i].width);
        bool framing = ROWS[i].id == 5 || ROWS[i].id == 8; /* what follows is no record */
        CHECK_ROW(ROWS[i].id, refused(size, ROWS[i].rc, framing ? 2 : 1));
    }
    pair_free(&pair);
}

/* Cut anywhere: refused as a whole. */
static void test_truncation(void) {
    start();
    size_t size = data_record(message, 3, 20, 2);
    for (size_t len = 1; len < size; len++)
        CHECK_ROW(len, refused(len, DP_E_BATCH, 1));
    pair.side[0].seen.refusal = DP_OK;
    CHECK(refused(0, DP_OK, 0));
    pair_free(&pair);
}

static void test_consumed(void) {
    static const struct {
        int id;
        uint64_t datagrams, bytes;
        int rc;
    } ROWS[] = {
        {1, 4, 198, DP_E_CREDIT},
        {2, 3, 199, DP_E_CREDIT},
        {3, UINT64_MAX, UINT64_MAX, DP_E_CREDIT},
        {4, 1, 66, DP_OK},
        {5, 0, 66, DP_E_CREDIT},
        {6, 1, 65, DP_E_CREDIT},
        {7, 1, 66, DP_OK},
        {8, 3, 198, DP_OK},
    };
    start();
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        size_t size = consumed_record(message, ROWS[i].datagrams, ROWS[i].bytes);
        if (ROWS[i].rc != DP_OK) {
            CHECK_ROW(ROWS[i].id, refused(size, ROWS[i].rc, 1));
            continue;
        }
        pair.flow[0].lane[1].consumed_bytes = ROWS[i].bytes;
        pair_ingest(&pair.side[0], message, size);
        pair_run(&pair);
        CHECK_ROW(ROWS[i].id, pair.flow[0].lane[1].limit == ROWS[i].bytes + WINDOW);
    }
    store32(message, 28);
    CHECK(refused(28, DP_E_BATCH, 1));
    pair_free(&pair);
}

/* --- EPOCH ------------------------------------------------------------------------------------------- */

static size_t epoch_record(uint8_t *out, uint64_t epoch, uint64_t datagrams, uint64_t bytes) {
    pair_header(out, EPOCH_RECORD_SIZE, RECORD_EPOCH, pair.flow[0].handle[0]);
    store32(out + 12, 0);
    store64(out + 16, epoch);
    store64(out + 24, datagrams);
    store64(out + 32, bytes);
    return EPOCH_RECORD_SIZE;
}

/* In front of all DATA, in one message with it: once, without credit, and the peer has it first. */
static void test_epoch(void) {
    start();
    size_t size = epoch_record(message, 7, 8, 9);
    store32(message + 12, 1);
    CHECK(refused(size, DP_E_BATCH, 1));
    store32(message + 12, 0);
    store32(message, size - 4);
    CHECK(refused(size - 4, DP_E_BATCH, 1));
    size = epoch_record(message, UINT64_MAX, 8, UINT64_MAX);
    size += data_record(message + size, 1, WINDOW - 16, 0);
    pair_ingest(&pair.side[0], message, size);
    CHECK(sending()->epoch && sending()->accepted.bytes == WINDOW && pair.side[0].kept == 1);
    pair.flow[0].lane[0].sent = 1; /* what pair_send would have noted */
    pair.flow[0].lane[0].len[0] = WINDOW - 16;
    CHECK(pair_produce(&pair, 0, 0) && pair_deliver(&pair, 1, PAIR_WIRE) == DP_OK);
    struct dp_output out;
    CHECK(dp_node_collect(pair.side[1].node) == DP_OK && dp_node_output(pair.side[1].node, &out));
    CHECK(load16(out.data + 4) == RECORD_EPOCH && load32(out.data) == EPOCH_RECORD_SIZE);
    CHECK(load32(out.data + 8) == pair.flow[0].handle[1] && load32(out.data + 12) == 0);
    CHECK(memcmp(out.data + 16, message + 16, EPOCH_BODY) == 0);
    CHECK(out.len > EPOCH_RECORD_SIZE && load16(out.data + EPOCH_RECORD_SIZE + 4) == RECORD_DATA);
    dp_node_output_done(pair.side[1].node);
    pair.flow[0].handle[1] = 0;
    pair_run(&pair);
    CHECK(refused(epoch_record(message, 1, 0, 0), DP_E_STATE, 1));
    pair_free(&pair);
}

/* One alone is enough to make another, or one behind DATA, too late. */
static void test_late_epoch(void) {
    start();
    size_t size = epoch_record(message, 1, 0, 0);
    pair_ingest(&pair.side[0], message, size);
    CHECK(pair.side[0].kept == 1);
    pair.flow[0].handle[1] = 0;
    pair_run(&pair);
    CHECK(pair.side[0].kept == 0 && refused(size, DP_E_STATE, 1));
    pair_free(&pair);
    start();
    CHECK(pair_send(&pair, 0, 0, 1, 0));
    pair_run(&pair);
    CHECK(refused(epoch_record(message, 1, 0, 0), DP_E_STATE, 1));
    pair_free(&pair);
}

/* --- flows and credit -------------------------------------------------------------------------------- */

static void test_foreign_flow(void) {
    start();
    size_t size = data_record(message, 1, 20, 2);
    store32(message + 8, foreign);
    CHECK(refused(size, DP_E_CHANNEL, 1));
    store32(message + 8, pair.flow[0].handle[0]);
    CHECK(dp_sink_ingest(pair.side[0].node, 0, 1, message, size, &(bool){false}) == DP_E_ARGUMENT);
    CHECK(dp_flow_close(pair.side[0].node, pair.flow[0].handle[0], false) == DP_OK);
    pair_ingest(&pair.side[0], message, size);
    pair_gather(&pair, 0);
    CHECK(pair.side[0].seen.refusal == DP_E_CHANNEL && pair.side[0].kept == 0);
    pair_free(&pair);
}

/* The whole window, and not a byte more, until the peer's application has consumed. */
static void test_credit(void) {
    start();
    CHECK(refused(data_record(message, 1, WINDOW - 15, 0), DP_E_CREDIT, 1));
    CHECK(pair_send(&pair, 0, 0, 1, WINDOW - 16) && pair.side[0].kept == 1);
    CHECK(sending()->accepted.bytes == WINDOW && sending()->limit == WINDOW);
    CHECK(!pair_send(&pair, 0, 0, 1, 0));
    size_t size = data_record(message, 1, 0, 0);
    pair_ingest(&pair.side[0], message, size);
    pair_run(&pair);
    CHECK(pair.side[0].seen.refusal == DP_E_CREDIT && pair.flow[0].lane[0].received == 1);
    pair_consume(&pair, 1, 0);
    pair_run(&pair);
    CHECK(pair_send(&pair, 0, 0, 10, 84));
    pair_run(&pair);
    CHECK(pair.flow[0].lane[0].received == 11);
    pair_free(&pair);
}

/* --- messages ---------------------------------------------------------------------------------------- */

/* Bad records in front, between and behind: the good ones are sent, however many are refused. */
static void test_mixed(void) {
    static const int BAD[] = {1, 15, 16, 17, 100};
    for (size_t row = 0; row < sizeof BAD / sizeof BAD[0]; row++) {
        size_t at = 0;
        start();
        for (int i = 0; i < BAD[row]; i++)
            at += consumed_record(message + at, 99, 99);
        at += data_record(message + at, 2, 5, 0);
        at += data_record(message + at, 1, 0, 0);
        pair_ingest(&pair.side[0], message, at);
        CHECK_ROW(row, sending()->accepted.datagrams == 3 && pair.side[0].kept == 1);
        struct dp_stats stats;
        dp_node_stats(pair.side[0].node, &stats);
        CHECK_ROW(row, stats.records_refused == (uint64_t)BAD[row]);
        pair.flow[0].handle[1] = 0; /* not pair_send's: do not compare */
        pair_run(&pair);
        CHECK_ROW(row, pair.side[0].kept == 0);
        CHECK_ROW(row, pair.side[0].seen.refused == (BAD[row] < 16 ? (unsigned)BAD[row] : 16));
        pair_free(&pair);
    }
}

/* A message is given back once: when all is sent, when its flow closes, when its link ends. */
static void test_release(void) {
    for (int how = 0; how < 4; how++) {
        start();
        CHECK(pair_send(&pair, 0, 0, 2, 100) && pair_send(&pair, 0, 0, 1, 200));
        CHECK(pair.side[0].kept == 2);
        pair_released(&pair.side[0]);
        CHECK(pair.side[0].kept == 2);
        if (how == 0)
            (void)pair_produce(&pair, 0, 0);
        else if (how == 1)
            CHECK(dp_flow_close(pair.side[0].node, pair.flow[0].handle[0], false) == DP_OK);
        else if (how == 2)
            CHECK(dp_link_close(pair.side[0].node, pair.side[0].link, 1) == DP_OK);
        else
            dp_sink_close(pair.side[0].node, pair.side[0].sink);
        pair_released(&pair.side[0]);
        CHECK_ROW(how, pair.side[0].kept == 0);
        pair_free(&pair);
    }
}

int main(void) {
    test_malformed_data();
    test_truncation();
    test_consumed();
    test_epoch();
    test_late_epoch();
    test_foreign_flow();
    test_credit();
    test_mixed();
    test_release();
    return check_report();
}
