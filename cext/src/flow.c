#include "flow.h"

#include <string.h>

#include "bytes.h"

enum {
    PIECE_MIN = 1024, /* ours: a smaller rest of a frame stays empty */
    TAIL_MIN = 4096   /* ours: what is shorter is copied */
};

void flow_queue(struct flow *f, struct item *item, struct position cost) {
    item->next = NULL;
    if (f->send.tail)
        f->send.tail->next = item;
    else
        f->send.head = item;
    f->send.tail = item;
    f->send.accepted.datagrams += cost.datagrams;
    f->send.accepted.bytes += cost.bytes;
}

uint8_t flow_class(const struct flow *f) {
    uint8_t c = 0;
    while (c < f->own_priority && f->lifted[c] <= f->send.sent.datagrams)
        c++;
    return c;
}

uint64_t flow_cost_sent(const struct flow *f) {
    return f->send.sent.bytes + (f->send.head ? f->send.head->offset : 0);
}

static uint32_t item_len(const struct item *it) {
    return load32(it->lengths + 4 * (size_t)it->index);
}

/* A row of whole datagrams, the common case. */
static size_t put_whole(struct flow *f, struct item *it, uint8_t *out, size_t room, size_t budget) {
    size_t used = 0;
    while (it->index < it->count && it->offset == 0 && used < budget) {
        uint32_t len = item_len(it);
        if (len + DATAGRAM_HEADER > room - used)
            break;
        uint16_t type = load16(it->types + 2 * (size_t)it->index);
        used += segment_put_datagram(out + used, f->peer_number, type, (uint16_t)len);
        memcpy(out + used, it->payload, len);
        used += len;
        it->payload += len;
        it->index++;
        f->send.sent.datagrams++;
        f->send.sent.bytes += len + DP_DATAGRAM_COST;
    }
    return used;
}

/* A piece of a datagram that does not fit; the frame is full behind it, or nearly. */
static size_t put_piece(struct flow *f, struct item *it, uint8_t *out, size_t room,
                        struct tail *tail) {
    uint32_t len = item_len(it), rest = len - it->offset;
    size_t header = it->offset ? NEXT_HEADER : FIRST_HEADER;
    if (room < header + PIECE_MIN && room < header + rest)
        return 0;
    size_t piece = rest < room - header ? rest : room - header;
    if (it->offset)
        segment_put_next(out, f->peer_number, (uint16_t)piece);
    else
        segment_put_first(out, f->peer_number, load16(it->types + 2 * (size_t)it->index), len,
                          (uint16_t)piece);
    bool last = room - header - piece < NEXT_HEADER + PIECE_MIN;
    if (tail && last && piece >= TAIL_MIN && !it->blob->owned)
        *tail = (struct tail){it->payload, piece};
    else
        memcpy(out + header, it->payload, piece);
    it->payload += piece;
    it->offset += (uint32_t)piece;
    if (it->offset == len) {
        it->offset = 0;
        it->index++;
        f->send.sent.datagrams++;
        f->send.sent.bytes += (uint64_t)len + DP_DATAGRAM_COST;
    }
    return header + piece;
}

/* An EPOCH, which is never cut. */
static size_t put_epoch(struct flow *f, const struct item *it, uint8_t *out, size_t room) {
    return room < EPOCH_SIZE ? 0 : segment_put_epoch(out, f->peer_number, it->payload);
}

static void unlink_head(struct flow *f, struct item **done) {
    struct item *it = f->send.head;
    f->send.head = it->next;
    if (!f->send.head)
        f->send.tail = NULL;
    it->next = *done;
    *done = it;
}

size_t flow_fill(struct flow *f, uint8_t *out, size_t room, size_t budget, struct item **done,
                 bool *drained, struct tail *tail) {
    size_t used = 0;
    while (f->send.head && used < budget) {
        struct item *it = f->send.head;
        size_t n = it->count ? put_whole(f, it, out + used, room - used, budget - used)
                             : put_epoch(f, it, out + used, room - used);
        if (n == 0 && it->index < it->count)
            n = put_piece(f, it, out + used, room - used, tail);
        if (n == 0)
            break;
        used += n;
        if (it->index == it->count)
            unlink_head(f, done);
        if (tail && tail->len)
            break;
    }
    *drained = !f->send.head;
    return used;
}

int flow_accept(struct flow *f, uint32_t len, uint16_t type) {
    if (len > f->max_datagram || type >= f->types || f->receive.builder.total)
        return DP_E_DATAGRAM;
    uint64_t bytes = f->receive.received.bytes + len + DP_DATAGRAM_COST;
    if (bytes > f->receive.limit)
        return DP_E_CREDIT;
    f->receive.received.bytes = bytes;
    f->receive.received.datagrams++;
    return DP_OK;
}

int flow_epoch(struct flow *f) {
    if (f->receive.epoch || f->receive.received.datagrams)
        return DP_E_DATAGRAM;
    f->receive.epoch = true;
    return DP_OK;
}

static bool within(struct position at, struct position low, struct position high) {
    return at.datagrams >= low.datagrams && at.bytes >= low.bytes &&
           at.datagrams <= high.datagrams && at.bytes <= high.bytes;
}

int flow_credit(struct flow *f, const struct segment *s) {
    struct position at = {s->datagrams, s->bytes};
    if (!within(at, f->send.confirmed, f->send.sent))
        return DP_E_CREDIT;
    f->send.confirmed = at;
    f->send.peer_window = s->total;
    if (at.bytes + s->total > f->send.limit)
        f->send.limit = at.bytes + s->total;
    return DP_OK;
}

int flow_consume(struct flow *f, struct position at) {
    struct position complete = f->receive.received;
    if (f->receive.builder.total) {
        complete.datagrams--;
        complete.bytes -= (uint64_t)f->receive.builder.total + DP_DATAGRAM_COST;
    }
    if (!within(at, f->receive.consumed, complete))
        return DP_E_CREDIT;
    f->receive.consumed = at;
    return DP_OK;
}
