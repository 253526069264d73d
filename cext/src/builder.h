/* Builds the DATA record of a flow from what comes in (docs/spec/app-api.md, "DATA").
 *
 * Payloads grow from the front of one buffer, their lengths and types from its back; finishing
 * brings the columns into place. A datagram that comes in pieces grows behind the complete
 * ones and stays when they leave. */
#ifndef DP2P_BUILDER_H
#define DP2P_BUILDER_H

#include "buffer.h"

enum {
    RECORD_HEADER = 12,
    DATA_RECORD_HEADER = 20,
    BUILDER_COUNT_MAX = 16384 /* datagrams in a record */
};

enum record_kind {
    RECORD_ATTACH = 1,
    RECORD_ATTACHED = 2,
    RECORD_DATA = 3,
    RECORD_CONSUMED = 4,
    RECORD_CREDIT = 5,
    RECORD_UP = 6,
    RECORD_DOWN = 7,
    RECORD_ERROR = 8,
    RECORD_EPOCH = 9
};

struct builder {
    struct buffer *buffer; /* NULL while nothing is there */
    uint32_t payload;      /* bytes of complete datagrams */
    uint32_t count;        /* complete datagrams */
    uint32_t total;        /* of the unfinished datagram, or 0 when there is none */
    uint32_t have;         /* bytes of it so far */
    uint16_t type;         /* of it */
    uint32_t large;        /* the latest datagram that came in pieces, or 0 */
};

/* Where finished records go. */
typedef int (*record_fn)(void *context, struct buffer *record);

struct builder_output {
    struct pool *pool;
    uint32_t flow;  /* written into the record */
    record_fn emit; /* takes over the buffer, whose len is set */
    void *context;
};

/* Add a whole datagram. Errors: DP_E_MEMORY, or what emit returns. */
int builder_add(struct builder *b, const struct builder_output *out, uint16_t type,
                const uint8_t *data, size_t len);
/* Begin a datagram of `total` bytes with its first piece. */
int builder_begin(struct builder *b, const struct builder_output *out, uint16_t type,
                  uint32_t total, const uint8_t *data, size_t len);
/* Add a piece; the caller has checked have + len <= total. */
void builder_append(struct builder *b, const uint8_t *data, size_t len);
/* Where the next `len` bytes of the unfinished datagram belong, or, when there is none, those of one
 * as large as the latest that came in pieces; NULL when they have no place yet, or do not fit. Bytes
 * that stand there already are not copied by builder_append and builder_begin. */
uint8_t *builder_place(struct builder *b, struct pool *pool, size_t len);
/* Nothing came there. */
void builder_unplace(struct builder *b, struct pool *pool);
/* Emit the complete datagrams, if any. */
int builder_finish(struct builder *b, const struct builder_output *out);
void builder_clear(struct builder *b, struct pool *pool);

#endif
