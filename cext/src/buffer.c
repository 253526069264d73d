#include "buffer.h"

#include <stdlib.h>

static const size_t CLASS_SIZE[BUFFER_CLASSES] = {4096, 36864, 294912};

/* The class whose buffers hold `cap` bytes, or BUFFER_CLASSES for a size of its own. */
static int class_of(size_t cap) {
    int i = 0;
    while (i < BUFFER_CLASSES && CLASS_SIZE[i] < cap)
        i++;
    return i;
}

struct buffer *buffer_get(struct pool *pool, size_t cap) {
    int class = class_of(cap);
    struct buffer *b = NULL;
    if (class < BUFFER_CLASSES) {
        cap = CLASS_SIZE[class];
        b = pool->free[class];
    }
    if (b) {
        pool->free[class] = b->next;
        pool->kept[class]--;
    } else {
        b = malloc(sizeof *b + cap);
        if (!b)
            return NULL;
    }
    b->next = NULL;
    b->cap = cap;
    b->len = b->start = 0;
    pool->held_bytes += cap;
    return b;
}

void buffer_put(struct pool *pool, struct buffer *b) {
    if (!b)
        return;
    pool->held_bytes -= b->cap;
    int class = class_of(b->cap);
    if (class == BUFFER_CLASSES || pool->kept[class] == BUFFERS_KEPT) {
        free(b);
        return;
    }
    b->next = pool->free[class];
    pool->free[class] = b;
    pool->kept[class]++;
}

void pool_clear(struct pool *pool) {
    for (int i = 0; i < BUFFER_CLASSES; i++) {
        struct buffer *b = pool->free[i];
        while (b) {
            struct buffer *next = b->next;
            free(b);
            b = next;
        }
        pool->free[i] = NULL;
        pool->kept[i] = 0;
    }
}
