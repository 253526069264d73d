/* Segments: every kind there and back, cut at every byte, and the rules that need no context. */
#include <string.h>

#include "bytes.h"
#include "check.h"
#include "segment.h"

static uint8_t frame[512];
static const uint8_t EPOCH[EPOCH_BODY] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0x0a};

static const uint8_t SIZES[SEGMENT_KINDS] = {
    1,         DATAGRAM_HEADER, FIRST_HEADER, NEXT_HEADER, CREDIT_SIZE,  PING_SIZE,
    PING_SIZE, REKEY_SIZE,      CLOSE_SIZE,   EPOCH_SIZE,  BLOCKED_SIZE,
};

/* One segment of `kind` with `len` bytes of data (pieces only); returns its size. */
static size_t put(enum segment_kind kind, uint16_t len) {
    memset(frame, 0xd7, sizeof frame);
    switch (kind) {
    case SEGMENT_DATAGRAM:
        return segment_put_datagram(frame, 249, 0xbeef, len) + len;
    case SEGMENT_FIRST:
        return segment_put_first(frame, 249, 0xbeef, 0x01000000, len) + len;
    case SEGMENT_NEXT:
        return segment_put_next(frame, 249, len) + len;
    case SEGMENT_CREDIT:
        return segment_put_credit(frame, 249, 0xfedcba98, 0x0123456789abcdef, UINT64_MAX);
    case SEGMENT_PING:
    case SEGMENT_PONG:
        return segment_put_ping(frame, kind, 0x0123456789abcdef);
    case SEGMENT_REKEY:
        return segment_put_rekey(frame);
    case SEGMENT_CLOSE:
        return segment_put_close(frame, 0xfffe);
    case SEGMENT_EPOCH:
        return segment_put_epoch(frame, 249, EPOCH);
    case SEGMENT_BLOCKED:
        return segment_put_blocked(frame, 249, 0xfedcba9876543210);
    default:
        frame[0] = SEGMENT_PADDING;
        return 1 + (size_t)len;
    }
}

static bool has_data(int kind) {
    return kind <= SEGMENT_NEXT;
}

static void check_fields(const struct segment *s, int kind) {
    static const struct segment EXPECTED[SEGMENT_KINDS] = {
        {.kind = SEGMENT_PADDING, .len = 9},
        {.kind = SEGMENT_DATAGRAM, .channel = 249, .type = 0xbeef, .total = 9, .len = 9},
        {.kind = SEGMENT_FIRST, .channel = 249, .type = 0xbeef, .total = 0x01000000, .len = 9},
        {.kind = SEGMENT_NEXT, .channel = 249, .len = 9},
        {.kind = SEGMENT_CREDIT,
         .channel = 249,
         .total = 0xfedcba98,
         .datagrams = 0x0123456789abcdef,
         .bytes = UINT64_MAX},
        {.kind = SEGMENT_PING, .bytes = 0x0123456789abcdef},
        {.kind = SEGMENT_PONG, .bytes = 0x0123456789abcdef},
        {.kind = SEGMENT_REKEY},
        {.kind = SEGMENT_CLOSE, .type = 0xfffe},
        {.kind = SEGMENT_EPOCH,
         .channel = 249,
         .epoch = 0x0807060504030201,
         .datagrams = 9,
         .bytes = 10},
        {.kind = SEGMENT_BLOCKED, .channel = 249, .bytes = 0xfedcba9876543210},
    };
    const struct segment *e = &EXPECTED[kind];
    CHECK_ROW(kind, s->kind == e->kind && s->channel == e->channel && s->type == e->type);
    CHECK_ROW(kind, s->total == e->total && s->datagrams == e->datagrams && s->epoch == e->epoch);
    CHECK_ROW(kind, s->bytes == e->bytes && s->len == e->len);
    CHECK_ROW(kind, s->data == frame + SIZES[kind]);
}

static void test_round_trip(void) {
    for (int kind = 0; kind < SEGMENT_KINDS; kind++) {
        struct segment s;
        const uint8_t *cursor = frame, *end = frame + put((enum segment_kind)kind, 9);
        CHECK_ROW(kind, frame[0] == kind && end - frame == SIZES[kind] + (has_data(kind) ? 9 : 0));
        CHECK_ROW(kind, segment_next(&cursor, end, &s) == DP_OK && cursor == end);
        check_fields(&s, kind);
    }
}

/* Every shorter one is refused, and neither cursor nor output move. Padding has no length. */
static void test_truncation(void) {
    for (int kind = 1; kind < SEGMENT_KINDS; kind++) {
        size_t size = put((enum segment_kind)kind, 9);
        for (size_t len = 0; len < size; len++) {
            struct segment s = {.total = 77};
            const uint8_t *cursor = frame;
            CHECK_ROW(kind, segment_next(&cursor, frame + len, &s) == DP_E_SEGMENT);
            CHECK_ROW(kind, cursor == frame && s.total == 77);
        }
    }
}

static void test_unknown_kinds(void) {
    for (int kind = SEGMENT_KINDS; kind < 256; kind++) {
        struct segment s;
        const uint8_t *cursor = frame;
        memset(frame, 0, sizeof frame);
        frame[0] = (uint8_t)kind;
        CHECK_ROW(kind, segment_next(&cursor, frame + 100, &s) == DP_E_SEGMENT);
    }
}

/* Pieces: `total` is that of FIRST. */
static void test_pieces(void) {
    static const struct {
        int id;
        enum segment_kind kind;
        uint32_t total;
        uint16_t len;
        int rc;
    } ROWS[] = {
        {1, SEGMENT_DATAGRAM, 0, 0, DP_OK},
        {2, SEGMENT_DATAGRAM, 0, 400, DP_OK},
        {3, SEGMENT_FIRST, 10, 0, DP_E_SEGMENT},
        {4, SEGMENT_FIRST, 10, 1, DP_OK},
        {5, SEGMENT_FIRST, 10, 9, DP_OK},
        {6, SEGMENT_FIRST, 10, 10, DP_E_SEGMENT},
        {7, SEGMENT_FIRST, 10, 11, DP_E_SEGMENT},
        {8, SEGMENT_FIRST, 0, 0, DP_E_SEGMENT},
        {9, SEGMENT_FIRST, UINT32_MAX, 400, DP_OK},
        {10, SEGMENT_NEXT, 0, 0, DP_E_SEGMENT},
        {11, SEGMENT_NEXT, 0, 1, DP_OK},
        {12, SEGMENT_NEXT, 0, 400, DP_OK},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct segment s;
        size_t size = put(ROWS[i].kind, ROWS[i].len);
        const uint8_t *cursor = frame;
        if (ROWS[i].kind == SEGMENT_FIRST)
            store32(frame + 4, ROWS[i].total);
        CHECK_ROW(ROWS[i].id, segment_next(&cursor, frame + size, &s) == ROWS[i].rc);
        CHECK_ROW(ROWS[i].id, ROWS[i].rc != DP_OK || s.len == ROWS[i].len);
    }
}

/* A segment with one more byte behind it: only REKEY and CLOSE must be last. */
static void test_last_of_frame(void) {
    for (int kind = 0; kind < SEGMENT_KINDS; kind++) {
        struct segment s;
        size_t size = put((enum segment_kind)kind, 9);
        const uint8_t *cursor = frame, *end = frame + size + 1;
        bool last = kind == SEGMENT_REKEY || kind == SEGMENT_CLOSE;
        frame[size] = SEGMENT_PADDING;
        CHECK_ROW(kind, segment_next(&cursor, end, &s) == (last ? DP_E_SEGMENT : DP_OK));
        if (!last)
            CHECK_ROW(kind, cursor == (kind == SEGMENT_PADDING ? end : end - 1));
    }
}

/* Several in a row, as in a frame. */
static void test_row(void) {
    size_t at = 0, count = 0;
    at += segment_put_ping(frame + at, SEGMENT_PING, 1);
    at += segment_put_datagram(frame + at, 3, 4, 0);
    at += segment_put_next(frame + at, 5, 6) + 6;
    at += segment_put_credit(frame + at, 7, 8, 9, 10);
    at += segment_put_epoch(frame + at, 5, EPOCH);
    at += segment_put_blocked(frame + at, 5, 6);
    at += segment_put_rekey(frame + at);
    for (const uint8_t *cursor = frame; cursor < frame + at; count++) {
        struct segment s;
        CHECK(segment_next(&cursor, frame + at, &s) == DP_OK);
    }
    CHECK(count == 7);
}

int main(void) {
    test_round_trip();
    test_truncation();
    test_unknown_kinds();
    test_pieces();
    test_last_of_frame();
    test_row();
    return check_report();
}
