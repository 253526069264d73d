/* Buffers in a few sizes, kept for reuse: a link that is idle holds none. */
#ifndef DP2P_BUFFER_H
#define DP2P_BUFFER_H

#include "dp2p.h"

enum { BUFFER_CLASSES = 3, BUFFERS_KEPT = 8 };

struct buffer {
    struct buffer *next;
    size_t cap;
    size_t len;   /* for the owner: bytes in use */
    size_t start; /* for the owner: bytes at the front that are done */
    uint8_t data[];
};

struct pool {
    struct buffer *free[BUFFER_CLASSES];
    uint32_t kept[BUFFER_CLASSES];
    uint64_t held_bytes; /* in buffers given out */
};

/* A buffer of at least `cap` bytes with len and start 0, or NULL. */
struct buffer *buffer_get(struct pool *pool, size_t cap);
/* Give it back; NULL is fine. Contents are not wiped: buffers hold what applications own. */
void buffer_put(struct pool *pool, struct buffer *buffer);
void pool_clear(struct pool *pool);

#endif
