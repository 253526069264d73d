#include "builder.h"

#include <string.h>

#include "bytes.h"

enum {
    ENTRY_SIZE = 8,   /* length 4, type 2, nothing 2: room for the 6 bytes it becomes */
    RECORD_SLACK = 8, /* padding of payload and of columns */
    RECORD_BUFFER_MAX = 294912
};

/* Bytes a record needs while it is built. */
static size_t space_for(size_t payload, size_t count) {
    return DATA_RECORD_HEADER + payload + RECORD_SLACK + ENTRY_SIZE * count;
}

static uint8_t *entry(const struct builder *b, uint32_t i) {
    return b->buffer->data + b->buffer->cap - ENTRY_SIZE * (size_t)(i + 1);
}

static uint8_t *tail(const struct builder *b) {
    return b->buffer->data + DATA_RECORD_HEADER + b->payload + b->have;
}

/* Columns from the entries at the back to behind the payload. Entry i is read before anything can
 * be written over it only when they are copied out first. */
static uint8_t *put_columns(const struct builder *b, uint8_t *at) {
    static _Thread_local uint8_t entries[BUILDER_COUNT_MAX * ENTRY_SIZE]; /* public */
    size_t size = ENTRY_SIZE * (size_t)b->count;
    memcpy(entries, entry(b, b->count - 1), size);
    for (size_t i = 0; i < b->count; i++, at += 4)
        memcpy(at, entries + size - ENTRY_SIZE * (i + 1), 4);
    for (size_t i = 0; i < b->count; i++, at += 2)
        memcpy(at, entries + size - ENTRY_SIZE * (i + 1) + 4, 2);
    return at;
}

static uint8_t *put_zeros(uint8_t *at, const uint8_t *base) {
    while ((at - base) % 4)
        *at++ = 0;
    return at;
}

static void seal_record(const struct builder *b, uint32_t flow) {
    uint8_t *base = b->buffer->data;
    uint8_t *at = put_zeros(base + DATA_RECORD_HEADER + b->payload, base);
    at = put_zeros(put_columns(b, at), base);
    b->buffer->len = (size_t)(at - base);
    store32(base, (uint32_t)b->buffer->len);
    store16(base + 4, RECORD_DATA);
    store16(base + 6, 0);
    store32(base + 8, flow);
    store32(base + 12, b->count);
    store32(base + 16, b->payload);
}

/* Start over in a buffer that holds `need` bytes, bringing along the unfinished datagram. */
static int restart(struct builder *b, struct pool *pool, size_t need, struct buffer **old) {
    struct buffer *fresh = buffer_get(pool, need);
    if (!fresh)
        return DP_E_MEMORY;
    if (b->have)
        memcpy(fresh->data + DATA_RECORD_HEADER, tail(b) - b->have, b->have);
    *old = b->buffer;
    b->buffer = fresh;
    return DP_OK;
}

int builder_finish(struct builder *b, const struct builder_output *out) {
    if (b->count == 0)
        return DP_OK;
    struct buffer *full = b->buffer;
    struct builder done = *b;
    if (b->total) {
        int rc = restart(b, out->pool, space_for(b->total, 1), &full);
        if (rc != DP_OK)
            return rc;
    } else {
        b->buffer = NULL;
    }
    seal_record(&done, out->flow);
    b->payload = b->count = 0;
    return out->emit(out->context, full);
}

/* A larger buffer with the same contents, entries at its back again. */
static int enlarge(struct builder *b, struct pool *pool, size_t need) {
    struct buffer *larger = buffer_get(pool, need);
    if (!larger)
        return DP_E_MEMORY;
    size_t front = DATA_RECORD_HEADER + (size_t)b->payload + b->have;
    size_t back = ENTRY_SIZE * (size_t)b->count;
    memcpy(larger->data, b->buffer->data, front);
    memcpy(larger->data + larger->cap - back, b->buffer->data + b->buffer->cap - back, back);
    buffer_put(pool, b->buffer);
    b->buffer = larger;
    return DP_OK;
}

/* Room for one more datagram of `len` bytes behind the complete ones. */
static int make_room(struct builder *b, const struct builder_output *out, size_t len) {
    size_t need = space_for(b->payload + len, (size_t)b->count + 1);
    if (b->buffer && need <= b->buffer->cap && b->count < BUILDER_COUNT_MAX)
        return DP_OK;
    if (b->buffer && need <= RECORD_BUFFER_MAX && b->count < BUILDER_COUNT_MAX)
        return enlarge(b, out->pool, need);
    int rc = builder_finish(b, out);
    if (rc != DP_OK)
        return rc;
    buffer_put(out->pool, b->buffer);
    b->buffer = buffer_get(out->pool, space_for(len, 1));
    return b->buffer ? DP_OK : DP_E_MEMORY;
}

static void push_entry(struct builder *b, uint32_t len, uint16_t type) {
    uint8_t *e = entry(b, b->count++);
    store32(e, len);
    store16(e + 4, type);
    b->payload += len;
}

int builder_add(struct builder *b, const struct builder_output *out, uint16_t type,
                const uint8_t *data, size_t len) {
    int rc = make_room(b, out, len);
    if (rc != DP_OK)
        return rc;
    memcpy(tail(b), data, len);
    push_entry(b, (uint32_t)len, type);
    return DP_OK;
}

int builder_begin(struct builder *b, const struct builder_output *out, uint16_t type,
                  uint32_t total, const uint8_t *data, size_t len) {
    int rc = make_room(b, out, total);
    if (rc != DP_OK)
        return rc;
    b->total = b->large = total;
    b->type = type;
    builder_append(b, data, len);
    return DP_OK;
}

uint8_t *builder_place(struct builder *b, struct pool *pool, size_t len) {
    if (b->total)
        return len <= b->total - b->have ? tail(b) : NULL;
    if (len >= b->large || b->count == BUILDER_COUNT_MAX)
        return NULL;
    if (!b->buffer)
        b->buffer = buffer_get(pool, space_for(b->large, 1));
    size_t need = space_for((size_t)b->payload + b->large, (size_t)b->count + 1);
    return b->buffer && need <= b->buffer->cap ? tail(b) : NULL;
}

void builder_append(struct builder *b, const uint8_t *data, size_t len) {
    if (data != tail(b))
        memcpy(tail(b), data, len);
    b->have += (uint32_t)len;
    if (b->have < b->total)
        return;
    uint32_t total = b->total;
    b->total = b->have = 0;
    push_entry(b, total, b->type);
}

void builder_unplace(struct builder *b, struct pool *pool) {
    if (b->count || b->total)
        return;
    buffer_put(pool, b->buffer);
    b->buffer = NULL;
}

void builder_clear(struct builder *b, struct pool *pool) {
    buffer_put(pool, b->buffer);
    *b = (struct builder){0};
}
