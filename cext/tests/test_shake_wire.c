/* The handshake's bytes: lengths, headers, disguise, payloads. */
#include "shake_pair.h"

enum { HEAD = DP_KEY_LEN + SHAKE_HEADER };

static struct pair pair;

/* --- lengths ------------------------------------------------------------------------------------------ */

/* What the random source gives decides the lengths, and the mode does not. A draw of two bytes with 9
 * bits of use for message 1, of one byte for the others. */
static void test_lengths(void) {
    static const struct {
        int id;
        uint8_t fill;
        size_t first, drawn;
    } ROWS[] = {
        {1, 0x00, 96, 0},
        {2, 0xff, 96 + 511, 255},
        {3, 0x01, 96 + 257, 1},
        {4, 0xfe, 96 + 254, 254},
    };
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++)
        for (int way = 0; way < PAIR_WAYS; way++) {
            size_t lengths[] = {HEAD + ROWS[row].first, 152 + PAIR_HELLO + ROWS[row].drawn,
                                120 + PAIR_HELLO + ROWS[row].drawn};
            for (int message = 0; message < 3; message++) {
                pair_start(&pair);
                pair.side[0].filled = pair.side[1].filled = true;
                pair.side[0].fill = pair.side[1].fill = ROWS[row].fill;
                pair_dial(&pair, way, false);
                int to = pair_carry(&pair, message);
                CHECK_ROW(ROWS[row].id, pair.side[to].on_wire == lengths[message]);
                pair_free(&pair);
            }
        }
}

/* The longest hellos, with the longest padding. */
static void test_longest(void) {
    static uint8_t hello[DP_HELLO_MAX];
    for (int way = 0; way < PAIR_WAYS; way++) {
        pair_start(&pair);
        for (int i = 0; i < 2; i++) {
            pair.side[i].filled = true;
            pair.side[i].fill = 0xff;
            CHECK(dp_node_set_hello(pair.side[i].node, hello, sizeof hello) == DP_OK);
        }
        pair_dial(&pair, way, false);
        CHECK_ROW(way, pair_carry(&pair, 2) == 1);
        CHECK_ROW(way, pair.side[1].on_wire == 120 + DP_HELLO_MAX + PADDING_DRAWN_MAX);
        pair_run(&pair);
        pair_check_ready(&pair, 0, way);
        pair_check_ready(&pair, 1, way);
        pair_free(&pair);
    }
}

/* --- headers ------------------------------------------------------------------------------------------ */

/* What a header may say to who reads message `message`: refused at once, or waited for. */
static const struct {
    int id, way, message, mode;
    size_t rest;
    bool refused;
} HEADERS[] = {
    {1, PAIR_XX, 0, SHAKE_XX, 1, false},
    {2, PAIR_XX, 0, SHAKE_XX, FIRST_REST_MAX, false},
    {3, PAIR_XX, 0, SHAKE_XX, FIRST_REST_MAX + 1, true},
    {4, PAIR_XX, 0, SHAKE_IK, 63, true},
    {5, PAIR_XX, 0, SHAKE_IK, 64, false},
    {6, PAIR_XX, 0, SHAKE_IK, FIRST_REST_MAX, false},
    {7, PAIR_XX, 0, SHAKE_IK, FIRST_REST_MAX + 1, true},
    {8, PAIR_XX, 0, SHAKE_RESUME, 31, true},
    {9, PAIR_XX, 0, SHAKE_RESUME, 32, false},
    {10, PAIR_XX, 0, SHAKE_RESUME, FIRST_REST_MAX, false},
    {11, PAIR_XX, 0, SHAKE_RESUME, FIRST_REST_MAX + 1, true},
    {12, PAIR_XX, 0, SHAKE_FALLBACK, 200, true},
    {13, PAIR_XX, 0, SHAKE_MODES, 200, true},
    {14, PAIR_XX, 0, 255, 200, true},
    {15, PAIR_XX, 0, SHAKE_XX, 65535, true},
    {20, PAIR_XX, 1, SHAKE_XX, 116, true},
    {21, PAIR_XX, 1, SHAKE_XX, 117, false},
    {22, PAIR_XX, 1, SHAKE_XX, REST_MAX, false},
    {23, PAIR_XX, 1, SHAKE_XX, REST_MAX + 1, true},
    {24, PAIR_XX, 1, SHAKE_IK, 500, true},
    {25, PAIR_XX, 1, SHAKE_RESUME, 500, true},
    {26, PAIR_XX, 1, SHAKE_FALLBACK, 500, true},
    {27, PAIR_IK, 1, SHAKE_IK, 68, true},
    {28, PAIR_IK, 1, SHAKE_IK, 69, false},
    {29, PAIR_IK, 1, SHAKE_IK, REST_MAX, false},
    {30, PAIR_IK, 1, SHAKE_IK, REST_MAX + 1, true},
    {31, PAIR_IK, 1, SHAKE_FALLBACK, 116, true},
    {32, PAIR_IK, 1, SHAKE_FALLBACK, 117, false},
    {33, PAIR_IK, 1, SHAKE_XX, 500, true},
    {34, PAIR_IK, 1, SHAKE_RESUME, 500, true},
    {35, PAIR_RESUME, 1, SHAKE_RESUME, 68, true},
    {36, PAIR_RESUME, 1, SHAKE_RESUME, 69, false},
    {37, PAIR_RESUME, 1, SHAKE_FALLBACK, REST_MAX, false},
    {38, PAIR_RESUME, 1, SHAKE_FALLBACK, REST_MAX + 1, true},
    {39, PAIR_RESUME, 1, SHAKE_IK, 500, true},
    {40, PAIR_RESUME, 1, SHAKE_XX, 500, true},
    {50, PAIR_XX, 2, SHAKE_XX, 116, true},
    {51, PAIR_XX, 2, SHAKE_XX, 117, false},
    {52, PAIR_XX, 2, SHAKE_XX, REST_MAX + 1, true},
    {53, PAIR_XX, 2, SHAKE_FALLBACK, 500, true},
    {54, PAIR_IK, 2, SHAKE_IK, 68, true},
    {55, PAIR_IK, 2, SHAKE_IK, 69, false},
    {56, PAIR_IK, 2, SHAKE_IK, REST_MAX, false},
    {57, PAIR_IK, 2, SHAKE_IK, REST_MAX + 1, true},
    {58, PAIR_IK, 2, SHAKE_FALLBACK, 500, true},
    {59, PAIR_IK, 2, SHAKE_XX, 500, true},
    {60, PAIR_RESUME, 2, SHAKE_RESUME, 69, false},
    {61, PAIR_RESUME, 2, SHAKE_IK, 500, true},
    {62, PAIR_RESUME, 2, SHAKE_FALLBACK, 500, true},
    {63, PAIR_WRONG_KEY, 2, SHAKE_FALLBACK, 117, false},
    {64, PAIR_WRONG_KEY, 2, SHAKE_FALLBACK, REST_MAX, false},
    {65, PAIR_WRONG_KEY, 2, SHAKE_XX, 500, true},
    {66, PAIR_WRONG_KEY, 2, SHAKE_IK, 500, true},
};

static void test_headers(void) {
    pair_start(&pair);
    for (size_t row = 0; row < sizeof HEADERS / sizeof HEADERS[0]; row++) {
        pair_dial(&pair, HEADERS[row].way, false);
        int to = pair_carry(&pair, HEADERS[row].message), id = HEADERS[row].id;
        struct pair_side *side = &pair.side[to];
        size_t lead = HEADERS[row].message < 2 ? DP_KEY_LEN : 0;
        uint64_t held = pair_stats(&pair, to).buffer_bytes;
        unsigned tickets = side->seen.tickets;
        shake_put_header(pair_link(&pair, to), side->wire, side->wire + lead,
                         (uint8_t)HEADERS[row].mode, HEADERS[row].rest);
        side->on_wire = lead + SHAKE_HEADER;
        CHECK_ROW(id, pair_hand(&pair, to) == (HEADERS[row].refused ? DP_E_SIZE : DP_OK));
        CHECK_ROW(id, side->seen.down == HEADERS[row].refused && side->seen.ready == 0);
        CHECK_ROW(id, pair_stats(&pair, to).buffer_bytes <= held && side->seen.tickets == tickets);
        CHECK_ROW(id, pair_produce(&pair, to, 0) == 0);
        pair_end(&pair);
    }
    pair_free(&pair);
}

/* XX needs no padding at all. */
static void test_empty_first(void) {
    pair_start(&pair);
    pair_dial(&pair, PAIR_XX, false);
    CHECK(pair_carry(&pair, 0) == 1);
    shake_put_header(pair_link(&pair, 1), pair.side[1].wire, pair.side[1].wire + DP_KEY_LEN,
                     SHAKE_XX, 0);
    pair.side[1].on_wire = HEAD;
    CHECK(pair_hand(&pair, 1) == DP_OK && pair.side[1].on_wire == 0);
    CHECK(pair_produce(&pair, 1, 0) > 0);
    pair_free(&pair);
}

/* --- disguise ----------------------------------------------------------------------------------------- */

/* Both values of the highest bit of both ephemerals, in every way. */
static void test_top_bit(void) {
    for (int way = 0; way < PAIR_WAYS; way++)
        for (int bits = 0; bits < 4; bits++) {
            pair_start(&pair);
            for (int i = 0; i < 2; i++) {
                pair.side[i].filled = true;
                pair.side[i].fill = bits >> i & 1 ? 0xff : 0;
            }
            pair_dial(&pair, way, false);
            for (int message = 0; message < 2; message++) {
                int to = 1 - message;
                CHECK_ROW(way, pair_produce(&pair, message, 0) > 0);
                CHECK_ROW(way, pair.side[to].wire[31] >> 7 == (bits >> message & 1));
                CHECK_ROW(way, pair_hand(&pair, to) == DP_OK);
            }
            pair_run(&pair);
            pair_check_ready(&pair, 0, way);
            pair_check_ready(&pair, 1, way);
            pair_free(&pair);
        }
}

/* No byte of what is first sent is the same in all handshakes, nor in most. */
static void test_nothing_constant(void) {
    enum { TIMES = 200, FIRST_LEAST = HEAD + 96 };
    for (int way = 0; way < PAIR_WAYS; way++) {
        static unsigned counts[FIRST_LEAST][256];
        memset(counts, 0, sizeof counts);
        pair_start(&pair);
        for (int n = 0; n < TIMES; n++) {
            pair_dial(&pair, way, false);
            CHECK(pair_carry(&pair, 0) == 1);
            for (size_t at = 0; at < FIRST_LEAST; at++)
                counts[at][pair.side[1].wire[at]]++;
            pair_end(&pair);
        }
        bool names = pair_mode(way) == DP_MODE_RESUME; /* the test's ticket is always the same */
        for (size_t at = 0; at < FIRST_LEAST; at++)
            for (int value = 0; value < 256; value++)
                CHECK_ROW(way, counts[at][value] < 12 ||
                                   (names && at >= HEAD && at < HEAD + DP_TICKET_NAME_LEN));
        pair_free(&pair);
    }
}

/* --- payloads ----------------------------------------------------------------------------------------- */

static void test_payloads(void) {
    static const struct {
        int id;
        size_t len;
        uint16_t hello;
        int status;
    } ROWS[] = {
        {1, 0, 0, DP_E_SIZE},
        {2, PAYLOAD_FIXED - 1, 0, DP_E_SIZE},
        {3, PAYLOAD_FIXED, 0, DP_OK},
        {4, PAYLOAD_FIXED, 1, DP_E_SIZE},
        {5, PAYLOAD_FIXED + 10, 10, DP_OK},
        {6, PAYLOAD_FIXED + 10, 11, DP_E_SIZE},
        {7, PAYLOAD_FIXED + 10, 0, DP_OK},
        {8, PAYLOAD_FIXED + 65535, DP_HELLO_MAX, DP_OK},
        {9, PAYLOAD_FIXED + 65535, DP_HELLO_MAX + 1, DP_E_SIZE},
        {10, PAYLOAD_FIXED + 65535, 65535, DP_E_SIZE},
    };
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        struct shake_payload payload;
        uint8_t *in = malloc(ROWS[row].len + 1); /* at the end of it, for the sanitizer */
        CHECK(in != NULL);
        memset(in, 7, ROWS[row].len + 1);
        uint8_t *at = in + 1;
        if (ROWS[row].len >= PAYLOAD_FIXED)
            store16(at + PAYLOAD_FIXED - 2, ROWS[row].hello);
        CHECK_ROW(ROWS[row].id, shake_get_payload(at, ROWS[row].len, &payload) == ROWS[row].status);
        if (ROWS[row].status == DP_OK) {
            CHECK_ROW(ROWS[row].id, payload.key == at && payload.hello == at + PAYLOAD_FIXED);
            CHECK_ROW(ROWS[row].id, payload.hello_len == ROWS[row].hello);
            CHECK_ROW(ROWS[row].id, payload.seen.family == 7 && payload.seen.port == 0x0707);
        }
        free(in);
    }
}

int main(void) {
    CHECK(dp_init() == DP_OK);
    test_lengths();
    test_longest();
    test_headers();
    test_empty_first();
    test_top_bit();
    test_nothing_constant();
    test_payloads();
    return check_report();
}
