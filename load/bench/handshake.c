/* What it costs to shake hands: links of two nodes joined in memory, without sockets, beside the bare
 * X25519 operations of the same handshakes. Built together with cext/src.
 *
 *   handshake SECONDS [WAY]
 *
 * One dialling node, 64 others in turn, 8 handshakes under way at a time. Each side's calls are
 * timed by themselves (CPU time of this thread): making the link, all messages, READY, taking the
 * tickets, the stream's end, freeing the link. Prints one JSON object a line: what was built, then
 * for each turn {WAY: [initiator, responder, X25519 of initiator, of responder]} in us a handshake.
 * With WAY, only that one, for a profiler.
 * The keys live for one run and protect nothing: not secret, not wiped.
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dp2p_identity.h"
#include "node.h"

enum {
    PEERS = 64,
    AT_A_TIME = 8,
    HELLO_BYTES = 600,
    STAGES = 4, /* message 1, message 2, message 3, reading it */
    NOW_MS = 1000,
    MAX_SECONDS = 60,
};

enum side { DIALLER, PEER, SIDES };

/* What the dialler relies on, and whether it is right. */
enum trust { NOTHING, KEY, WRONG_KEY, TICKET, LOST_TICKET };

struct way {
    const char *name;
    enum trust trust;
    enum dp_mode mode;
    bool falls_back;
    bool cold;     /* no dialled key has been converted before */
    int dh[SIDES]; /* beside the one multiplication of the base point that makes an ephemeral key */
};

/* Where IK falls back, both have spent its first message for nothing: es and ss of the initiator,
 * es of the responder. */
static const struct way WAYS[] = {
    {"xx", NOTHING, DP_MODE_XX, false, false, {3, 3}},
    {"ik", KEY, DP_MODE_IK, false, false, {4, 4}},
    {"ik-cold", KEY, DP_MODE_IK, false, true, {4, 4}},
    {"resume", TICKET, DP_MODE_RESUME, false, false, {1, 1}},
    {"ik-fallback", WRONG_KEY, DP_MODE_IK, true, false, {5, 4}},
    {"resume-fallback", LOST_TICKET, DP_MODE_RESUME, true, false, {3, 3}},
};

enum { WAY_COUNT = sizeof WAYS / sizeof *WAYS };

/* One side of a connection. */
struct end {
    dp_node *node;
    uint64_t link;
    uint8_t wire[DP_PRODUCE_MIN]; /* on its way to this side */
    size_t len;
};

/* A node to dial, and the one connection to it. */
struct peer {
    struct end end[SIDES];
    const struct peer *next; /* whose key is the wrong one */
    uint8_t key[DP_KEY_LEN], static_public[DP_KEY_LEN];
    uint8_t ticket[SIDES][DP_TICKET_LEN]; /* of the latest handshake, for the dialler's next one */
};

struct bench {
    dp_node *dialler;
    uint8_t dialler_key[DP_KEY_LEN];
    struct peer peers[PEERS];
    const struct way *way; /* of the handshakes under way */
    unsigned turn;
};

/* us of CPU time; [SIDES] each */
struct cost {
    double ours[SIDES], x25519[SIDES];
};

static void die(const char *what) {
    fprintf(stderr, "handshake: %s\n", what);
    exit(1);
}

static void must(int status, const char *what) {
    if (status == DP_OK)
        return;
    fprintf(stderr, "handshake: %s: %s\n", what, dp_status_name(status));
    exit(1);
}

static double clock_us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static double cpu_us(void) {
    return clock_us(CLOCK_THREAD_CPUTIME_ID);
}

/* --- nodes --- */

static dp_node *make_node(uint8_t key[DP_KEY_LEN]) {
    static const uint8_t HELLO[HELLO_BYTES] = {0};
    struct dp_node_config config = {.network = "bench",
                                    .max_links = PEERS,
                                    .max_handshakes = PEERS,
                                    .max_handshakes_per_address = PEERS,
                                    .max_handshakes_per_network = PEERS,
                                    .handshake_ms = 10000,
                                    .keepalive_ms = 20000,
                                    .idle_ms = 60000,
                                    .rekey_bytes = UINT64_C(1) << 30,
                                    .rekey_ms = 600000,
                                    .window_max = 1};
    dp_node *node;
    dp_random_bytes(config.seed, sizeof config.seed);
    must(dp_identity_public(key, config.seed), "key");
    must(dp_node_new(&node, &config), "node");
    must(dp_node_set_hello(node, HELLO, sizeof HELLO), "hello");
    return node;
}

/* Peers whose keys have their first bytes to themselves, so that the dialler's cache has room for
 * each. */
static void make_peers(struct bench *b) {
    bool taken[256] = {false};
    for (int i = 0; i < PEERS; i++) {
        struct peer *p = &b->peers[i];
        p->end[DIALLER].node = b->dialler;
        p->end[PEER].node = make_node(p->key);
        p->next = &b->peers[(i + 1) % PEERS];
        if (taken[p->key[0]]) {
            dp_node_free(p->end[PEER].node);
            i--;
            continue;
        }
        taken[p->key[0]] = true;
        must(dp_identity_static_public(p->static_public, p->key), "static key");
    }
}

static struct bench *make_bench(void) {
    struct bench *b = calloc(1, sizeof *b);
    if (!b)
        die("memory");
    b->dialler = make_node(b->dialler_key);
    make_peers(b);
    return b;
}

static void free_bench(struct bench *b) {
    for (int i = 0; i < PEERS; i++)
        dp_node_free(b->peers[i].end[PEER].node);
    dp_node_free(b->dialler);
    free(b);
}

/* --- one connection --- */

/* The peer's table of tickets has one row for each dialler, so one row. */
static void answer_ticket(const struct bench *b, struct peer *p, const struct dp_event *event) {
    const uint8_t *ticket = p->ticket[PEER];
    bool known = b->way->trust != LOST_TICKET && event->len == DP_TICKET_NAME_LEN &&
                 memcmp(event->data, ticket, DP_TICKET_NAME_LEN) == 0;
    must(dp_link_ticket(p->end[PEER].node, event->link, known ? ticket + DP_TICKET_NAME_LEN : NULL,
                        known ? b->dialler_key : NULL),
         "ticket");
}

/* Take both tickets, as a node does after every handshake; one is used. */
static void take_tickets(struct peer *p, enum side side) {
    uint8_t other[DP_TICKET_LEN], *own = p->ticket[side];
    struct end *end = &p->end[side];
    must(dp_link_tickets(end->node, end->link, side == DIALLER ? own : other,
                         side == DIALLER ? other : own),
         "tickets");
}

static size_t handle_events(const struct bench *b, struct peer *p, enum side side) {
    dp_node *node = p->end[side].node;
    const struct dp_event *events;
    size_t count = dp_node_events(node, &events);
    for (size_t i = 0; i < count; i++) {
        if (events[i].kind == DP_EVENT_TICKET)
            answer_ticket(b, p, &events[i]);
        else if (events[i].kind == DP_EVENT_READY)
            take_tickets(p, side);
    }
    dp_node_events_done(node);
    return count;
}

static void open_link(const struct bench *b, struct peer *p, enum side side) {
    const struct dp_known relied[] = {
        [KEY] = {.key = p->key},
        [WRONG_KEY] = {.key = p->next->key},
        [TICKET] = {.key = p->key, .ticket = p->ticket[DIALLER]},
        [LOST_TICKET] = {.key = p->key, .ticket = p->ticket[DIALLER]},
    };
    bool relies = side == DIALLER && b->way->trust != NOTHING;
    const struct dp_known *known = relies ? &relied[b->way->trust] : NULL;
    struct end *end = &p->end[side];
    must(dp_link_new(end->node, &end->link, side == DIALLER, known, NULL, 0, NOW_MS), "link");
}

/* Read all that is there and write what follows. */
static void step(const struct bench *b, struct peer *p, enum side side) {
    struct end *end = &p->end[side], *other = &p->end[SIDES - 1 - side];
    while (end->len) {
        size_t used;
        must(dp_link_receive(end->node, end->link, end->wire, end->len, &used, NOW_MS), "receive");
        end->len -= used;
        memmove(end->wire, end->wire + used, end->len);
        if (!handle_events(b, p, side) && !used)
            die("a link does not read on");
    }
    int rc =
        dp_link_produce(end->node, end->link, other->wire, sizeof other->wire, &other->len, NOW_MS);
    must(rc, "produce");
}

static void check(const struct bench *b, const struct peer *p) {
    const struct way *way = b->way;
    for (int side = 0; side < SIDES; side++) {
        struct dp_link_info info;
        must(dp_link_get(p->end[side].node, p->end[side].link, &info), "state");
        if (info.state != DP_LINK_READY || info.mode != (int)way->mode ||
            info.fell_back != way->falls_back)
            die("a handshake went another way");
    }
}

static void close_link(const struct bench *b, struct peer *p, enum side side) {
    must(dp_link_end(p->end[side].node, p->end[side].link, DP_E_EOF), "end");
    handle_events(b, p, side);
}

/* --- many --- */

/* The dialler has never converted the keys of `batch`. */
static void forget_statics(dp_node *dialler, const struct peer *batch) {
    for (int i = 0; i < AT_A_TIME; i++)
        dialler->statics.places[batch[i].key[0]].used = false;
}

static void shake_hands(struct bench *b, struct peer *batch, double us[SIDES]) {
    if (b->way->cold)
        forget_statics(b->dialler, batch);
    for (int stage = 0; stage < STAGES; stage++) {
        enum side side = stage % SIDES;
        double start = cpu_us();
        for (int i = 0; i < AT_A_TIME; i++) {
            if (stage < SIDES)
                open_link(b, &batch[i], side);
            step(b, &batch[i], side);
        }
        us[side] += cpu_us() - start;
    }
    for (int i = 0; i < AT_A_TIME; i++)
        check(b, &batch[i]);
    for (int side = 0; side < SIDES; side++) {
        double start = cpu_us();
        for (int i = 0; i < AT_A_TIME; i++)
            close_link(b, &batch[i], side);
        us[side] += cpu_us() - start;
    }
}

/* The operations of as many handshakes, and nothing else. */
static void multiply(const struct way *way, const struct peer *batch, double us[SIDES]) {
    uint8_t scalar[DP_KEY_LEN], out[DP_KEY_LEN];
    dp_random_bytes(scalar, sizeof scalar);
    for (int side = 0; side < SIDES; side++) {
        double start = cpu_us();
        for (int i = 0; i < AT_A_TIME; i++) {
            crypto_scalarmult_base(out, scalar);
            for (int dh = 0; dh < way->dh[side]; dh++)
                if (crypto_scalarmult(out, scalar, batch[i].static_public))
                    die("X25519");
        }
        us[side] += cpu_us() - start;
    }
}

static void measure(struct bench *b, const struct way *way, struct peer *batch, struct cost *cost) {
    b->way = way;
    shake_hands(b, batch, cost->ours);
    multiply(way, batch, cost->x25519);
}

/* The next few peers, in each way. Ways and bare operations alternate every few ms: what slows the
 * machine down slows all. */
static void turn(struct bench *b, const struct way *only, struct cost costs[WAY_COUNT]) {
    struct peer *batch = &b->peers[b->turn++ % (PEERS / AT_A_TIME) * AT_A_TIME];
    memset(costs, 0, WAY_COUNT * sizeof *costs);
    for (int w = 0; w < WAY_COUNT; w++)
        if (!only || only == &WAYS[w])
            measure(b, &WAYS[w], batch, &costs[w]);
}

static void print(const struct way *only, const struct cost costs[WAY_COUNT]) {
    const char *between = "{";
    for (int w = 0; w < WAY_COUNT; w++) {
        const struct cost *c = &costs[w];
        if (only && only != &WAYS[w])
            continue;
        printf("%s\"%s\": [%.3f, %.3f, %.3f, %.3f]", between, WAYS[w].name,
               c->ours[DIALLER] / AT_A_TIME, c->ours[PEER] / AT_A_TIME,
               c->x25519[DIALLER] / AT_A_TIME, c->x25519[PEER] / AT_A_TIME);
        between = ", ";
    }
    printf("}\n");
}

/* Every peer twice: each gets its first ticket, and what is kept is made. */
static void warm_up(struct bench *b, const struct way *only) {
    struct cost costs[WAY_COUNT];
    for (int i = 0; i < PEERS / AT_A_TIME; i++)
        turn(b, WAYS, costs);
    for (int i = 0; i < PEERS / AT_A_TIME; i++)
        turn(b, only, costs);
}

static const struct way *find_way(const char *name) {
    for (int i = 0; i < WAY_COUNT; i++)
        if (strcmp(WAYS[i].name, name) == 0)
            return &WAYS[i];
    die("no such way");
    return NULL;
}

int main(int argc, char **argv) {
    double seconds = argc == 2 || argc == 3 ? strtod(argv[1], NULL) : 0;
    if (!(seconds > 0 && seconds <= MAX_SECONDS)) {
        fprintf(stderr, "usage: handshake SECONDS [WAY]\n");
        return 2;
    }
    const struct way *only = argc == 3 ? find_way(argv[2]) : NULL;
    must(dp_init(), "libsodium");
    struct bench *b = make_bench();
    printf("{\"aead\": \"%s\", \"hello_bytes\": %d}\n", dp_node_aead(b->dialler), HELLO_BYTES);
    struct cost costs[WAY_COUNT];
    warm_up(b, only);
    double until = clock_us(CLOCK_MONOTONIC) + seconds * 1e6;
    do {
        turn(b, only, costs);
        print(only, costs);
    } while (clock_us(CLOCK_MONOTONIC) < until);
    free_bench(b);
    return 0;
}
