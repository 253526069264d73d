/* Two links joined in memory, in virtual time, with repeatable randomness, and an application on
 * each side that checks what it gets. For the link's tests and the fuzz targets. */
#ifndef DP2P_LINK_PAIR_H
#define DP2P_LINK_PAIR_H

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "check.h"
#include "dp2p_identity.h"
#include "node.h"

enum {
    PAIR_FLOWS = 4,
    PAIR_DATAGRAMS = 8192, /* in one direction of a flow */
    PAIR_WIRE = 1 << 19,
    PAIR_START_MS = 1000,
    PAIR_HELLO = 2
};

/* What a side was told. */
struct pair_seen {
    unsigned ready, control, down, refused, tickets;
    int status, refusal; /* of the last DOWN and REFUSED */
    uint16_t reason;
    bool unsent;
    size_t control_len;
    uint16_t control_type;
    uint8_t answered[DP_KEY_LEN]; /* the last DOWN's data, of which there are so many bytes: */
    size_t answered_len;
};

/* What a side says when it is asked for a ticket; it knows only the one. */
struct pair_ticket {
    bool known;
    uint8_t name[DP_TICKET_NAME_LEN], psk[DP_KEY_LEN], key[DP_KEY_LEN];
};

struct pair_side {
    dp_node *node;
    uint64_t link;
    uint32_t sink;
    uint64_t drawn; /* the repeatable random source's counter */
    uint8_t seed;
    bool filled; /* draws of one or two bytes, which choose lengths and top bits, are all `fill` */
    uint8_t fill;
    uint8_t wire[PAIR_WIRE]; /* on its way to this side, */
    size_t on_wire, arrived; /* of which so many bytes are there */
    unsigned kept;           /* messages that the node still reads */
    struct pair_ticket ticket;
    struct pair_seen seen;
};

/* One direction of a flow. */
struct pair_lane {
    uint32_t len[PAIR_DATAGRAMS];
    uint32_t sent, received;                             /* datagrams */
    uint64_t sent_bytes, received_bytes, consumed_bytes; /* with their cost */
    uint64_t limit;                                      /* as the sending application knows it */
    bool epoch_sent, epoch_received;
};

struct pair_flow {
    uint32_t handle[2];       /* 0 when closed on that side */
    struct pair_lane lane[2]; /* by sender */
};

struct pair {
    struct pair_side side[2]; /* 0 dials */
    struct pair_flow flow[PAIR_FLOWS];
    uint64_t now_ms;
};

static inline void pair_random(void *context, uint8_t *out, size_t len) {
    struct pair_side *side = context;
    uint8_t seed[randombytes_SEEDBYTES] = {0};
    side->drawn++;
    memcpy(seed, &side->drawn, sizeof side->drawn);
    seed[31] = side->seed;
    if (side->filled && len <= 2)
        memset(out, side->fill, len);
    else
        randombytes_buf_deterministic(out, len, seed);
}

static inline struct dp_node_config pair_config(void) {
    return (struct dp_node_config){.network = "test",
                                   .max_links = 100,
                                   .max_handshakes = 100,
                                   .max_handshakes_per_address = 100,
                                   .max_handshakes_per_network = 100,
                                   .handshake_ms = 10000,
                                   .keepalive_ms = 20000,
                                   .idle_ms = 60000,
                                   .rekey_bytes = UINT64_C(1) << 30,
                                   .rekey_ms = 600000,
                                   .window_max = 1}; /* windows stay as they begin */
}

/* The public key of side `i`. */
static inline void pair_key(uint8_t out[DP_KEY_LEN], int i) {
    uint8_t seed[DP_SEED_LEN];
    memset(seed, 1 + i, sizeof seed);
    CHECK(dp_identity_public(out, seed) == DP_OK);
}

/* Two nodes; `config` of each. */
static inline void pair_nodes(struct pair *p, const struct dp_node_config config[2]) {
    memset(p, 0, sizeof *p);
    p->now_ms = PAIR_START_MS;
    for (int i = 0; i < 2; i++) {
        struct dp_node_config c = config[i];
        p->side[i].seed = (uint8_t)(1 + i);
        memset(c.seed, 1 + i, sizeof c.seed);
        c.random = pair_random;
        c.random_context = &p->side[i];
        CHECK(dp_node_new(&p->side[i].node, &c) == DP_OK);
        CHECK(dp_node_set_hello(p->side[i].node, (const uint8_t *)"{}", PAIR_HELLO) == DP_OK);
        CHECK(dp_sink_open(p->side[i].node, &p->side[i].sink) == DP_OK);
    }
}

/* Links of which side `from` dials, relying on `known`. */
static inline void pair_links_from(struct pair *p, int from, const struct dp_known *known) {
    for (int i = 0; i < 2; i++) {
        memset(&p->side[i].seen, 0, sizeof p->side[i].seen);
        CHECK(dp_link_new(p->side[i].node, &p->side[i].link, i == from, i == from ? known : NULL,
                          NULL, (uint64_t)i, p->now_ms) == DP_OK);
    }
}

static inline void pair_links(struct pair *p, const struct dp_known *known) {
    pair_links_from(p, 0, known);
}

static inline struct link *pair_link(const struct pair *p, int i) {
    return table_get(&p->side[i].node->links, p->side[i].link);
}

/* The link's state; DEAD once it is gone. */
static inline int pair_state(const struct pair *p, int i) {
    struct dp_link_info info;
    return dp_link_get(p->side[i].node, p->side[i].link, &info) == DP_OK ? info.state
                                                                         : DP_LINK_DEAD;
}

static inline struct dp_stats pair_stats(const struct pair *p, int i) {
    struct dp_stats stats;
    dp_node_stats(p->side[i].node, &stats);
    return stats;
}

/* --- the application ----------------------------------------------------------------------------- */

/* Byte `at` of datagram `n` in a lane; its type is n modulo 7. */
static inline uint8_t pair_byte(int flow, int from, uint32_t n, size_t at) {
    return (uint8_t)(n * 31 + at * 7 + (at >> 8) + (unsigned)flow * 64 + (unsigned)from);
}

static inline void pair_check_data(struct pair *p, int to, int flow, const uint8_t *record) {
    uint32_t count = load32(record + 12), payload = load32(record + 16);
    const uint8_t *at = record + DATA_RECORD_HEADER;
    const uint8_t *lengths = at + payload + (-payload & 3), *types = lengths + 4 * (size_t)count;
    struct pair_lane *lane = &p->flow[flow].lane[1 - to];
    CHECK(count > 0 &&
          load32(record) == (size_t)(types - record) + 2 * (size_t)(count + (count & 1)));
    for (uint32_t i = 0; i < count; i++, lane->received++) {
        uint32_t n = lane->received, len = load32(lengths + 4 * (size_t)i);
        CHECK(n < lane->sent && len == lane->len[n] && load16(types + 2 * (size_t)i) == n % 7);
        for (size_t b = 0; b < len; b++)
            CHECK(at[b] == pair_byte(flow, 1 - to, n, b));
        at += len;
        lane->received_bytes += (uint64_t)len + DP_DATAGRAM_COST;
    }
    CHECK(at == record + DATA_RECORD_HEADER + payload);
}

static inline void pair_check_credit(struct pair *p, int at, int flow, const uint8_t *record) {
    struct pair_lane *lane = &p->flow[flow].lane[at];
    CHECK(load32(record) == 32 && load64(record + 24) <= lane->consumed_bytes);
    lane->limit = load64(record + 24) + load32(record + 12);
}

/* It says what pair_send_epoch said, before all DATA. */
static inline void pair_check_epoch(struct pair *p, int to, int flow, const uint8_t *record) {
    struct pair_lane *lane = &p->flow[flow].lane[1 - to];
    CHECK(load16(record + 4) == RECORD_EPOCH && load32(record) == EPOCH_RECORD_SIZE);
    CHECK(lane->epoch_sent && !lane->epoch_received && lane->received == 0);
    CHECK(load32(record + 12) == 0 && load64(record + 16) == (uint64_t)flow + 1);
    CHECK(load64(record + 24) == UINT64_MAX && load64(record + 32) == (uint64_t)to);
    lane->epoch_received = true;
}

/* One message for the application of side `i`. Records of flows it has closed are passed over. */
static inline void pair_check_message(struct pair *p, int i, const struct dp_output *out) {
    CHECK(out->sink == p->side[i].sink && out->len > 0);
    for (size_t at = 0; at < out->len; at += load32(out->data + at)) {
        const uint8_t *record = out->data + at;
        int flow = 0;
        CHECK(out->len - at >= RECORD_HEADER && load32(record) <= out->len - at);
        CHECK(load32(record) >= RECORD_HEADER && load32(record) % 4 == 0 && !load16(record + 6));
        while (flow < PAIR_FLOWS && p->flow[flow].handle[i] != load32(record + 8))
            flow++;
        if (flow == PAIR_FLOWS)
            continue;
        switch (load16(record + 4)) {
        case RECORD_DATA:
            pair_check_data(p, i, flow, record);
            break;
        case RECORD_CREDIT:
            pair_check_credit(p, i, flow, record);
            break;
        default:
            pair_check_epoch(p, i, flow, record);
        }
    }
}

/* Free the messages that are no longer read: a token is its message's address. */
static inline void pair_released(struct pair_side *side) {
    uint64_t token;
    while (dp_node_released(side->node, &token, 1)) {
        CHECK(side->kept-- > 0);
        free((void *)(uintptr_t)token);
    }
}

/* A message as the application sends it; the node gets a copy without a byte to spare. */
static inline void pair_ingest(struct pair_side *side, const uint8_t *message, size_t len) {
    bool kept = false;
    uint8_t *copy = malloc(len ? len : 1);
    CHECK(copy != NULL);
    memcpy(copy, message, len);
    CHECK(dp_sink_ingest(side->node, side->sink, (uintptr_t)copy, copy, len, &kept) == DP_OK);
    if (kept)
        side->kept++;
    else
        free(copy);
}

static inline size_t pair_header(uint8_t *out, size_t size, enum record_kind kind, uint32_t flow) {
    store32(out, (uint32_t)size);
    store16(out + 4, (uint16_t)kind);
    store16(out + 6, 0);
    store32(out + 8, flow);
    return size;
}

/* Send `count` datagrams of `len` bytes; false when credit does not suffice. */
static inline bool pair_send(struct pair *p, int from, int flow, uint32_t count, uint32_t len) {
    struct pair_lane *lane = &p->flow[flow].lane[from];
    uint64_t cost = (uint64_t)count * (len + DP_DATAGRAM_COST);
    size_t payload = (size_t)count * len, column = DATA_RECORD_HEADER + payload + (-payload & 3);
    size_t size = column + 6 * (size_t)count + 2 * (count & 1);
    if (!count || lane->sent + count > PAIR_DATAGRAMS || lane->sent_bytes + cost > lane->limit)
        return false;
    uint8_t *record = calloc(1, size);
    CHECK(record != NULL);
    pair_header(record, size, RECORD_DATA, p->flow[flow].handle[from]);
    store32(record + 12, count);
    store32(record + 16, (uint32_t)payload);
    for (uint32_t i = 0; i < count; i++, lane->sent++) {
        for (size_t b = 0; b < len; b++)
            record[DATA_RECORD_HEADER + (size_t)i * len + b] = pair_byte(flow, from, lane->sent, b);
        store32(record + column + 4 * (size_t)i, len);
        store16(record + column + 4 * (size_t)count + 2 * (size_t)i, (uint16_t)(lane->sent % 7));
        lane->len[lane->sent] = len;
    }
    lane->sent_bytes += cost;
    pair_ingest(&p->side[from], record, size);
    free(record);
    return true;
}

/* False when it is too late for one. */
static inline bool pair_send_epoch(struct pair *p, int from, int flow) {
    uint8_t record[EPOCH_RECORD_SIZE];
    struct pair_lane *lane = &p->flow[flow].lane[from];
    if (lane->epoch_sent || lane->sent)
        return false;
    pair_header(record, sizeof record, RECORD_EPOCH, p->flow[flow].handle[from]);
    store32(record + 12, 0);
    store64(record + 16, (uint64_t)flow + 1);
    store64(record + 24, UINT64_MAX);
    store64(record + 32, (uint64_t)(1 - from));
    lane->epoch_sent = true;
    pair_ingest(&p->side[from], record, sizeof record);
    return true;
}

/* Side `at` consumes all it has received. */
static inline void pair_consume(struct pair *p, int at, int flow) {
    uint8_t record[32];
    struct pair_lane *lane = &p->flow[flow].lane[1 - at];
    lane->consumed_bytes = lane->received_bytes;
    pair_header(record, sizeof record, RECORD_CONSUMED, p->flow[flow].handle[at]);
    store32(record + 12, 0);
    store64(record + 16, lane->received);
    store64(record + 24, lane->consumed_bytes);
    pair_ingest(&p->side[at], record, sizeof record);
}

/* --- the stream ---------------------------------------------------------------------------------- */

/* Put what side `from` has to say, up to `cap` bytes, on the wire. */
static inline size_t pair_produce(struct pair *p, int from, size_t cap) {
    struct pair_side *to = &p->side[1 - from];
    size_t room = PAIR_WIRE - to->on_wire, len = 0;
    cap = cap < DP_PRODUCE_MIN ? DP_PRODUCE_MIN : cap;
    if (room < cap)
        return 0;
    (void)dp_link_produce(p->side[from].node, p->side[from].link, to->wire + to->on_wire, cap, &len,
                          p->now_ms);
    to->on_wire += len;
    return len;
}

/* Let `n` more bytes arrive, offer all that is there, in a buffer without a byte to spare.
 * Returns the link's answer. */
static inline int pair_deliver(struct pair *p, int to, size_t n) {
    struct pair_side *side = &p->side[to];
    size_t used = 0, rest = side->on_wire - side->arrived;
    side->arrived += n < rest ? n : rest;
    if (!side->arrived)
        return DP_OK;
    uint8_t *copy = malloc(side->arrived);
    CHECK(copy != NULL);
    memcpy(copy, side->wire, side->arrived);
    int rc = dp_link_receive(side->node, side->link, copy, side->arrived, &used, p->now_ms);
    free(copy);
    CHECK(used <= side->arrived);
    memmove(side->wire, side->wire + used, side->on_wire - used);
    side->on_wire -= used;
    side->arrived -= used;
    return rc;
}

static inline void pair_answer_ticket(struct pair_side *side, const struct dp_event *event) {
    const struct pair_ticket *ticket = &side->ticket;
    CHECK(event->len == DP_TICKET_NAME_LEN);
    bool known = ticket->known && memcmp(ticket->name, event->data, DP_TICKET_NAME_LEN) == 0;
    side->seen.tickets++;
    CHECK(dp_link_ticket(side->node, event->link, known ? ticket->psk : NULL,
                         known ? ticket->key : NULL) == DP_OK);
}

static inline void pair_event(struct pair_side *side, const struct dp_event *event) {
    struct pair_seen *seen = &side->seen;
    seen->ready += event->kind == DP_EVENT_READY;
    seen->control += event->kind == DP_EVENT_CONTROL;
    seen->down += event->kind == DP_EVENT_DOWN;
    seen->refused += event->kind == DP_EVENT_REFUSED;
    CHECK(event->kind >= DP_EVENT_READY && event->kind <= DP_EVENT_TICKET);
    if (event->kind == DP_EVENT_CONTROL) {
        seen->control_len = event->len, seen->control_type = event->type;
    } else if (event->kind == DP_EVENT_DOWN) {
        seen->status = event->status, seen->reason = event->reason;
        seen->answered_len = event->len;
        CHECK(event->len == 0 || event->len == DP_KEY_LEN);
        if (event->len)
            memcpy(seen->answered, event->data, DP_KEY_LEN);
    } else if (event->kind == DP_EVENT_REFUSED) {
        seen->refusal = event->status;
    } else if (event->kind == DP_EVENT_TICKET) {
        pair_answer_ticket(side, event);
    }
}

/* Handle events, released messages and outputs of side `i`. */
static inline void pair_gather(struct pair *p, int i) {
    struct pair_side *side = &p->side[i];
    const struct dp_event *events;
    struct dp_output out;
    size_t n = dp_node_events(side->node, &events);
    for (size_t e = 0; e < n; e++)
        pair_event(side, &events[e]);
    dp_node_events_done(side->node);
    pair_released(side);
    CHECK(dp_node_collect(side->node) == DP_OK);
    while (dp_node_output(side->node, &out)) {
        pair_check_message(p, i, &out);
        dp_node_output_done(side->node);
    }
}

/* Until nothing moves. */
static inline void pair_run(struct pair *p) {
    pair_gather(p, 0); /* a link that was held reads again */
    pair_gather(p, 1);
    for (bool moving = true; moving;) {
        moving = false;
        for (int i = 0; i < 2; i++) {
            moving |= pair_produce(p, i, 4 * DP_PRODUCE_MIN) > 0;
            struct pair_side *to = &p->side[1 - i];
            size_t before = to->on_wire;
            unsigned tickets = to->seen.tickets;
            (void)pair_deliver(p, 1 - i, PAIR_WIRE);
            pair_gather(p, 1 - i);
            moving |= to->on_wire < before || to->seen.tickets > tickets;
        }
    }
    pair_gather(p, 0);
}

/* --- whole lives --------------------------------------------------------------------------------- */

static inline void pair_admit(struct pair *p, int i) {
    CHECK(dp_link_admit(p->side[i].node, p->side[i].link, (const uint8_t *)"admit", 5) == DP_OK);
}

/* Shake hands and admit on both sides. */
static inline void pair_open(struct pair *p, const struct dp_node_config *config) {
    struct dp_node_config both[2] = {*config, *config};
    pair_nodes(p, both);
    pair_links(p, NULL);
    pair_run(p);
    for (int i = 0; i < 2; i++)
        pair_admit(p, i);
    pair_run(p);
    for (int i = 0; i < 2; i++)
        CHECK(p->side[i].seen.ready == 1 && p->side[i].seen.control == 1 && !p->side[i].seen.down);
}

/* Side `i` receives on 10 + flow + i. */
static inline int pair_flow_open(struct pair *p, int i, int flow, uint32_t window,
                                 uint8_t priority) {
    struct dp_flow_config c = {.sink = p->side[i].sink,
                               .number = (uint8_t)(10 + flow + i),
                               .peer_number = (uint8_t)(10 + flow + 1 - i),
                               .priority = priority,
                               .weight = 1,
                               .max_datagram = window,
                               .types = 7,
                               .window = window,
                               .peer_window = window};
    p->flow[flow].lane[i] = (struct pair_lane){.limit = window};
    return dp_flow_open(p->side[i].node, p->side[i].link, &c, &p->flow[flow].handle[i]);
}

static inline void pair_flow_both(struct pair *p, int flow, uint32_t window, uint8_t priority) {
    for (int i = 0; i < 2; i++)
        CHECK(pair_flow_open(p, i, flow, window, priority) == DP_OK);
}

/* A frame that side `to` will take for one of its peer's. Nothing else may be unsent there. */
static inline void pair_inject(struct pair *p, int to, const uint8_t *plain, size_t len) {
    struct pair_side *side = &p->side[to];
    struct link *from = pair_link(p, 1 - to);
    CHECK(PAIR_WIRE - side->on_wire >= FRAME_OVERHEAD + len);
    memcpy(side->wire + side->on_wire + FRAME_HEADER, plain, len);
    CHECK(frame_seal(&from->ciphers[0], from->node->aead, side->wire + side->on_wire, len, NULL,
                     0) == DP_OK);
    side->on_wire += FRAME_OVERHEAD + len;
}

/* Both streams end; what was under way is lost. */
static inline void pair_end(struct pair *p) {
    for (int i = 0; i < 2; i++) {
        (void)dp_link_end(p->side[i].node, p->side[i].link, DP_E_EOF);
        (void)dp_link_end(p->side[i].node, p->side[i].link, DP_E_EOF); /* one that was closing */
        pair_gather(p, i);
        p->side[i].on_wire = p->side[i].arrived = 0;
    }
}

static inline void pair_free(struct pair *p) {
    pair_end(p);
    for (int i = 0; i < 2; i++) {
        struct dp_stats stats = pair_stats(p, i);
        CHECK(p->side[i].kept == 0 && stats.links == 0 && stats.flows == 0);
        CHECK(stats.buffer_bytes == 0 && stats.handshakes_pending == 0 && stats.events_lost == 0);
        dp_node_free(p->side[i].node);
    }
}

#endif
