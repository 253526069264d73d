/* What a peer that is not admitted can make an engine hold and do. */
#include "engine_pair.h"

/* Node 0 without an engine, at the other end of `fd`. */
struct caller {
    dp_node *node;
    uint64_t link;
    int fd;
};

static void say(struct caller *c) {
    static uint8_t out[16 * DP_PRODUCE_MIN];
    size_t len;
    CHECK(dp_link_produce(c->node, c->link, out, sizeof out, &len, 1) == DP_OK);
    CHECK(len > 0 && send(c->fd, out, len, MSG_NOSIGNAL) > 0);
}

/* Engine 1 goes on until `kind` happens, and admits nobody. Returns the link. */
static uint64_t await(int kind) {
    uint64_t woken, link = 0;
    for (int round = 0; !link && round < ROUNDS; round++) {
        const struct dp_event *events;
        CHECK(dp_engine_poll(engines[1], 1, &woken) == DP_OK);
        size_t n = dp_node_events(sides[1].node, &events);
        for (size_t e = 0; e < n; e++)
            if (events[e].kind == kind)
                link = events[e].link;
        dp_node_events_done(sides[1].node);
    }
    CHECK(link != 0);
    return link;
}

static void hear(struct caller *c) {
    static uint8_t in[SHAKE_CAP];
    uint64_t woken;
    ssize_t n = -1;
    size_t used;
    for (int round = 0; n < 0 && round < ROUNDS; round++) {
        CHECK(dp_engine_poll(engines[1], 1, &woken) == DP_OK);
        n = recv(c->fd, in, sizeof in, MSG_DONTWAIT);
    }
    CHECK(n > 0 && dp_link_receive(c->node, c->link, in, (size_t)n, &used, 1) == DP_OK);
    CHECK(used == (size_t)n);
}

static struct caller shake_hands(void) {
    struct dp_node_config config = pair_config();
    struct caller c;
    start(&config);
    memset(config.seed, 3, sizeof config.seed);
    c.fd = raw_connect(listen_one(4));
    CHECK(dp_node_new(&c.node, &config) == DP_OK);
    CHECK(dp_link_new(c.node, &c.link, true, NULL, NULL, 0, 1) == DP_OK);
    POLL_UNTIL(stats_of(1).handshakes_pending == 1);
    say(&c);
    hear(&c);
    say(&c);
    return c;
}

/* However much it sends, no more is kept than one frame; and when it hangs up there is nothing to do
 * until it is admitted. */
static void test_rest_is_small(void) {
    static uint8_t control[DP_CONTROL_MAX];
    struct epoll_event event;
    struct caller c = shake_hands();
    uint64_t link = await(DP_EVENT_READY);
    CHECK(dp_link_admit(c.node, c.link, control, 2) == DP_OK);
    for (int n = 0; n < 2; n++)
        CHECK(dp_link_control(c.node, c.link, 2, control, sizeof control) == DP_OK);
    say(&c);
    CHECK(await(DP_EVENT_CONTROL) == link);
    CHECK(stats_of(1).buffer_bytes > 0 && stats_of(1).buffer_bytes <= SHAKE_CAP);
    CHECK(shutdown(c.fd, SHUT_WR) == 0);
    for (int round = 0; round < 20; round++)
        poll_both();
    CHECK(epoll_wait(engines[1]->epoll, &event, 1, 0) == 0);
    CHECK(stats_of(1).links == 1 && stats_of(1).buffer_bytes <= SHAKE_CAP);
    CHECK(dp_link_admit(sides[1].node, link, control, 2) == DP_OK);
    POLL_UNTIL(stats_of(1).links == 0);
    CHECK(seen[1].status == DP_E_EOF && stats_of(1).buffer_bytes == 0);
    dp_node_free(c.node);
    close(c.fd);
    stop();
}

int main(void) {
    CHECK(dp_init() == DP_OK);
    test_rest_is_small();
    return check_report();
}
