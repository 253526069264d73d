#include "table.h"

#include <stdlib.h>

enum { INDEX_BITS = 20, REUSE_AFTER = 64 };
#define SHORT_INDEX_MASK ((UINT32_C(1) << INDEX_BITS) - 1)

void table_init(struct table *t, uint32_t limit) {
    *t = (struct table){.limit = limit < SHORT_INDEX_MASK ? limit : SHORT_INDEX_MASK};
}

void table_free(struct table *t) {
    free(t->slots);
    *t = (struct table){0};
}

static int grow(struct table *t) {
    uint32_t capacity = t->capacity ? t->capacity * 2 : 16;
    struct table_slot *slots = realloc(t->slots, capacity * sizeof *slots);
    if (!slots)
        return DP_E_MEMORY;
    t->slots = slots;
    t->capacity = capacity;
    return DP_OK;
}

static uint32_t take_free(struct table *t) {
    uint32_t index = t->free_head;
    t->free_head = t->slots[index].next_free;
    t->free_count--;
    return index;
}

int table_add(struct table *t, void *object, uint64_t *handle) {
    if (t->count >= t->limit)
        return DP_E_LIMIT;
    uint32_t index;
    if (t->free_count > REUSE_AFTER || t->used == SHORT_INDEX_MASK) {
        index = take_free(t);
    } else {
        if (t->used == t->capacity && grow(t) != DP_OK)
            return DP_E_MEMORY;
        index = t->used++;
        t->slots[index].generation = 1;
    }
    t->slots[index].object = object;
    t->count++;
    *handle = (uint64_t)t->slots[index].generation << 32 | index;
    return DP_OK;
}

void *table_get(const struct table *t, uint64_t handle) {
    uint32_t index = (uint32_t)handle;
    if (index >= t->used || t->slots[index].generation != handle >> 32)
        return NULL;
    return t->slots[index].object;
}

void *table_get_short(const struct table *t, uint32_t handle) {
    uint32_t index = handle & SHORT_INDEX_MASK;
    if (index >= t->used || (t->slots[index].generation & 0xfff) != handle >> INDEX_BITS)
        return NULL;
    return t->slots[index].object;
}

void table_remove(struct table *t, uint64_t handle) {
    if (!table_get(t, handle))
        return;
    uint32_t index = (uint32_t)handle;
    t->slots[index].object = NULL;
    t->slots[index].generation++;
    if (t->free_count++ == 0)
        t->free_head = index;
    else
        t->slots[t->free_tail].next_free = index;
    t->free_tail = index;
    t->count--;
}

uint32_t table_short(uint64_t handle) {
    return (uint32_t)(handle >> 32 & 0xfff) << INDEX_BITS | ((uint32_t)handle & SHORT_INDEX_MASK);
}
