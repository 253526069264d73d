/* Engines over real sockets, two in one process, polled in turn: no thread, no sleep. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "engine.h"
#include "link_pair.h"

enum { ROUNDS = 3000, FDS = 64 };

static dp_engine *engines[2];
static struct pair_side sides[2];
static uint64_t links[2]; /* of the last READY */
static struct pair_seen seen[2];
static size_t echoed;

static struct dp_address local(int family, uint16_t port) {
    struct dp_address a = {.family = (uint8_t)family, .ip = {127, 0, 0, 1}, .port = port};
    if (family == 6)
        memcpy(a.ip, &in6addr_loopback, sizeof a.ip);
    return a;
}

static void start(const struct dp_node_config *config) {
    memset(seen, 0, sizeof seen);
    memset(sides, 0, sizeof sides);
    for (int i = 0; i < 2; i++) {
        struct dp_node_config c = *config;
        memset(c.seed, 1 + i, sizeof c.seed);
        CHECK(dp_engine_new(&engines[i], &c) == DP_OK);
        sides[i].node = dp_engine_node(engines[i]);
        CHECK(dp_sink_open(sides[i].node, &sides[i].sink) == DP_OK);
    }
}

static void stop(void) {
    for (int i = 0; i < 2; i++)
        dp_engine_free(engines[i]);
}

static struct dp_stats stats_of(int i) {
    struct dp_stats stats;
    dp_node_stats(sides[i].node, &stats);
    return stats;
}

/* Events: whoever is READY is admitted. Outputs: their payload is counted. */
static void handle(int i) {
    const struct dp_event *events;
    struct dp_output out;
    size_t n = dp_node_events(sides[i].node, &events);
    for (size_t e = 0; e < n; e++) {
        if (events[e].kind == DP_EVENT_READY) {
            links[i] = events[e].link;
            (void)dp_link_admit(sides[i].node, links[i], (const uint8_t *)"hi", 2);
        }
        seen[i].ready += events[e].kind == DP_EVENT_READY;
        seen[i].control += events[e].kind == DP_EVENT_CONTROL;
        seen[i].down += events[e].kind == DP_EVENT_DOWN;
        if (events[e].kind == DP_EVENT_DOWN)
            seen[i].status = events[e].status, seen[i].reason = events[e].reason;
    }
    dp_node_events_done(sides[i].node);
    pair_released(&sides[i]);
    for (; dp_node_output(sides[i].node, &out); dp_node_output_done(sides[i].node))
        for (size_t at = 0; at < out.len; at += load32(out.data + at))
            if (load16(out.data + at + 4) == RECORD_DATA)
                echoed += load32(out.data + at + 16);
}

static void poll_both(void) {
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

/* Engine 1 listens, engine 0 dials; both admit. Returns the port. */
static uint16_t connect_both(int family) {
    struct dp_address address = local(family, 0);
    uint64_t link;
    uint8_t key[DP_KEY_LEN];
    pair_key(key, 1);
    CHECK(dp_engine_listen(engines[1], &address, &address.port) == DP_OK && address.port);
    CHECK(dp_engine_dial(engines[0], &address, key, 77, &link) == DP_OK);
    POLL_UNTIL(seen[0].control == 1 && seen[1].control == 1);
    CHECK(link == links[0]);
    return address.port;
}

static uint32_t open_flow(int i) {
    uint32_t flow;
    struct dp_flow_config c = {sides[i].sink, 3, 3, DP_NORMAL, 1, 1 << 20, 1, 1 << 22, 1 << 22};
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
    start(&config);
    (void)connect_both(family);
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
    stop();
}

/* A peer that vanishes in mid-datagram. */
static void test_vanish(void) {
    struct dp_node_config config = pair_config();
    start(&config);
    (void)connect_both(4);
    uint32_t flows[2] = {open_flow(0), open_flow(1)};
    CHECK(flows[1] != 0);
    send_one(0, flows[0], 1 << 20);
    dp_engine_flush(engines[0]);
    CHECK(dp_link_end(sides[0].node, links[0], DP_E_EOF) == DP_OK); /* without a word */
    POLL_UNTIL(seen[1].down == 1);
    CHECK(seen[1].status == DP_E_EOF || seen[1].status == DP_E_IO);
    CHECK(stats_of(1).flows == 0 && stats_of(1).buffer_bytes == 0 && sides[0].kept == 0);
    stop();
}

/* --- caps ------------------------------------------------------------------------------------------- */

static int raw_connect(uint16_t port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS));
    return fd;
}

static void test_caps(void) {
    static const struct {
        int id;
        uint32_t links, handshakes, per_address, accepted;
    } ROWS[] = {{1, 100, 100, 4, 4}, {2, 100, 5, 100, 5}, {3, 6, 100, 100, 6}};
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        struct dp_node_config config = pair_config();
        struct dp_address address = local(4, 0);
        int fds[10];
        config.max_links = ROWS[row].links;
        config.max_handshakes = ROWS[row].handshakes;
        config.max_handshakes_per_address = ROWS[row].per_address;
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
    struct dp_flow_config c = {sides[0].sink, 3, 3, DP_NORMAL, 1, 100, 1, 100, 100};
    CHECK(dp_flow_open(sides[0].node, 99, &c, &flow) == DP_E_ARGUMENT);
    (void)connect_both(4);
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
    test_caps();
    test_descriptors();
    test_watch();
    test_wrong_usage();
    return check_report();
}
