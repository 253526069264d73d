/* Flows: positions may only move as far as the other side went, and how datagrams become segments. */
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "check.h"
#include "flow.h"

enum { MOST = 8, PAYLOAD = 200000 };

static struct flow flow;
static struct pool pool;
static struct blob blob;
static struct item item;
static uint8_t payload[PAYLOAD], lengths[4 * MOST], types[2 * MOST], out[DP_FRAME_MAX];

/* --- positions --------------------------------------------------------------------------------------- */

/* From sent (10, 1000) and confirmed (4, 400), window 500. */
static void test_credit(void) {
    static const struct {
        int id, rc;
        uint64_t datagrams, bytes;
        uint32_t window;
        uint64_t limit;
    } ROWS[] = {
        {1, DP_OK, 4, 400, 500, 900},
        {2, DP_OK, 5, 500, 500, 1000},
        {3, DP_OK, 10, 1000, 500, 1500},
        {4, DP_E_CREDIT, 11, 1000, 500, 900},
        {5, DP_E_CREDIT, 10, 1001, 500, 900},
        {6, DP_E_CREDIT, 3, 400, 500, 900},
        {7, DP_E_CREDIT, 4, 399, 500, 900},
        {8, DP_E_CREDIT, 3, 500, 500, 900},
        {9, DP_E_CREDIT, UINT64_MAX, UINT64_MAX, 500, 900},
        {10, DP_OK, 4, 400, 0, 900},
        {11, DP_OK, 5, 500, 100, 900}, /* never back */
        {12, DP_OK, 4, 400, UINT32_MAX, 400 + (uint64_t)UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct segment s = {.kind = SEGMENT_CREDIT,
                            .total = ROWS[i].window,
                            .datagrams = ROWS[i].datagrams,
                            .bytes = ROWS[i].bytes};
        flow = (struct flow){.send = {.sent = {10, 1000}, .confirmed = {4, 400}, .limit = 900}};
        struct flow before = flow;
        CHECK_ROW(ROWS[i].id, flow_credit(&flow, &s) == ROWS[i].rc);
        CHECK_ROW(ROWS[i].id, flow.send.limit == ROWS[i].limit);
        if (ROWS[i].rc != DP_OK)
            CHECK_ROW(ROWS[i].id, memcmp(&before, &flow, sizeof flow) == 0);
        else
            CHECK_ROW(ROWS[i].id, flow.send.confirmed.bytes == ROWS[i].bytes &&
                                      flow.send.peer_window == ROWS[i].window);
    }
}

/* From received (10, 1000), consumed (4, 400); `unfinished`: the last is of 84 bytes, cost 100. */
static void test_consume(void) {
    static const struct {
        int id;
        bool unfinished;
        uint64_t datagrams, bytes;
        int rc;
    } ROWS[] = {
        {1, false, 4, 400, DP_OK},
        {2, false, 10, 1000, DP_OK},
        {3, false, 11, 1000, DP_E_CREDIT},
        {4, false, 10, 1001, DP_E_CREDIT},
        {5, false, 3, 400, DP_E_CREDIT},
        {6, false, 5, 399, DP_E_CREDIT},
        {7, true, 9, 900, DP_OK},
        {8, true, 10, 1000, DP_E_CREDIT},
        {9, true, 9, 901, DP_E_CREDIT},
        {10, true, 10, 900, DP_E_CREDIT},
        {11, false, UINT64_MAX, UINT64_MAX, DP_E_CREDIT},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct position at = {ROWS[i].datagrams, ROWS[i].bytes};
        flow = (struct flow){.receive = {.received = {10, 1000}, .consumed = {4, 400}}};
        flow.receive.builder.total = ROWS[i].unfinished ? 84 : 0;
        struct flow before = flow;
        CHECK_ROW(ROWS[i].id, flow_consume(&flow, at) == ROWS[i].rc);
        if (ROWS[i].rc != DP_OK)
            CHECK_ROW(ROWS[i].id, memcmp(&before, &flow, sizeof flow) == 0);
        else
            CHECK_ROW(ROWS[i].id, flow.receive.consumed.bytes == at.bytes);
    }
}

/* Datagrams of at most 100 bytes, 3 types, 116 bytes of credit left. */
static void test_accept(void) {
    static const struct {
        int id;
        bool unfinished;
        uint32_t len;
        uint16_t type;
        int rc;
    } ROWS[] = {
        {1, false, 0, 0, DP_OK},           {2, false, 100, 2, DP_OK},
        {3, false, 101, 0, DP_E_DATAGRAM}, {4, false, UINT32_MAX, 0, DP_E_DATAGRAM},
        {5, false, 1, 3, DP_E_DATAGRAM},   {6, false, 1, 65535, DP_E_DATAGRAM},
        {7, true, 1, 0, DP_E_DATAGRAM},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        flow = (struct flow){.max_datagram = 100, .types = 3, .receive = {.limit = 116}};
        flow.receive.builder.total = ROWS[i].unfinished;
        CHECK_ROW(ROWS[i].id, flow_accept(&flow, ROWS[i].len, ROWS[i].type) == ROWS[i].rc);
        bool ok = ROWS[i].rc == DP_OK;
        CHECK_ROW(ROWS[i].id, flow.receive.received.datagrams == ok);
        CHECK_ROW(ROWS[i].id, flow.receive.received.bytes == (ok ? ROWS[i].len + 16u : 0));
        if (ok) /* the rest of the credit, and one byte more */
            CHECK_ROW(ROWS[i].id, flow_accept(&flow, 100, 0) ==
                                      (ROWS[i].len + 116u + 16 > 116 ? DP_E_CREDIT : DP_OK));
    }
    flow = (struct flow){.max_datagram = 100, .types = 1, .receive = {.limit = 132}};
    CHECK(flow_accept(&flow, 100, 0) == DP_OK && flow_accept(&flow, 1, 0) == DP_E_CREDIT);
    CHECK(flow_accept(&flow, 0, 0) == DP_OK && flow_accept(&flow, 0, 0) == DP_E_CREDIT);
}

/* --- segments ---------------------------------------------------------------------------------------- */

static void queue(const uint32_t *len, uint32_t count, bool owned) {
    uint64_t sum = 0;
    flow = (struct flow){.peer_number = 5};
    blob = (struct blob){.items = 1, .owned = owned};
    for (uint32_t i = 0; i < count; i++, sum += len[i - 1]) {
        store32(lengths + 4 * (size_t)i, len[i]);
        store16(types + 2 * (size_t)i, (uint16_t)(100 + i));
    }
    item = (struct item){
        .blob = &blob, .payload = payload, .lengths = lengths, .types = types, .count = count};
    flow_queue(&flow, &item, (struct position){count, sum + 16 * (uint64_t)count});
}

/* Fill frames of `room` with `budget` and rebuild the datagrams; returns the frames it took, or 0
 * when the flow gave nothing. With `tails`, what it leaves in place is put where it belongs, and
 * counted. */
static unsigned drain(int id, const uint32_t *len, uint32_t count, size_t room, size_t budget,
                      unsigned *tails) {
    unsigned frames = 0;
    uint32_t n = 0, have = 0, at = 0;
    struct item *done = NULL;
    for (bool drained = false; !drained; frames++) {
        struct tail tail = {NULL, 0};
        size_t used = flow_fill(&flow, out, room, budget, &done, &drained, tails ? &tail : NULL);
        if (tail.len) {
            CHECK_ROW(id, used == room && tail.len >= 4096 && tail.len < used);
            memcpy(out + used - tail.len, tail.data, tail.len);
            ++*tails;
        }
        if (used == 0)
            return 0;
        CHECK_ROW(id, used <= room && drained == !flow.send.head);
        struct segment s;
        for (const uint8_t *cursor = out; cursor < out + used;) {
            CHECK_ROW(id, segment_next(&cursor, out + used, &s) == DP_OK && s.channel == 5);
            CHECK_ROW(id, (s.kind == SEGMENT_NEXT) == (have > 0) && n < count);
            CHECK_ROW(id, have || (s.total == len[n] && s.type == 100 + n));
            CHECK_ROW(id, memcmp(s.data, payload + at + have, s.len) == 0);
            have += (uint32_t)s.len;
            if (have == len[n])
                at += len[n++], have = 0;
        }
        CHECK_ROW(id,
                  flow.send.sent.datagrams == n && flow.send.sent.bytes == at + 16 * (uint64_t)n);
    }
    CHECK_ROW(id, n == count && done == &item && done->next == NULL && !flow.send.tail);
    CHECK_ROW(id, memcmp(&flow.send.sent, &flow.send.accepted, sizeof flow.send.sent) == 0);
    return frames;
}

static void test_fill(void) {
    static const struct {
        int id;
        uint32_t len[MOST], count;
        size_t room, budget;
        unsigned frames, tails;
    } ROWS[] = {
        {1, {0}, 1, 6, 1, 1, 0},
        {2, {0, 0, 0, 0}, 4, 100, 100, 1, 0},
        {3, {0, 0, 0, 0}, 4, 100, 1, 4, 0},  /* budget: one at a time */
        {4, {10, 10, 10}, 3, 100, 17, 2, 0}, /* budget: passed by the second */
        {5, {32762}, 1, 32768, 1, 1, 0},     /* whole */
        {6, {32763}, 1, 32768, 1, 2, 1},     /* in two pieces */
        {7, {65522}, 1, 32768, 1, 2, 2},     /* two full frames */
        {8, {65523}, 1, 32768, 1, 3, 2},
        {9, {200000}, 1, 32768, 1 << 20, 7, 6},
        {10, {100, 0, 40000, 5, 0}, 5, 32768, 1 << 20, 2, 1},
        {11, {900, 900}, 2, 1000, 1 << 20, 2, 0}, /* a rest too small for a piece stays empty */
        {12, {100}, 1, 105, 1 << 20, 0, 0},       /* one byte short: nothing */
        {13, {5000}, 1, 1033, 1 << 20, 0, 0},     /* FIRST with less than 1024 bytes */
        {14, {5000}, 1, 1034, 1 << 20, 5, 0},
        {15, {1, 50000, 1}, 3, 32768, 1 << 20, 2, 1},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        for (int owned = 0; owned < 2; owned++) {
            unsigned tails = 0;
            queue(ROWS[i].len, ROWS[i].count, owned);
            CHECK_ROW(ROWS[i].id, drain(ROWS[i].id, ROWS[i].len, ROWS[i].count, ROWS[i].room,
                                        ROWS[i].budget, &tails) == ROWS[i].frames);
            CHECK_ROW(ROWS[i].id, tails == (owned ? 0 : ROWS[i].tails));
        }
        queue(ROWS[i].len, ROWS[i].count, false);
        CHECK_ROW(ROWS[i].id, drain(ROWS[i].id, ROWS[i].len, ROWS[i].count, ROWS[i].room,
                                    ROWS[i].budget, NULL) == ROWS[i].frames);
    }
}

/* The last, short piece goes into any room that holds it. */
static void test_short_rest(void) {
    static const uint32_t LEN[] = {2000};
    struct item *done = NULL;
    bool drained;
    queue(LEN, 1, false);
    CHECK(flow_fill(&flow, out, 1910, 1, &done, &drained, NULL) == 1910 && item.offset == 1900);
    CHECK(flow_fill(&flow, out, 103, 1, &done, &drained, NULL) == 0 && !drained && !done);
    CHECK(flow.send.sent.datagrams == 0);
    CHECK(flow_fill(&flow, out, 104, 1, &done, &drained, NULL) == 104 && drained && done == &item);
    CHECK(flow.send.sent.datagrams == 1 && flow.send.sent.bytes == 2016);
    CHECK(flow_fill(&flow, out, 1000, 1, &done, &drained, NULL) == 0 && drained);
}

int main(void) {
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 131 + (i >> 8));
    test_credit();
    test_consume();
    test_accept();
    test_fill();
    test_short_rest();
    pool_clear(&pool);
    return check_report();
}
