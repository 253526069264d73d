/* DATA records byte by byte (docs/spec/app-api.md, "DATA"; src/dp2p/records.py builds the same). */
#include <stdlib.h>
#include <string.h>

#include "builder.h"
#include "bytes.h"
#include "check.h"

enum { FLOW = 0x00100007, RECORDS = 64, LARGEST = 16 << 20 };

static struct pool pool;
static struct builder builder;
static struct buffer *records[RECORDS];
static size_t record_count;
static uint8_t *data; /* LARGEST bytes */

static int take(void *context, struct buffer *record) {
    CHECK(context == &builder && record_count < RECORDS && record->len <= record->cap);
    records[record_count++] = record;
    return DP_OK;
}

static const struct builder_output OUT = {&pool, FLOW, take, &builder};

static void start(void) {
    for (size_t i = 0; i < record_count; i++)
        buffer_put(&pool, records[i]);
    record_count = 0;
    builder_clear(&builder, &pool);
    CHECK(pool.held_bytes == 0);
}

/* The record of `count` datagrams whose payloads are data[0...] in a row, written plainly. */
static uint8_t *expect(const uint32_t *lengths, const uint16_t *types, uint32_t count,
                       size_t *size) {
    uint32_t payload = 0;
    for (uint32_t i = 0; i < count; i++)
        payload += lengths[i];
    size_t column = DATA_RECORD_HEADER + (size_t)payload + (-payload & 3);
    *size = column + 6 * (size_t)count + 2 * (count & 1);
    uint8_t *r = calloc(1, *size);
    CHECK(r != NULL);
    store32(r, (uint32_t)*size);
    store16(r + 4, RECORD_DATA);
    store32(r + 8, FLOW);
    store32(r + 12, count);
    store32(r + 16, payload);
    memcpy(r + DATA_RECORD_HEADER, data, payload);
    for (uint32_t i = 0; i < count; i++) {
        store32(r + column + 4 * (size_t)i, lengths[i]);
        store16(r + column + 4 * (size_t)count + 2 * (size_t)i, types[i]);
    }
    return r;
}

static bool is_record(size_t index, const uint32_t *lengths, const uint16_t *types,
                      uint32_t count) {
    size_t size;
    uint8_t *r = expect(lengths, types, count, &size);
    const struct buffer *got = records[index];
    bool same = index < record_count && got->len == size && memcmp(got->data, r, size) == 0;
    free(r);
    return same;
}

/* --- records --------------------------------------------------------------------------------------- */

/* All of one small record, by hand: columns, padding of payload (3) and of columns (2). */
static void test_known_bytes(void) {
    static const uint8_t EXPECTED[] = {
        48,  0,   0,    0,    3,   0, 0, 0, 7, 0, 16, 0, 3, 0, 0, 0, 5, 0, 0, 0, /* header */
        'a', 'b', 'c',  'd',  'e', 0, 0, 0,                                      /* payload */
        1,   0,   0,    0,    0,   0, 0, 0, 4, 0, 0,  0,                         /* lengths */
        2,   1,   0xff, 0xff, 0,   0, 0, 0,                                      /* types */
    };
    start();
    CHECK(builder_finish(&builder, &OUT) == DP_OK && record_count == 0);
    CHECK(builder_add(&builder, &OUT, 0x0102, (const uint8_t *)"a", 1) == DP_OK);
    CHECK(builder_add(&builder, &OUT, 0xffff, (const uint8_t *)"", 0) == DP_OK);
    CHECK(builder_add(&builder, &OUT, 0, (const uint8_t *)"bcde", 4) == DP_OK);
    CHECK(builder_finish(&builder, &OUT) == DP_OK && record_count == 1 && !builder.buffer);
    CHECK(records[0]->len == sizeof EXPECTED);
    CHECK(memcmp(records[0]->data, EXPECTED, sizeof EXPECTED) == 0);
}

/* Rows of `count` datagrams of `len` + i % spread bytes; how many records they make. */
static void test_rows(void) {
    static const struct {
        int id;
        uint32_t count, len, spread;
        size_t records;
    } ROWS[] = {
        {1, 1, 0, 1, 1},        {2, 2, 0, 1, 1},        {3, 1, 4071, 1, 1},
        {4, 100, 30, 5, 1},     {5, 339, 0, 4, 1},      {6, 3000, 0, 9, 1},
        {7, 10, 3600, 3, 1},    {8, 8, 36000, 2, 1},    {9, 16384, 0, 1, 1},
        {10, 16384, 2, 15, 1},  {11, 1, 294000, 1, 1},  {12, 1, 294912, 1, 1},
        {13, 1, 1 << 20, 1, 1}, {14, 1, LARGEST, 1, 1},
    };
    static uint32_t lengths[BUILDER_COUNT_MAX];
    static uint16_t types[BUILDER_COUNT_MAX];
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        size_t at = 0;
        start();
        for (uint32_t i = 0; i < ROWS[row].count; i++) {
            lengths[i] = ROWS[row].len + i % ROWS[row].spread;
            types[i] = (uint16_t)(i * 257);
            CHECK_ROW(ROWS[row].id,
                      builder_add(&builder, &OUT, types[i], data + at, lengths[i]) == DP_OK);
            at += lengths[i];
        }
        CHECK_ROW(ROWS[row].id, builder_finish(&builder, &OUT) == DP_OK);
        CHECK_ROW(ROWS[row].id, record_count == ROWS[row].records);
        CHECK_ROW(ROWS[row].id, is_record(0, lengths, types, ROWS[row].count));
    }
}

/* A record that is full, by count or by bytes, goes out and the next begins. */
static void test_full(void) {
    start();
    for (uint32_t i = 0; i < BUILDER_COUNT_MAX + 5; i++)
        CHECK(builder_add(&builder, &OUT, 0, data, 0) == DP_OK);
    CHECK(record_count == 1 && builder.count == 5);
    CHECK(load32(records[0]->data + 12) == BUILDER_COUNT_MAX);
    start();
    for (uint32_t i = 0; i < 30; i++)
        CHECK(builder_add(&builder, &OUT, 0, data, 30000) == DP_OK);
    CHECK(builder_finish(&builder, &OUT) == DP_OK && record_count == 4);
    for (size_t i = 0, left = 30; i < record_count; i++, left -= left < 9 ? left : 9)
        CHECK(load32(records[i]->data + 12) == (left < 9 ? left : 9) && records[i]->len <= 294912);
}

/* --- pieces ----------------------------------------------------------------------------------------- */

/* A datagram of `total` in pieces behind `before` small ones, with a finish after each piece. */
static void check_pieces(int id, uint32_t before, uint32_t total, uint32_t piece, bool finish) {
    uint32_t at = 0, have = piece;
    start();
    for (uint32_t i = 0; i < before; i++, at += 3)
        CHECK_ROW(id, builder_add(&builder, &OUT, 9, data + at, 3) == DP_OK);
    CHECK_ROW(id, builder_begin(&builder, &OUT, 0x1234, total, data + at, piece) == DP_OK);
    for (; have < total; have += piece) {
        CHECK_ROW(id, builder.total == total && builder.have == have && builder.count <= before);
        if (finish)
            CHECK_ROW(id, builder_finish(&builder, &OUT) == DP_OK && builder.count == 0);
        CHECK_ROW(id, builder.total == total && builder.have == have);
        if (piece > total - have)
            piece = total - have;
        builder_append(&builder, data + at + have, piece);
    }
    CHECK_ROW(id, builder.total == 0 && builder.have == 0);
    CHECK_ROW(id, builder_finish(&builder, &OUT) == DP_OK);
    const struct buffer *last = records[record_count - 1];
    size_t len = load32(last->data + 16), skip = len - total;
    CHECK_ROW(id, record_count == (finish && before ? 2 : 1));
    CHECK_ROW(id, load32(last->data + 12) == (record_count == 2 ? 1 : before + 1));
    CHECK_ROW(id, memcmp(last->data + DATA_RECORD_HEADER + skip, data + at, total) == 0);
}

static void test_pieces(void) {
    static const struct {
        int id;
        uint32_t before, total, piece;
    } ROWS[] = {
        {1, 0, 2, 1},          {2, 1, 2, 1},           {3, 5, 100, 7},
        {4, 300, 4000, 999},   {5, 1000, 30000, 1024}, {6, 1, 280000, 32000},
        {7, 3, 300000, 32758}, {8, 0, LARGEST, 32764}, {9, 9000, 250000, 32000},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        if (ROWS[i].before < 9000) /* too many to share a record with it */
            check_pieces(ROWS[i].id, ROWS[i].before, ROWS[i].total, ROWS[i].piece, true);
        if (ROWS[i].total < 250000)
            check_pieces(ROWS[i].id, ROWS[i].before, ROWS[i].total, ROWS[i].piece, false);
    }
}

/* An unfinished datagram is forgotten with everything else. */
static void test_clear(void) {
    start();
    CHECK(builder_add(&builder, &OUT, 0, data, 10) == DP_OK);
    CHECK(builder_begin(&builder, &OUT, 0, 1000, data, 10) == DP_OK);
    CHECK(pool.held_bytes > 0);
    builder_clear(&builder, &pool);
    CHECK(pool.held_bytes == 0 && builder.total == 0 && builder.count == 0);
}

/* --- buffers ---------------------------------------------------------------------------------------- */

static void test_buffers(void) {
    static const size_t CAPS[][2] = {{0, 4096},         {4096, 4096},     {4097, 36864},
                                     {36865, 294912},   {294912, 294912}, {294913, 294913},
                                     {1 << 20, 1 << 20}};
    struct buffer *many[3 * BUFFERS_KEPT];
    for (size_t i = 0; i < sizeof CAPS / sizeof CAPS[0]; i++) {
        struct buffer *b = buffer_get(&pool, CAPS[i][0]);
        CHECK_ROW(i,
                  b && b->cap == CAPS[i][1] && pool.held_bytes == b->cap && !b->len && !b->start);
        b->len = b->start = 5;
        buffer_put(&pool, b);
    }
    for (size_t i = 0; i < 3 * BUFFERS_KEPT; i++)
        many[i] = buffer_get(&pool, 100);
    for (size_t i = 0; i < 3 * BUFFERS_KEPT; i++)
        buffer_put(&pool, many[i]);
    CHECK(pool.kept[0] == BUFFERS_KEPT && pool.held_bytes == 0);
    buffer_put(&pool, NULL);
    pool_clear(&pool);
    CHECK(pool.kept[0] == 0 && pool.kept[2] == 0);
}

int main(void) {
    data = malloc(LARGEST);
    CHECK(data != NULL);
    for (size_t i = 0; i < LARGEST; i++)
        data[i] = (uint8_t)(i * 131 + (i >> 8) * 17);
    test_known_bytes();
    test_rows();
    test_full();
    test_pieces();
    test_clear();
    test_buffers();
    start();
    pool_clear(&pool);
    free(data);
    return check_report();
}
