/* The handshake of a pair in each of the ways it can go. For the handshake's tests and fuzz targets. */
#ifndef DP2P_SHAKE_PAIR_H
#define DP2P_SHAKE_PAIR_H

#include "link_pair.h"
#include "link_shake.h"

/* How side 0 dials, and what comes of it. */
enum pair_way {
    PAIR_XX,
    PAIR_IK,
    PAIR_RESUME,
    PAIR_WRONG_KEY,      /* falls back: another key answers */
    PAIR_UNKNOWN_TICKET, /* falls back: the ticket is lost */
    PAIR_WRONG_PSK,      /* falls back: the ticket has another psk there */
    PAIR_WAYS
};

static inline bool pair_falls_back(int way) {
    return way >= PAIR_WRONG_KEY;
}

/* The mode that side 0 begins with. */
static inline int pair_mode(int way) {
    return way == PAIR_XX                            ? DP_MODE_XX
           : way == PAIR_IK || way == PAIR_WRONG_KEY ? DP_MODE_IK
                                                     : DP_MODE_RESUME;
}

/* The mode on the wire of messages 2 and 3. */
static inline uint8_t pair_wire_mode(int way) {
    return (uint8_t)(pair_falls_back(way) ? (int)SHAKE_FALLBACK : pair_mode(way));
}

static inline void pair_start(struct pair *p) {
    struct dp_node_config config[2] = {pair_config(), pair_config()};
    pair_nodes(p, config);
}

/* Links on which side 0 dials in its `way`; nothing is sent yet. */
static inline void pair_dial(struct pair *p, int way, bool pinned) {
    uint8_t key[DP_KEY_LEN], ticket[DP_TICKET_LEN];
    struct dp_known known = {.key = way == PAIR_XX ? NULL : key,
                             .ticket = pair_mode(way) == DP_MODE_RESUME ? ticket : NULL,
                             .pinned = pinned && way != PAIR_XX};
    struct pair_ticket *there = &p->side[1].ticket;
    pair_key(key, way == PAIR_WRONG_KEY ? 2 : 1);
    memset(ticket, 0x77, sizeof ticket);
    there->known = way != PAIR_UNKNOWN_TICKET;
    memset(there->name, 0x77, sizeof there->name);
    memset(there->psk, way == PAIR_WRONG_PSK ? 0x78 : 0x77, sizeof there->psk);
    pair_key(there->key, 0);
    pair_links(p, &known);
}

/* All that is on the wire arrives at side `to`, which is told of the ticket if it asks. */
static inline int pair_hand(struct pair *p, int to) {
    int rc = pair_deliver(p, to, PAIR_WIRE);
    unsigned tickets = p->side[to].seen.tickets;
    pair_gather(p, to);
    if (p->side[to].seen.tickets > tickets) {
        rc = pair_deliver(p, to, PAIR_WIRE);
        pair_gather(p, to);
    }
    return rc;
}

/* Carry messages of links that pair_dial made until number `stop` is on its way; returns the side it
 * goes to. */
static inline int pair_carry(struct pair *p, int stop) {
    for (int message = 0; message < stop; message++) {
        CHECK(pair_produce(p, message % 2, 0) > 0);
        CHECK(pair_hand(p, 1 - message % 2) == DP_OK);
    }
    CHECK(pair_produce(p, stop % 2, 0) > 0);
    return 1 - stop % 2;
}

/* A new pair whose handshake has come to where message number `stop` is on its way. */
static inline int pair_shake(struct pair *p, int way, int stop) {
    pair_start(p);
    pair_dial(p, way, false);
    return pair_carry(p, stop);
}

static inline struct dp_link_info pair_info(const struct pair *p, int i) {
    struct dp_link_info info;
    CHECK(dp_link_get(p->side[i].node, p->side[i].link, &info) == DP_OK);
    return info;
}

/* Side `i` is READY or further, as its `way` says, with the peer's key. */
static inline void pair_check_ready(const struct pair *p, int i, int way) {
    uint8_t key[DP_KEY_LEN];
    pair_key(key, 1 - i);
    CHECK_ROW(way, p->side[i].seen.ready == 1 && p->side[i].seen.down == 0);
    struct dp_link_info info = pair_info(p, i);
    CHECK_ROW(way, info.mode == pair_mode(way) && info.fell_back == pair_falls_back(way));
    CHECK_ROW(way, memcmp(info.key, key, DP_KEY_LEN) == 0);
}

/* Side `i` ended with `status`, in silence, and never was READY. */
static inline bool pair_refused(struct pair *p, int i, int status) {
    const struct pair_seen *seen = &p->side[i].seen;
    return seen->down == 1 && seen->status == status && seen->ready == 0 &&
           pair_produce(p, i, 0) == 0;
}

#endif
