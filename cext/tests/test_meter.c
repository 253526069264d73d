/* Meters in virtual time: what passes in ten seconds, whose turn it is, rates that change. */
#include <string.h>

#include "check.h"
#include "meter.h"

enum { WAITERS = 5, START_MS = 5000, TURN = 2 };

static struct meters all;
static struct meter meter;
static struct waiter waiters[WAITERS];
static int woken[64], woken_count;

static void on_wake(struct waiter *w) {
    CHECK(w->meter == NULL && woken_count < 64);
    woken[woken_count++ % 64] = (int)(w - waiters);
}

static void start(uint64_t rate) {
    memset(waiters, 0, sizeof waiters);
    woken_count = 0;
    meters_init(&all);
    meter_init(&meter, &all, TURN, on_wake);
    meter_set(&meter, rate, START_MS);
}

/* --- rates ---------------------------------------------------------------------------------------- */

/* Who wants all it can get, in portions of `size`, looking every `step` ms. */
static void test_rates(void) {
    static const struct {
        int id;
        uint64_t rate, size, step;
    } ROWS[] = {
        {1, 1000, 1, 1},          {2, 1001, 7, 1},           {3, 20000, 116, 1},
        {4, 333333, 1016, 1},     {5, 1000000, 32768, 1},    {6, 1000000, 10, 17},
        {7, 12345678, 32784, 3},  {8, 100000000, 500000, 1}, {9, DP_RATE_MAX, UINT64_C(1) << 32, 1},
        {10, 5000000, 40000, 19},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        uint64_t taken = 0, now = START_MS;
        start(ROWS[i].rate);
        for (; now < START_MS + 10000; now += ROWS[i].step) {
            while (meter_pass(&meter, &waiters[0], now)) {
                meter_take(&meter, &waiters[0], ROWS[i].size, now);
                taken += ROWS[i].size;
            }
            meter_leave(&waiters[0]);
        }
        uint64_t due = ROWS[i].rate * (now - START_MS) / 1000;
        CHECK_ROW(ROWS[i].id, taken <= due + ROWS[i].size);
        CHECK_ROW(ROWS[i].id, taken + ROWS[i].size + ROWS[i].rate / 100 * 3 > due);
    }
}

/* Nothing of a millisecond is lost: after any time the tokens are exact. */
static void test_exact(void) {
    start(333);
    meter_charge(&meter, 33300, START_MS);
    for (uint64_t now = START_MS; now < START_MS + 100000; now += 7) {
        CHECK(!meter_pass(&meter, &waiters[0], now));
        CHECK(meter.tokens == -33300000 + (int64_t)(now - START_MS) * 333);
        meter_leave(&waiters[0]);
    }
    CHECK(!meter_pass(&meter, &waiters[0], START_MS + 100000));
    CHECK(meter.tokens == 0);
    meter_leave(&waiters[0]);
    CHECK(meter_pass(&meter, &waiters[0], START_MS + 100001) && meter.tokens == 333);
}

/* An idle meter saves up 20 ms, or a frame. */
static void test_burst(void) {
    start(100000000);
    CHECK(meter_pass(&meter, &waiters[0], START_MS + 3600000));
    CHECK(meter.tokens == INT64_C(2000000) * 1000);
    start(1000);
    CHECK(meter_pass(&meter, &waiters[0], START_MS + 36000000));
    CHECK(meter.tokens == (int64_t)DP_FRAME_MAX * 1000);
    CHECK(meter_pass(&meter, &waiters[0], START_MS)); /* a clock that goes back */
    CHECK(meter.tokens == (int64_t)DP_FRAME_MAX * 1000);
}

/* --- turns ---------------------------------------------------------------------------------------- */

/* All want all they can get: they take turns, and nobody is served twice while another waits. */
static void test_turns(void) {
    unsigned served[WAITERS] = {0};
    start(100000);
    for (uint64_t now = START_MS; now < START_MS + 10000; now++) {
        CHECK(meters_run(&all, now) > now);
        for (int i = 0; i < WAITERS; i++) { /* the first one is always asked first */
            if (waiters[i].meter || !meter_pass(&meter, &waiters[i], now))
                continue;
            meter_take(&meter, &waiters[i], 1000, now);
            served[i]++;
        }
        woken_count = 0;
    }
    for (int i = 0; i < WAITERS; i++)
        CHECK_ROW(i, served[i] >= 199 && served[i] <= 201);
}

/* A turn that is not used holds nobody up, and is not lost. */
static void test_unused_turn(void) {
    unsigned served = 0;
    start(100000);
    CHECK(!meter_pass(&meter, &waiters[0], START_MS));
    for (uint64_t now = START_MS; now < START_MS + 10000; now++) {
        meters_run(&all, now);
        if (!waiters[1].meter && meter_pass(&meter, &waiters[1], now)) {
            meter_take(&meter, &waiters[1], 1000, now);
            served++;
        }
        woken_count = 0;
    }
    CHECK(served >= 990 && served <= 1001);
    CHECK(waiters[0].turns == TURN && !waiters[0].meter);
    meter_charge(&meter, 5000, START_MS + 10000);
    CHECK(meter_pass(&meter, &waiters[0], START_MS + 10000));
    meter_take(&meter, &waiters[0], 1000, START_MS + 10000);
    CHECK(!meter_pass(&meter, &waiters[0], START_MS + 10000));
}

/* From any place in the line. */
static void test_leave(void) {
    for (int gone = 0; gone < WAITERS; gone++) {
        start(1000);
        for (int i = 0; i < WAITERS; i++)
            CHECK(!meter_pass(&meter, &waiters[i], START_MS));
        CHECK(all.waiting == &meter);
        meter_leave(&waiters[gone]);
        meter_leave(&waiters[gone]);
        meter_set(&meter, 0, START_MS);
        CHECK_ROW(gone, woken_count == WAITERS - 1 && all.waiting == NULL && !all.capped);
        for (int i = 0; i < woken_count; i++)
            CHECK_ROW(gone, woken[i] == i + (i >= gone));
        CHECK(meters_run(&all, START_MS + 10) == UINT64_MAX);
    }
}

/* --- rates that change ---------------------------------------------------------------------------- */

static void test_changes(void) {
    static const struct {
        int id;
        uint64_t before, after;
        int64_t tokens, then; /* bytes */
    } ROWS[] = {
        {1, 0, 1000000, 0, 0},                          /* a new cap begins with nothing */
        {2, 1000000, 1000, -500000, -500},              /* half a second to pay off, as before */
        {3, 1000, 1000000, -500, -500},                 /* or less */
        {4, 100000000, 1000000, 2000000, DP_FRAME_MAX}, /* savings above the new burst are gone */
        {5, 1000000, 100000000, 20000, 20000},          /* and none are made */
        {6, 1000000, 0, -500000, 0},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        start(ROWS[i].before);
        meter.tokens = ROWS[i].tokens * 1000;
        meter_set(&meter, ROWS[i].after, START_MS);
        CHECK_ROW(ROWS[i].id, !ROWS[i].after || meter.tokens == ROWS[i].then * 1000);
        CHECK_ROW(ROWS[i].id, all.capped == (ROWS[i].after != 0));
        meter_set(&meter, 0, START_MS);
        meter_set(&meter, ROWS[i].after, START_MS);
        CHECK_ROW(ROWS[i].id, meter.tokens == 0);
    }
}

/* Who waits under a slow rate goes on at once under a fast one, or none. */
static void test_relief(void) {
    start(1);
    meter_charge(&meter, 1000000, START_MS);
    CHECK(!meter_pass(&meter, &waiters[0], START_MS) && meter.was_short);
    CHECK(meters_run(&all, START_MS + 1) > START_MS + 1000000);
    meter_set(&meter, 100000000, START_MS + 1);
    CHECK(all.due_ms <= START_MS + 1);
    for (uint64_t now = START_MS + 1; now < START_MS + 20; now++)
        meters_run(&all, now);
    CHECK(woken_count == 1 && waiters[0].turns == TURN);
}

int main(void) {
    test_rates();
    test_exact();
    test_burst();
    test_turns();
    test_unused_turn();
    test_leave();
    test_changes();
    test_relief();
    return check_report();
}
