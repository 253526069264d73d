/* Engines over real sockets, two in one process, polled in turn: no thread, no sleep. */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include "engine_pair.h"

enum { FDS = 64 };

static uint32_t open_flow(int i) {
    uint32_t flow;
    struct dp_flow_config c = {sides[i].sink, 3,       3, DP_NORMAL, 1,    1 << 20, 1,
                               1 << 22,       1 << 22, 0, 0,         {{0}}};
    CHECK(dp_flow_open(sides[i].node, links[i], &c, &flow) == DP_OK);
    return flow;
}

static void send_one(int i, uint32_t flow, uint32_t len) {
    size_t size = DATA_RECORD_HEADER + (size_t)len + (-len & 3) + 8;
    uint8_t *record = calloc(1, size);
    CHECK(record != NULL);
    pair_header(record, size, RECORD_DATA, flow);
    store32(record + 12, 1);
    store32(record + 16, len);
    store32(record + size - 8, len);
    pair_ingest(&sides[i], record, size);
    free(record);
}

/* --- connections ------------------------------------------------------------------------------------ */

static void test_echo(int family) {
    struct dp_node_config config = pair_config();
    config.send_low_water = 65536;
    config.window_max = 1 << 26;
    start(&config);
    dial_one(family, listen_one(family), NULL);
    uint32_t flows[2] = {open_flow(0), open_flow(1)};
    for (int i = 0; i < 2; i++) {
        echoed = 0;
        for (int n = 0; n < 3; n++)
            send_one(i, flows[i], 1 << 20);
        send_one(i, flows[i], 100);
        POLL_UNTIL(echoed == (3 << 20) + 100);
    }
    struct dp_link_info info;
    CHECK(dp_link_get(sides[0].node, links[0], &info) == DP_OK && info.dial == 77);
    CHECK(info.remote.family == family && info.seen.family == family && info.seen.port != 0);
    CHECK(stats_of(0).bytes_out == stats_of(1).bytes_in);
    CHECK(dp_link_close(sides[0].node, links[0], 42) == DP_OK);
    POLL_UNTIL(seen[1].down == 1 && stats_of(0).links == 0);
    CHECK(seen[1].status == DP_E_CLOSED && seen[1].reason == 42 && seen[0].status == DP_OK);
    stop();
}

static void test_refused_connection(void) {
    struct dp_node_config config = pair_config();
    struct dp_address address = local(4, 0);
    uint64_t link;
    start(&config);
    CHECK(dp_engine_listen(engines[1], &address, &address.port) == DP_OK);
    dp_engine_stop_listening(engines[1]);
    CHECK(dp_engine_dial(engines[0], &address, NULL, 5, &link) == DP_OK);
    POLL_UNTIL(seen[0].down == 1);
    CHECK(seen[0].status == DP_E_IO && seen[0].reason == ECONNREFUSED && stats_of(0).links == 0);
    CHECK(seen[0].unsent);
    stop();
}

/* A peer that vanishes in mid-datagram. */
static void test_vanish(void) {
    struct dp_node_config config = pair_config();
    start(&config);
    dial_one(4, listen_one(4), NULL);
    uint32_t flows[2] = {open_flow(0), open_flow(1)};
    CHECK(flows[1] != 0);
    send_one(0, flows[0], 1 << 20);
    dp_engine_flush(engines[0]);
    CHECK(dp_link_end(sides[0].node, links[0], DP_E_EOF) == DP_OK); /* without a word */
    POLL_UNTIL(seen[1].down == 1);
    CHECK(seen[1].status == DP_E_EOF || seen[1].status == DP_E_IO);
    CHECK(!seen[1].unsent);
    CHECK(stats_of(1).flows == 0 && stats_of(1).buffer_bytes == 0 && sides[0].kept == 0);
    stop();
}

/* What a peer said last is heard by one that only writes, when the kernel says that nobody is there. */
static void test_last_word(void) {
    struct dp_node_config config = pair_config();
    uint64_t woken;
    start(&config);
    dial_one(4, listen_one(4), NULL);
    uint32_t flow = open_flow(0);
    CHECK(dp_link_close(sides[1].node, links[1], 42) == DP_OK);
    for (int i = 0; stats_of(1).links && i < ROUNDS; i++)
        CHECK(dp_engine_poll(engines[1], 1, &woken) == DP_OK);
    CHECK(stats_of(1).links == 0);
    for (int i = 0; stats_of(0).links && !seen[0].down && i < ROUNDS; i++) {
        send_one(0, flow, 100);
        dp_engine_flush(engines[0]); /* and never polls */
        handle(0);
    }
    CHECK(seen[0].down == 1 && seen[0].status == DP_E_CLOSED && seen[0].reason == 42);
    stop();
}

/* A link that ends says so at once, however long the kernel's queue is. */
static void test_farewell(void) {
    struct dp_node_config config = pair_config();
    start(&config);
    dial_one(4, listen_one(4), NULL);
    struct link *link = table_get(&sides[0].node->links, links[0]);
    struct connection *c = link->owner;
    c->blocked = true;
    CHECK(dp_link_close(sides[0].node, links[0], 42) == DP_OK);
    dp_engine_flush(engines[0]);
    CHECK(link->state == DP_LINK_DEAD);
    POLL_UNTIL(seen[1].down == 1);
    CHECK(seen[1].status == DP_E_CLOSED && seen[1].reason == 42);
    stop();
}

/* A peer that reads nothing: little of what is queued for it is in the kernel, unsent. */
static void test_queue(void) {
    struct dp_node_config config = pair_config();
    uint64_t woken;
    config.send_low_water = 16384;
    start(&config);
    dial_one(4, listen_one(4), NULL);
    uint32_t flows[2] = {open_flow(0), open_flow(1)};
    const struct connection *c = ((struct link *)table_get(&sides[0].node->links, links[0]))->owner;
    CHECK(flows[1] && c->low_water == PACE_QUEUE_BEGIN);
    uint32_t mark = 0;
    socklen_t len = sizeof mark;
    unsigned sent = 0;
    for (echoed = 0; !c->blocked && sent < 4; sent++) {
        send_one(0, flows[0], 1 << 20);
        for (int i = 0; !c->blocked && i < 100; i++)
            CHECK(dp_engine_poll(engines[0], 0, &woken) == DP_OK);
    }
    CHECK(getsockopt(c->source.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &mark, &len) == 0);
    CHECK(mark == c->low_water && mark == pace_low_water(&c->pace) && mark <= 16384);
    CHECK(socket_unsent(c->source.fd) <= mark + PACE_CHUNK_MAX);
    POLL_UNTIL(echoed == (size_t)sent << 20);
    stop();
}

/* --- caps ------------------------------------------------------------------------------------------- */

static void test_caps(void) {
    static const struct {
        int id;
        uint32_t links, handshakes, per_address, per_network, accepted;
    } ROWS[] = {{1, 100, 100, 4, 100, 4}, {2, 6, 100, 100, 100, 6}, {3, 100, 100, 100, 3, 3}};
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        struct dp_node_config config = pair_config();
        struct dp_address address = local(4, 0);
        int fds[10];
        config.max_links = ROWS[row].links;
        config.max_handshakes = ROWS[row].handshakes;
        config.max_handshakes_per_address = ROWS[row].per_address;
        config.max_handshakes_per_network = ROWS[row].per_network;
        start(&config);
        CHECK(dp_engine_listen(engines[1], &address, &address.port) == DP_OK);
        for (int i = 0; i < 10; i++)
            fds[i] = raw_connect(address.port);
        POLL_UNTIL(stats_of(1).links + stats_of(1).links_refused == 10);
        CHECK_ROW(ROWS[row].id, stats_of(1).links == ROWS[row].accepted);
        for (int i = 0; i < 10; i++)
            close(fds[i]);
        POLL_UNTIL(stats_of(1).links == 0);
        CHECK_ROW(ROWS[row].id, stats_of(1).handshakes_pending == 0);
        stop();
    }
}

static bool hung_up(int fd) {
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || (errno != EAGAIN && errno != ENOTCONN);
}

/* When all places for handshakes are taken, the oldest of the busiest network gives way. */
static void test_giving_way(void) {
    static const struct {
        int id;
        uint8_t from[6]; /* networks, as they come; there is room for five */
        int gone;
    } ROWS[] = {{1, {1, 2, 2, 1, 2, 3}, 1},
                {2, {1, 2, 2, 1, 2, 2}, 1},
                {3, {1, 2, 3, 4, 5, 6}, 0},
                {4, {4, 2, 3, 3, 5, 5}, 2}};
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        struct dp_node_config config = pair_config();
        struct dp_address address = local(4, 0);
        int fds[6];
        config.max_handshakes = 5;
        start(&config);
        CHECK(dp_engine_listen(engines[1], &address, &address.port) == DP_OK);
        for (uint32_t i = 0; i < 6; i++) {
            fds[i] = raw_connect_from(ROWS[row].from[i], address.port);
            POLL_UNTIL(stats_of(1).links + stats_of(1).handshakes_failed == i + 1);
        }
        POLL_UNTIL(hung_up(fds[ROWS[row].gone]));
        for (int i = 0; i < 6; i++) {
            CHECK_ROW(ROWS[row].id, hung_up(fds[i]) == (i == ROWS[row].gone));
            close(fds[i]);
        }
        CHECK_ROW(ROWS[row].id, stats_of(1).links_refused == 0);
        POLL_UNTIL(stats_of(1).links == 0);
        stop();
    }
}

static void test_no_family(void) {
    struct dp_node_config config = pair_config();
    struct dp_address address = {.family = 0};
    uint64_t link;
    start(&config);
    CHECK(dp_engine_listen(engines[0], &address, &address.port) == DP_E_ARGUMENT);
    CHECK(dp_engine_dial(engines[0], &address, NULL, 1, &link) == DP_E_ARGUMENT);
    stop();
}

/* What counts as one source and as one network. */
static void test_sources(void) {
    static const struct {
        int id;
        uint8_t family, at; /* the byte of the address that differs */
        bool source, network;
    } ROWS[] = {
        {1, 4, 0, false, false}, {2, 4, 2, false, false}, {3, 4, 3, false, true},
        {4, 4, 4, true, true}, /* not part of an IPv4 address */
        {5, 6, 0, false, false}, {6, 6, 5, false, false}, {7, 6, 6, false, true},
        {8, 6, 7, false, true},  {9, 6, 8, true, true},   {10, 6, 15, true, true},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct dp_address a = {.family = ROWS[i].family, .port = 1}, b = a;
        b.ip[ROWS[i].at] = 1;
        b.port = 2;
        CHECK_ROW(ROWS[i].id, same_source(&a, &b) == ROWS[i].source);
        CHECK_ROW(ROWS[i].id, same_network(&a, &b) == ROWS[i].network);
        b.family = (uint8_t)(10 - a.family);
        CHECK_ROW(ROWS[i].id, !same_source(&a, &b) && !same_network(&a, &b));
    }
}

/* Out of descriptors: callers are hung up on, counted once each, and later ones are served. */
static void test_descriptors(void) {
    struct dp_node_config config = pair_config();
    struct dp_address address = local(4, 0);
    struct rlimit before, few;
    int callers[4], used[FDS], n = 0;
    uint64_t link;
    start(&config);
    CHECK(dp_engine_listen(engines[1], &address, &address.port) == DP_OK);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    for (int i = 0; i < 4; i++)
        callers[i] = raw_connect(address.port);
    few = before;
    few.rlim_cur = (rlim_t)callers[3] + 8;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    while (n < FDS && (used[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        n++;
    CHECK(n > 0 && n < FDS && errno == EMFILE);
    POLL_UNTIL(stats_of(1).accept_failures == 4);
    CHECK(dp_engine_dial(engines[0], &address, NULL, 1, &link) == DP_E_IO && errno == EMFILE);
    for (int i = 0; i < 4; i++) {
        char byte;
        CHECK(recv(callers[i], &byte, 1, 0) <= 0 && errno != EAGAIN);
        close(callers[i]);
    }
    while (n > 0)
        close(used[--n]);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(dp_engine_dial(engines[0], &address, NULL, 1, &link) == DP_OK);
    POLL_UNTIL(seen[0].control == 1 && seen[1].control == 1);
    CHECK(stats_of(1).accept_failures == 4);
    stop();
}

/* --- the rest --------------------------------------------------------------------------------------- */

static void test_watch(void) {
    struct dp_node_config config = pair_config();
    int pipes[2];
    uint64_t woken;
    start(&config);
    CHECK(pipe2(pipes, O_CLOEXEC) == 0);
    CHECK(dp_engine_watch(engines[0], pipes[0], 32) == DP_E_ARGUMENT);
    CHECK(dp_engine_watch(engines[0], pipes[0], 31) == DP_OK);
    CHECK(dp_engine_watch(engines[0], pipes[0], 31) == DP_E_ARGUMENT);
    CHECK(dp_engine_poll(engines[0], 0, &woken) == DP_OK && woken == 0);
    CHECK(write(pipes[1], "x", 1) == 1);
    CHECK(dp_engine_poll(engines[0], 0, &woken) == DP_OK && woken == UINT64_C(1) << 31);
    dp_engine_unwatch(engines[0], pipes[0]);
    CHECK(dp_engine_poll(engines[0], 0, &woken) == DP_OK && woken == 0);
    close(pipes[0]);
    close(pipes[1]);
    stop();
}

static void test_wrong_usage(void) {
    struct dp_node_config config = pair_config(), bad = config;
    struct dp_address address = local(4, 0), none = {0};
    dp_engine *engine = NULL;
    uint32_t flow;
    uint64_t link;
    bad.keepalive_ms = 0;
    CHECK(dp_engine_new(&engine, &bad) == DP_E_ARGUMENT && !engine);
    bad = config, bad.network = "";
    CHECK(dp_engine_new(&engine, &bad) == DP_E_ARGUMENT && !engine);
    bad = config, bad.aead = "none such";
    CHECK(dp_engine_new(&engine, &bad) == DP_E_PROVIDER && !engine);
    start(&config);
    CHECK(dp_engine_dial(engines[0], &none, NULL, 1, &link) == DP_E_ARGUMENT);
    address.ip[0] = 203; /* not an address of this machine */
    CHECK(dp_engine_listen(engines[0], &address, &address.port) == DP_E_IO);
    CHECK(errno == EADDRNOTAVAIL);
    struct dp_flow_config c = {sides[0].sink, 3, 3, DP_NORMAL, 1, 100, 1, 100, 100, 0, 0, {{0}}};
    CHECK(dp_flow_open(sides[0].node, 99, &c, &flow) == DP_E_ARGUMENT);
    dial_one(4, listen_one(4), NULL);
    (void)open_flow(0);
    CHECK(dp_flow_open(sides[0].node, links[0], &c, &flow) == DP_E_STATE);
    c.number = c.peer_number = DP_CHANNEL_COUNT;
    CHECK(dp_flow_open(sides[0].node, links[0], &c, &flow) == DP_E_ARGUMENT);
    CHECK(dp_link_admit(sides[0].node, links[0], NULL, 0) == DP_E_STATE);
    stop();
}

int main(void) {
    CHECK(dp_init() == DP_OK);
    test_echo(4);
    test_echo(6);
    test_refused_connection();
    test_vanish();
    test_last_word();
    test_farewell();
    test_queue();
    test_caps();
    test_sources();
    test_giving_way();
    test_no_family();
    test_descriptors();
    test_watch();
    test_wrong_usage();
    return check_report();
}
