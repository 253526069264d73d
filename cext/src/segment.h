/* Segments: what the plaintext of a frame is made of (docs/spec/wire.md, "Segments").
 * All integers little endian. */
#ifndef DP2P_SEGMENT_H
#define DP2P_SEGMENT_H

#include "dp2p.h"

enum segment_kind {
    SEGMENT_PADDING = 0,  /* the rest of the frame */
    SEGMENT_DATAGRAM = 1, /* channel 1 | type 2 | length 2 | payload: a whole datagram */
    SEGMENT_FIRST = 2,    /* channel 1 | type 2 | total 4 | length 2 | first piece */
    SEGMENT_NEXT = 3,     /* channel 1 | length 2 | next piece */
    SEGMENT_CREDIT = 4,   /* channel 1 | window 4 | datagrams 8 | bytes 8 */
    SEGMENT_PING = 5,     /* token 8 */
    SEGMENT_PONG = 6,     /* token 8 */
    SEGMENT_REKEY = 7,    /* the frame ends; the next one is under the next key */
    SEGMENT_CLOSE = 8,    /* reason 2; the frame ends, and so does the link */
    SEGMENT_EPOCH = 9,    /* channel 1 | epoch 8 | datagrams 8 | bytes 8 */
    SEGMENT_BLOCKED = 10, /* channel 1 | limit 8 */
    SEGMENT_KINDS = 11
};

/* Header sizes, kind included. */
enum {
    DATAGRAM_HEADER = 6,
    FIRST_HEADER = 10,
    NEXT_HEADER = 4,
    CREDIT_SIZE = 22,
    PING_SIZE = 9,
    REKEY_SIZE = 1,
    CLOSE_SIZE = 3,
    EPOCH_SIZE = 26,
    EPOCH_BODY = EPOCH_SIZE - 2, /* the same in a segment and in a record */
    BLOCKED_SIZE = 10
};

struct segment {
    enum segment_kind kind;
    uint8_t channel;
    uint16_t type;       /* datagram type, or close reason */
    uint32_t total;      /* whole datagram's bytes, or window */
    uint64_t epoch;      /* EPOCH */
    uint64_t datagrams;  /* CREDIT, EPOCH */
    uint64_t bytes;      /* CREDIT, EPOCH; the token of PING and PONG; the limit of BLOCKED */
    const uint8_t *data; /* piece, inside the frame */
    size_t len;
};

/* Take the segment at *cursor (*cursor < end) and move *cursor behind it.
 * Errors: DP_E_SEGMENT when it is unknown, cut short, or breaks a rule that needs no context: a
 * piece is not empty, a FIRST is shorter than its total, REKEY and CLOSE end their frame. */
int segment_next(const uint8_t **cursor, const uint8_t *end, struct segment *out);

/* Write a segment's header at `out`, which has room for it, and return its size. */
size_t segment_put_datagram(uint8_t *out, uint8_t channel, uint16_t type, uint16_t len);
size_t segment_put_first(uint8_t *out, uint8_t channel, uint16_t type, uint32_t total,
                         uint16_t len);
size_t segment_put_next(uint8_t *out, uint8_t channel, uint16_t len);
size_t segment_put_credit(uint8_t *out, uint8_t channel, uint32_t window, uint64_t datagrams,
                          uint64_t bytes);
size_t segment_put_epoch(uint8_t *out, uint8_t channel, const uint8_t body[EPOCH_BODY]);
size_t segment_put_blocked(uint8_t *out, uint8_t channel, uint64_t limit);
size_t segment_put_ping(uint8_t *out, enum segment_kind kind, uint64_t token);
size_t segment_put_rekey(uint8_t *out);
size_t segment_put_close(uint8_t *out, uint16_t reason);

#endif
