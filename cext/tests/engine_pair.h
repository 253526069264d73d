/* Two engines in one process, polled in turn over real sockets: no thread, no sleep. For the engine's
 * tests. */
#ifndef DP2P_ENGINE_PAIR_H
#define DP2P_ENGINE_PAIR_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"
#include "link_pair.h"

enum { ROUNDS = 3000 };

static dp_engine *engines[2];
static struct pair_side sides[2];
static uint64_t links[2]; /* of the last READY */
static struct pair_seen seen[2];
static uint8_t tickets[2][2][DP_TICKET_LEN]; /* of that link, for both directions */
static uint64_t asks;                        /* the link of the last TICKET */
static size_t echoed;

static inline struct dp_address local(int family, uint16_t port) {
    struct dp_address a = {.family = (uint8_t)family, .ip = {127, 0, 0, 1}, .port = port};
    if (family == 6)
        memcpy(a.ip, &in6addr_loopback, sizeof a.ip);
    return a;
}

static inline void start(const struct dp_node_config *config) {
    memset(seen, 0, sizeof seen);
    memset(sides, 0, sizeof sides);
    asks = 0;
    for (int i = 0; i < 2; i++) {
        struct dp_node_config c = *config;
        memset(c.seed, 1 + i, sizeof c.seed);
        CHECK(dp_engine_new(&engines[i], &c) == DP_OK);
        sides[i].node = dp_engine_node(engines[i]);
        CHECK(dp_sink_open(sides[i].node, &sides[i].sink) == DP_OK);
    }
}

static inline void stop(void) {
    for (int i = 0; i < 2; i++)
        dp_engine_free(engines[i]);
}

static inline struct dp_stats stats_of(int i) {
    struct dp_stats stats;
    dp_node_stats(sides[i].node, &stats);
    return stats;
}

static inline void on_event(int i, const struct dp_event *event) {
    if (event->kind == DP_EVENT_READY) {
        links[i] = event->link;
        CHECK(dp_link_tickets(sides[i].node, links[i], tickets[i][0], tickets[i][1]) == DP_OK);
        (void)dp_link_admit(sides[i].node, links[i], (const uint8_t *)"hi", 2);
    }
    seen[i].ready += event->kind == DP_EVENT_READY;
    seen[i].control += event->kind == DP_EVENT_CONTROL;
    seen[i].down += event->kind == DP_EVENT_DOWN;
    seen[i].tickets += event->kind == DP_EVENT_TICKET;
    if (event->kind == DP_EVENT_DOWN)
        seen[i].status = event->status, seen[i].reason = event->reason,
        seen[i].unsent = event->unsent;
    if (event->kind == DP_EVENT_TICKET)
        asks = event->link;
}

/* Events: whoever is READY is admitted; who asks for a ticket waits. Outputs: their payload is
 * counted. */
static inline void handle(int i) {
    const struct dp_event *events;
    struct dp_output out;
    size_t n = dp_node_events(sides[i].node, &events);
    for (size_t e = 0; e < n; e++)
        on_event(i, &events[e]);
    dp_node_events_done(sides[i].node);
    pair_released(&sides[i]);
    for (; dp_node_output(sides[i].node, &out); dp_node_output_done(sides[i].node))
        for (size_t at = 0; at < out.len; at += load32(out.data + at))
            if (load16(out.data + at + 4) == RECORD_DATA)
                echoed += load32(out.data + at + 16);
}

static inline void poll_both(void) {
    uint64_t woken;
    for (int i = 0; i < 2; i++) {
        CHECK(dp_engine_poll(engines[i], 1, &woken) == DP_OK);
        handle(i);
    }
}

#define POLL_UNTIL(condition)                            \
    do {                                                 \
        for (int r = 0; !(condition) && r < ROUNDS; r++) \
            poll_both();                                 \
        CHECK(condition);                                \
    } while (0)

/* Engine 1 listens. Returns the port. */
static inline uint16_t listen_one(int family) {
    struct dp_address address = local(family, 0);
    CHECK(dp_engine_listen(engines[1], &address, &address.port) == DP_OK && address.port);
    return address.port;
}

/* Engine 0 dials by `ticket`, or by the key alone; both admit. */
static inline void dial_one(int family, uint16_t port, const uint8_t *ticket) {
    struct dp_address address = local(family, port);
    uint64_t link;
    uint8_t key[DP_KEY_LEN];
    struct dp_known known = {.key = key, .ticket = ticket, .pinned = true};
    unsigned controls[2] = {seen[0].control, seen[1].control};
    pair_key(key, 1);
    CHECK(dp_engine_dial(engines[0], &address, &known, 77, &link) == DP_OK);
    POLL_UNTIL((seen[0].control > controls[0] && seen[1].control > controls[1]) || asks);
    CHECK(link == links[0] || asks);
}

/* A bare connection from 127.0.`network`.1. */
static inline int raw_connect_from(uint8_t network, uint16_t port) {
    struct sockaddr_in from = {.sin_family = AF_INET};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK | (uint32_t)network << 8);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&from, sizeof from) == 0);
    CHECK(connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS);
    return fd;
}

static inline int raw_connect(uint16_t port) {
    return raw_connect_from(0, port);
}

#endif
