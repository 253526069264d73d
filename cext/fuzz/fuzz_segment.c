/* Any plaintext: segments until the end or DP_E_SEGMENT. Each moves the cursor, lies within the
 * frame, and is written again as the same bytes; a refusal moves nothing. */
#include <string.h>

#include "check.h"
#include "segment.h"

static size_t put_header(uint8_t *out, const struct segment *s) {
    switch (s->kind) {
    case SEGMENT_DATAGRAM:
        return segment_put_datagram(out, s->channel, s->type, (uint16_t)s->len);
    case SEGMENT_FIRST:
        return segment_put_first(out, s->channel, s->type, s->total, (uint16_t)s->len);
    case SEGMENT_NEXT:
        return segment_put_next(out, s->channel, (uint16_t)s->len);
    case SEGMENT_CREDIT:
        return segment_put_credit(out, s->channel, s->total, s->datagrams, s->bytes);
    case SEGMENT_PING:
    case SEGMENT_PONG:
        return segment_put_ping(out, s->kind, s->bytes);
    case SEGMENT_REKEY:
        return segment_put_rekey(out);
    case SEGMENT_CLOSE:
        return segment_put_close(out, s->type);
    case SEGMENT_EPOCH:
        return segment_put_epoch(out, s->channel, s->data - EPOCH_BODY);
    case SEGMENT_BLOCKED:
        return segment_put_blocked(out, s->channel, s->bytes);
    default:
        out[0] = SEGMENT_PADDING;
        return 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *cursor = data, *end = data + size;
    while (cursor < end) {
        struct segment s;
        uint8_t header[EPOCH_SIZE];
        const uint8_t *start = cursor;
        int rc = segment_next(&cursor, end, &s);
        CHECK(rc == DP_OK || (rc == DP_E_SEGMENT && cursor == start));
        if (rc != DP_OK)
            return 0;
        size_t len = put_header(header, &s);
        CHECK(cursor > start && cursor <= end && s.data == start + len && cursor == s.data + s.len);
        CHECK(memcmp(header, start, len) == 0);
    }
    return 0;
}
