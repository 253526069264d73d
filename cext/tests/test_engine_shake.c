/* Handshakes over real sockets that wait for a ticket or for admission. */
#include "engine_pair.h"

static uint16_t begin(uint32_t handshake_ms) {
    struct dp_node_config config = pair_config();
    config.handshake_ms = handshake_ms;
    start(&config);
    return listen_one(4);
}

static struct link *link_of(int i, uint64_t handle) {
    struct link *link = table_get(&sides[i].node->links, handle);
    CHECK(link != NULL);
    return link;
}

/* The epoll events that a link's connection asks for. */
static uint32_t interest(int i, uint64_t handle) {
    return ((struct connection *)link_of(i, handle)->owner)->interest;
}

/* A caller without an engine whose first message names a ticket; `more` bytes follow it. Returns its
 * socket when the other side has asked for the ticket. */
static int ask(uint16_t port, size_t more) {
    static uint8_t out[DP_PRODUCE_MIN];
    uint8_t key[DP_KEY_LEN], ticket[DP_TICKET_LEN] = {0};
    struct dp_known known = {.key = key, .ticket = ticket};
    struct dp_node_config config = pair_config();
    dp_node *node;
    uint64_t link;
    size_t len;
    unsigned before = seen[1].tickets;
    uint64_t pending = stats_of(1).handshakes_pending;
    pair_key(key, 1);
    CHECK(dp_node_new(&node, &config) == DP_OK);
    CHECK(dp_link_new(node, &link, true, &known, NULL, 0, 1) == DP_OK);
    CHECK(dp_link_produce(node, link, out, sizeof out, &len, 1) == DP_OK);
    dp_node_free(node);
    int fd = raw_connect(port);
    POLL_UNTIL(stats_of(1).handshakes_pending > pending);
    CHECK(send(fd, out, len + more, MSG_NOSIGNAL) == (ssize_t)(len + more));
    POLL_UNTIL(seen[1].tickets == before + 1);
    return fd;
}

/* By what one handshake left, the next is resumed, and the next by that one's. */
static void test_resume(void) {
    uint16_t port = begin(10000);
    dial_one(4, port, NULL);
    for (int turn = 0; turn < 3; turn++) {
        struct dp_link_info info[2];
        uint8_t key[DP_KEY_LEN];
        pair_key(key, 0);
        CHECK(memcmp(tickets[0][0], tickets[1][1], DP_TICKET_LEN) == 0);
        dial_one(4, port, tickets[0][0]);
        CHECK(asks != 0 && interest(1, asks) == EPOLLRDHUP);
        CHECK(dp_link_ticket(sides[1].node, asks, tickets[1][1] + DP_TICKET_NAME_LEN, key) ==
              DP_OK);
        asks = 0;
        POLL_UNTIL(seen[0].control == 2u + (unsigned)turn &&
                   seen[1].control == 2u + (unsigned)turn);
        for (int i = 0; i < 2; i++) {
            CHECK(dp_link_get(sides[i].node, links[i], &info[i]) == DP_OK);
            CHECK(info[i].mode == DP_MODE_RESUME && !info[i].fell_back);
            CHECK(info[i].initiator == (i == 0) && info[i].seen.port != 0);
        }
    }
    CHECK(stats_of(0).handshakes_ik == 1 && stats_of(0).handshakes_resume == 3);
    stop();
}

/* One that waits holds up nobody, counts as a handshake, and goes on when it is told. */
static void test_wait(void) {
    uint16_t port = begin(10000);
    int fd = ask(port, 0);
    uint64_t waiting = asks;
    asks = 0;
    dial_one(4, port, NULL);
    CHECK(stats_of(1).handshakes_pending == 1 && link_of(1, waiting)->state == DP_LINK_HANDSHAKE);
    uint8_t byte;
    CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    CHECK(dp_link_ticket(sides[1].node, waiting, NULL, NULL) == DP_OK);
    POLL_UNTIL(recv(fd, &byte, 1, MSG_DONTWAIT) == 1);
    CHECK(interest(1, waiting) == EPOLLIN);
    close(fd);
    POLL_UNTIL(stats_of(1).handshakes_pending == 0);
    stop();
}

/* A caller that hangs up while it waits, in three manners, is gone at once. */
static void test_wait_hang_up(void) {
    uint16_t port = begin(UINT32_MAX);
    for (int manner = 0; manner < 3; manner++) {
        static const struct linger RESET = {.l_onoff = 1};
        int fd = ask(port, manner * 1000u);
        if (manner == 1)
            CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &RESET, sizeof RESET) == 0);
        if (manner == 2)
            CHECK(shutdown(fd, SHUT_WR) == 0);
        else
            close(fd);
        POLL_UNTIL(stats_of(1).links == 0);
        CHECK(seen[1].status == DP_E_EOF && stats_of(1).handshakes_pending == 0);
        CHECK(stats_of(1).buffer_bytes == 0);
        if (manner == 2)
            close(fd);
    }
    stop();
}

static void test_wait_deadline(void) {
    uint16_t port = begin(50);
    int fd = ask(port, 0);
    POLL_UNTIL(seen[1].down == 1);
    CHECK(seen[1].status == DP_E_TIMEOUT && stats_of(1).links == 0);
    CHECK(dp_link_ticket(sides[1].node, asks, NULL, NULL) == DP_E_ARGUMENT);
    close(fd);
    stop();
}

/* Engine 1 does not admit: it reads the peer's first control datagram and rests, whatever comes. */
static void test_rest(void) {
    struct dp_address address = local(4, begin(UINT32_MAX));
    const struct dp_event *events;
    uint64_t woken, link, accepted = 0;
    unsigned controls = 0;
    CHECK(dp_engine_dial(engines[0], &address, NULL, 1, &link) == DP_OK);
    for (int round = 0; round < ROUNDS && !controls; round++) {
        CHECK(dp_engine_poll(engines[0], 1, &woken) == DP_OK);
        handle(0);
        CHECK(dp_engine_poll(engines[1], 1, &woken) == DP_OK);
        size_t n = dp_node_events(sides[1].node, &events);
        for (size_t e = 0; e < n; e++) {
            controls += events[e].kind == DP_EVENT_CONTROL;
            accepted = events[e].link;
        }
        dp_node_events_done(sides[1].node);
    }
    CHECK(controls == 1 && stats_of(1).handshakes_pending == 1 && stats_of(1).handshakes_done == 0);
    CHECK(dp_link_control(sides[0].node, link, 5, (const uint8_t *)"x", 1) == DP_OK);
    dp_engine_flush(engines[0]);
    for (int round = 0; round < 20; round++)
        poll_both();
    CHECK(seen[1].control == 0 && interest(1, accepted) == 0);
    CHECK(dp_link_admit(sides[1].node, accepted, (const uint8_t *)"hi", 2) == DP_OK);
    POLL_UNTIL(seen[1].control == 1 && seen[0].control == 1);
    CHECK(stats_of(1).handshakes_done == 1 && interest(1, accepted) == EPOLLIN);
    stop();
}

int main(void) {
    CHECK(dp_init() == DP_OK);
    test_resume();
    test_wait();
    test_wait_hang_up();
    test_wait_deadline();
    test_rest();
    return check_report();
}
