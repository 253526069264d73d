/* How much is handed to the kernel, before a kernel of our own in virtual time. */
#include "link_pair.h"
#include "pace.h"

enum {
    STEP_US = 100,
    LOW_WATER = 131072,
    MS = 1000, /* in us */
    S = 1000 * MS
};

/* A connection that always has more to write, and what carries it. */
struct world {
    double bytes_per_us;
    uint32_t burst_us; /* the path opens at once for what it carries in this time */
    uint32_t late_us;  /* from a writable socket to our answer */
    struct pace pace;
    uint64_t now_us, opens_us, writable_us, sent, most;
    uint64_t unsent;
    double room;  /* bytes that the path takes at once */
    bool blocked; /* until the socket is writable */
};

static struct world world(double bytes_per_s, uint32_t burst_us, uint32_t late_us) {
    struct world w = {.bytes_per_us = bytes_per_s / S, .burst_us = burst_us, .late_us = late_us};
    w.now_us = w.opens_us = S;
    pace_begin(&w.pace, LOW_WATER);
    return w;
}

static void carry(struct world *w) {
    uint64_t n = w->unsent < w->room ? w->unsent : (uint64_t)w->room;
    w->unsent -= n;
    w->sent += n;
    w->room -= (double)n;
}

/* As TCP_NOTSENT_LOWAT: bytes are taken while less than that is unsent, 1448 at a time. */
static size_t take(struct world *w, size_t len) {
    size_t n = 0;
    while (n < len && w->unsent < pace_low_water(&w->pace)) {
        size_t piece = len - n < 1448 ? len - n : 1448;
        n += piece;
        w->unsent += piece;
        carry(w);
    }
    return n;
}

/* As connection_write, of `len` bytes at most. */
static void write_all(struct world *w, size_t len) {
    if (w->blocked)
        pace_writable(&w->pace, w->unsent, w->now_us);
    w->blocked = false;
    for (int i = 0; len && !w->blocked && i < 8; i++) {
        size_t chunk = pace_chunk(&w->pace), piece = chunk < len ? chunk : len;
        size_t n = take(w, piece);
        pace_gave(&w->pace, n);
        len -= n;
        w->blocked = (n < piece || pace_look_due(&w->pace)) &&
                     pace_look(&w->pace, w->unsent, n < piece, w->now_us);
    }
    if (!len)
        pace_idle(&w->pace);
    w->most = w->unsent > w->most ? w->unsent : w->most;
}

static bool writable(const struct world *w) {
    return 2 * w->unsent < pace_low_water(&w->pace);
}

static void step(struct world *w, size_t len) {
    w->now_us += STEP_US;
    if (w->now_us >= w->opens_us) {
        w->opens_us = w->now_us + (w->burst_us ? w->burst_us : STEP_US);
        w->room = w->bytes_per_us * (double)(w->opens_us - w->now_us);
    }
    carry(w);
    if (!w->blocked || !writable(w))
        w->writable_us = w->now_us;
    if (len && (!w->blocked || (writable(w) && w->now_us - w->writable_us >= w->late_us)))
        write_all(w, len);
}

static void run(struct world *w, uint64_t span_us) {
    for (uint64_t end = w->now_us + span_us; w->now_us < end;)
        step(w, SIZE_MAX);
}

/* --- what it settles on ---------------------------------------------------------------------- */

static void test_rates(void) {
    static const struct {
        int id;
        double bytes_per_s;
        uint32_t burst_us, late_us;
        uint32_t least, most; /* of the queue */
        double used;          /* of the path */
    } ROWS[] = {
        {1, 1e6, 0, 0, 9000, 11000, 0.99},
        {2, 1e6, 2000, 200, 8000, 12500, 0.98},
        {3, 1e5, 0, 0, 4096, 4200, 0.99},
        {4, 1e7, 1000, 200, 80000, 120000, 0.98},
        {5, 1e9, 0, 0, PACE_QUEUE_MAX, PACE_QUEUE_MAX, 0.1}, /* 8 chunks in a step */
        {6, 1e6, 20000, 200, 9000, 60000, 0.85},             /* in bursts of 20 kB */
        {7, 1e6, 0, 20000, 16000, 80000, 0.8},               /* we are slow to answer */
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct world w = world(ROWS[i].bytes_per_s, ROWS[i].burst_us, ROWS[i].late_us);
        run(&w, 2 * S);
        uint64_t before = w.sent;
        run(&w, 8 * S);
        double used = (double)(w.sent - before) / (ROWS[i].bytes_per_s * 8);
        CHECK_ROW(ROWS[i].id, w.pace.queue >= ROWS[i].least && w.pace.queue <= ROWS[i].most);
        CHECK_ROW(ROWS[i].id, used >= ROWS[i].used);
    }
}

/* A new connection over a slow path queues little from the first byte on, */
static void test_begin_slow(void) {
    struct world w = world(1e6, 1000, 100);
    run(&w, S);
    CHECK(w.most <= 20000); /* 20 ms */
}

/* and one over a fast path has all it can have within milliseconds. */
static void test_begin_fast(void) {
    struct world w = world(2e9, 0, 0);
    run(&w, 10 * MS);
    CHECK(w.pace.queue == PACE_QUEUE_MAX && pace_chunk(&w.pace) == PACE_CHUNK_MAX);
    CHECK(pace_frame(&w.pace) == DP_FRAME_MAX && pace_low_water(&w.pace) == LOW_WATER);
}

static void test_change(void) {
    struct world w = world(1e8, 1000, 100);
    run(&w, S);
    CHECK(w.pace.queue == PACE_QUEUE_MAX);
    w.bytes_per_us = 1;
    run(&w, S);
    CHECK(w.pace.queue < 13000);
    w.bytes_per_us = 100;
    run(&w, S / 2);
    CHECK(w.pace.queue == PACE_QUEUE_MAX);
}

/* Whoever sends little says nothing of the path: 20 kB in 100 ms, where 1 MB would pass. */
static void test_little(void) {
    struct world w = world(1e7, 1000, 100);
    run(&w, S);
    uint32_t before = w.pace.queue;
    for (int i = 0; i < 20; i++) {
        write_all(&w, 20000);
        for (int t = 0; t < 100 * MS; t += STEP_US)
            step(&w, 0);
        w.blocked = false;
    }
    CHECK(w.unsent == 0 && w.pace.queue >= before * 3 / 4);
}

/* A burst that is gone at once does not make a queue grow that nobody waits in. */
static void test_one_at_a_time(void) {
    struct pace p;
    pace_begin(&p, 0);
    for (uint64_t now = S; now < 2 * S; now += 10 * MS) {
        pace_gave(&p, pace_chunk(&p));
        CHECK(!pace_look(&p, 0, false, now));
        pace_idle(&p);
    }
    CHECK(p.queue == PACE_QUEUE_BEGIN);
}

/* A peer that stops for long, and goes on. */
static void test_standstill(void) {
    struct world w = world(1e9, 0, 0);
    run(&w, 100 * MS);
    w.bytes_per_us = 0;
    run(&w, 60 * S);
    w.bytes_per_us = 1000;
    run(&w, 100 * MS);
    CHECK(w.pace.queue == PACE_QUEUE_MAX);
}

/* --- bounds ---------------------------------------------------------------------------------- */

static void test_low_water(void) {
    static const struct {
        int id;
        uint32_t queue, cap, mark;
    } ROWS[] = {{1, 4096, 0, 4096},        {2, 8191, 0, 4096},      {3, 8192, 0, 8192},
                {4, 262144, 0, 262144},    {5, 262144, 5000, 5000}, {6, 4096, 1, 1},
                {7, 100000, 65536, 65536}, {8, 65535, 65536, 32768}};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct pace p = {.queue = ROWS[i].queue, .low_water_cap = ROWS[i].cap};
        CHECK_ROW(ROWS[i].id, pace_low_water(&p) == ROWS[i].mark);
    }
}

/* Any answers of a kernel, any clock: what is made stays within bounds, and whoever waits for the
 * socket to become writable waits for something. */
static void test_any(void) {
    uint32_t seed = 1;
    struct pace p;
    uint64_t now = 0;
    pace_begin(&p, LOW_WATER);
    for (int i = 0; i < 200000; i++) {
        uint32_t r = seed = seed * 1664525 + 1013904223;
        size_t chunk = pace_chunk(&p), frame = pace_frame(&p);
        CHECK(frame >= PACE_FRAME_MIN && frame <= DP_FRAME_MAX);
        CHECK(chunk >= FRAME_OVERHEAD + frame && chunk <= PACE_CHUNK_MAX);
        CHECK(chunk % (FRAME_OVERHEAD + frame) == 0);
        CHECK(pace_low_water(&p) <= LOW_WATER && p.queue >= PACE_QUEUE_MIN);
        now += r % 7 == 0 ? (uint64_t)r << (r % 13) : r % 997;
        if (r % 5 == 0)
            pace_idle(&p);
        if (r % 3 == 0)
            pace_writable(&p, r % 17, now);
        pace_gave(&p, r % 3 ? chunk : r % chunk);
        bool refused = r % 11 == 0;
        uint64_t unsent = r % 4 ? r % 300000 : r % 8 ? 0 : UINT64_MAX;
        uint32_t mark = pace_low_water(&p); /* the socket is writable below half of it */
        bool enough = pace_look(&p, unsent, refused, now);
        CHECK(enough == (refused || 2 * p.unsent > mark));
    }
}

/* --- frames of that size --------------------------------------------------------------------- */

/* Small and large datagrams in frames of 4 KiB, each within its bounds; all arrive. */
static void test_small_frames(void) {
    enum { FRAME = 4096, CAP = 2 * (FRAME + FRAME_OVERHEAD) };
    static struct pair p;
    struct dp_node_config config = pair_config();
    pair_open(&p, &config);
    pair_flow_both(&p, 0, 1 << 20, DP_NORMAL);
    CHECK(pair_send(&p, 0, 0, 1, 100000) && pair_send(&p, 0, 0, 50, 999));
    struct pair_side *to = &p.side[1];
    uint64_t frames = pair_stats(&p, 0).frames_out;
    for (size_t len = 1; len;) {
        CHECK(link_produce(pair_link(&p, 0), to->wire + to->on_wire, CAP, FRAME, &len, p.now_ms) ==
              DP_OK);
        uint64_t made = pair_stats(&p, 0).frames_out - frames;
        CHECK(made <= 2 && len <= made * (FRAME + FRAME_OVERHEAD));
        frames += made;
        to->on_wire += len;
        CHECK(pair_deliver(&p, 1, PAIR_WIRE) == DP_OK);
        pair_gather(&p, 1);
    }
    CHECK(p.flow[0].lane[0].received == 51);
    pair_run(&p);
    pair_free(&p);
}

int main(void) {
    CHECK(dp_init() == DP_OK);
    test_rates();
    test_begin_slow();
    test_begin_fast();
    test_change();
    test_little();
    test_one_at_a_time();
    test_standstill();
    test_low_water();
    test_any();
    test_small_frames();
    return check_report();
}
