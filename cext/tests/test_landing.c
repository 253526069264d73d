/* Pieces of large datagrams are opened where they belong. Whatever comes instead of the piece that was
 * expected, what stands there already stays as it was; the pair's application checks every byte. */
#include "link_pair.h"

enum { WINDOW = 1 << 22, NUMBER = 11, OTHER = 12, WHOLE = 70000, HALF = 30000 };

static struct pair pair;

static void open_two(void) {
    struct dp_node_config config = pair_config();
    pair_open(&pair, &config);
    pair_flow_both(&pair, 0, WINDOW, DP_NORMAL);
    pair_flow_both(&pair, 1, WINDOW, DP_NORMAL);
}

/* Streams of one length, with small datagrams of another flow between every few. */
static void test_streams(void) {
    static const struct {
        int id;
        uint32_t len, count, others;
        bool alone; /* all frames are single pieces */
    } ROWS[] = {
        {1, 1 << 16, 12, 0, true}, {2, 1 << 20, 3, 0, true},       {3, 40000, 20, 0, false},
        {4, 1 << 16, 12, 3, true}, {5, (1 << 16) + 1, 9, 0, true}, {6, 100000, 10, 2, false},
        {7, 32779, 30, 1, false},
    };
    for (size_t r = 0; r < sizeof ROWS / sizeof ROWS[0]; r++) {
        open_two();
        for (uint32_t n = 0; n < ROWS[r].count; n++) {
            CHECK_ROW(ROWS[r].id, pair_send(&pair, 0, 0, 1, ROWS[r].len));
            if (ROWS[r].others && n % ROWS[r].others == 0)
                CHECK_ROW(ROWS[r].id, pair_send(&pair, 0, 1, 2, 100));
            if (n % 2)
                pair_run(&pair);
        }
        pair_run(&pair);
        CHECK_ROW(ROWS[r].id, pair.flow[0].lane[0].received == ROWS[r].count);
        CHECK_ROW(ROWS[r].id, pair.flow[1].lane[0].received == pair.flow[1].lane[0].sent);
        if (ROWS[r].alone && !ROWS[r].others)
            CHECK_ROW(ROWS[r].id, pair_link(&pair, 1)->streaming == 1 + NUMBER);
        pair_free(&pair);
    }
}

/* --- what came instead ------------------------------------------------------------------------------ */

static uint8_t plain[DP_FRAME_MAX];
static size_t plain_len;

/* The application of side 0 has sent a datagram of `len` bytes on flow 0. */
static void sent(uint32_t len) {
    struct pair_lane *lane = &pair.flow[0].lane[0];
    lane->len[lane->sent++] = len;
}

static void put_bytes(uint32_t n, size_t from, size_t len) {
    for (size_t i = 0; i < len; i++)
        plain[plain_len++] = pair_byte(0, 0, n, from + i);
}

static void put_first(uint32_t n, uint32_t total, uint16_t len) {
    plain_len += segment_put_first(plain + plain_len, NUMBER, (uint16_t)(n % 7), total, len);
    put_bytes(n, 0, len);
}

static void put_next(uint8_t channel, uint32_t n, size_t from, uint16_t len) {
    plain_len += segment_put_next(plain + plain_len, channel, len);
    put_bytes(n, from, len);
}

static void put_whole(uint32_t n, uint16_t len) {
    plain_len += segment_put_datagram(plain + plain_len, NUMBER, (uint16_t)(n % 7), len);
    put_bytes(n, 0, len);
}

static int inject(void) {
    pair_inject(&pair, 1, plain, plain_len);
    plain_len = 0;
    return pair_deliver(&pair, 1, PAIR_WIRE);
}

/* A frame whose tag is wrong. */
static int inject_forged(void) {
    pair_inject(&pair, 1, plain, plain_len);
    pair.side[1].wire[pair.side[1].on_wire - 1] ^= 1;
    plain_len = 0;
    return pair_deliver(&pair, 1, PAIR_WIRE);
}

/* Datagram 0 is there, small and whole; of datagram 1 the first piece, or with `whole` all of it, and
 * all in one record that still grows. */
static void begin(bool whole) {
    open_two();
    sent(5);
    put_whole(0, 5);
    CHECK(inject() == DP_OK);
    sent(WHOLE);
    put_first(1, WHOLE, HALF);
    CHECK(inject() == DP_OK);
    if (!whole)
        return;
    put_next(NUMBER, 1, HALF, HALF);
    CHECK(inject() == DP_OK);
    put_next(NUMBER, 1, 2 * HALF, WHOLE - 2 * HALF);
    CHECK(inject() == DP_OK);
}

/* What follows of datagram `n`. */
static void put_rest(uint32_t n, size_t have) {
    for (size_t total = pair.flow[0].lane[0].len[n], piece; have < total; have += piece) {
        piece = total - have < HALF ? total - have : HALF;
        put_next(NUMBER, n, have, (uint16_t)piece);
        CHECK(inject() == DP_OK);
    }
}

/* Row `row` of what comes instead of NEXT; what is said to it, and how much of datagram 1 is there. */
static int instead_of_next(int row, size_t *have) {
    *have = HALF;
    switch (row) {
    case 0: /* what was expected */
        put_next(NUMBER, 1, HALF, HALF);
        *have += HALF;
        return inject();
    case 1: /* two pieces */
        put_next(NUMBER, 1, HALF, 100);
        put_next(NUMBER, 1, HALF + 100, 7);
        *have += 107;
        return inject();
    case 2: /* a sign of life, and padding of the length that was expected */
        plain_len = segment_put_ping(plain, SEGMENT_PING, 7);
        plain[plain_len] = SEGMENT_PADDING;
        memset(plain + plain_len + 1, 0, 1000);
        plain_len += 1001;
        return inject();
    case 3: /* less than a header */
        plain[plain_len++] = SEGMENT_PADDING;
        return inject();
    case 4:
        put_next(OTHER, 1, 0, 50);
        return inject();
    case 5: /* more than belongs to it */
        put_next(NUMBER, 1, HALF, DP_FRAME_MAX - NEXT_HEADER);
        CHECK(inject() == DP_OK);
        put_next(NUMBER, 1, 0, DP_FRAME_MAX - NEXT_HEADER);
        return inject();
    case 6: /* a piece within a piece's length */
        put_next(NUMBER, 1, HALF, 100);
        store16(plain + 2, 101);
        return inject();
    case 7:
        put_whole(1, 9);
        return inject();
    default:
        put_next(NUMBER, 1, HALF, HALF);
        return inject_forged();
    }
}

static void test_instead_of_next(void) {
    static const int ANSWERS[] = {DP_OK,        DP_OK,         DP_OK,
                                  DP_OK,        DP_E_DATAGRAM, DP_E_DATAGRAM,
                                  DP_E_SEGMENT, DP_E_DATAGRAM, DP_E_AUTH};
    for (int row = 0; row < (int)(sizeof ANSWERS / sizeof ANSWERS[0]); row++) {
        size_t have;
        begin(false);
        CHECK_ROW(row, instead_of_next(row, &have) == ANSWERS[row]);
        if (ANSWERS[row] == DP_OK)
            put_rest(1, have);
        pair_gather(&pair, 1);
        CHECK_ROW(row, pair.flow[0].lane[0].received == (ANSWERS[row] == DP_OK ? 2 : 1));
        pair_free(&pair);
    }
}

/* After a large datagram another of its length is expected, behind it in the same record. */
static void test_instead_of_first(void) {
    static const int ANSWERS[] = {DP_OK, DP_OK, DP_OK, DP_OK, DP_E_DATAGRAM, DP_E_AUTH, DP_OK};
    static const uint32_t LENGTHS[] = {WHOLE, 50000, 50, WHOLE, WHOLE, WHOLE, 400000};
    for (int row = 0; row < (int)(sizeof ANSWERS / sizeof ANSWERS[0]); row++) {
        begin(true);
        if (row == 3) /* the record has left */
            pair_gather(&pair, 1);
        sent(LENGTHS[row]);
        if (row == 2)
            put_whole(2, 50);
        else if (row == 4)
            put_next(NUMBER, 2, 0, HALF);
        else
            put_first(2, LENGTHS[row], HALF);
        CHECK_ROW(row, (row == 5 ? inject_forged() : inject()) == ANSWERS[row]);
        if (ANSWERS[row] == DP_OK && row != 2)
            put_rest(2, HALF);
        pair_gather(&pair, 1);
        CHECK_ROW(row, pair.flow[0].lane[0].received == (ANSWERS[row] == DP_OK ? 3 : 2));
        pair_free(&pair);
    }
}

/* A flow whose datagrams came in pieces keeps no buffer while it is idle. */
static void test_idle(void) {
    begin(true);
    pair_gather(&pair, 1);
    CHECK(pair_stats(&pair, 1).buffer_bytes == 0);
    plain_len = segment_put_ping(plain, SEGMENT_PING, 7);
    memset(plain + plain_len, SEGMENT_PADDING, 1000);
    plain_len += 1000;
    CHECK(inject() == DP_OK && pair_stats(&pair, 1).buffer_bytes == 0);
    pair_free(&pair);
}

int main(void) {
    test_streams();
    test_instead_of_next();
    test_instead_of_first();
    test_idle();
    return check_report();
}
