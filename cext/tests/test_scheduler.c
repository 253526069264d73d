/* Who sends next: shares by weight, urgent first, nobody starves, flows that leave the round. */
#include <string.h>

#include "check.h"
#include "scheduler.h"

enum { FLOWS = 6 };

static struct scheduler sched;
static struct flow flows[FLOWS];
static uint64_t sent[FLOWS];

static void add(int i, uint8_t priority, uint8_t weight) {
    flows[i] = (struct flow){.priority = priority, .weight = weight};
    sent[i] = 0;
    sched_add(&sched, &flows[i]);
}

static void start(void) {
    memset(&sched, 0, sizeof sched);
}

/* As link_produce does it: whole datagrams of `size` until the deficit is used up. */
static int turn(const uint32_t size[FLOWS]) {
    struct flow *f = sched_next(&sched);
    CHECK(f != NULL && f->deficit > 0);
    int i = (int)(f - flows);
    size_t n = 0;
    while (n < (size_t)f->deficit)
        n += size[i];
    sent[i] += n;
    sched_charge(&sched, f, n);
    return i;
}

static bool near(uint64_t got, double share, uint64_t sum, double slack) {
    double part = (double)got / (double)sum;
    return part > share * (1 - slack) && part < share * (1 + slack);
}

/* --- weights ---------------------------------------------------------------------------------------- */

static void test_weights(void) {
    static const struct {
        int id;
        uint32_t size[FLOWS];
    } ROWS[] = {
        {1, {100, 100, 100}},       {2, {1, 1, 1}},       {3, {6, 20000, 300}},
        {4, {32768, 32768, 32768}}, {5, {32768, 100, 6}}, {6, {6, 100, 32768}},
        {7, {1024, 2048, 4096}},
    };
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        start();
        add(0, DP_NORMAL, 1);
        add(1, DP_NORMAL, 2);
        add(2, DP_NORMAL, 4);
        uint64_t sum = 0;
        while (sum < 20000000) {
            turn(ROWS[row].size);
            sum = sent[0] + sent[1] + sent[2];
        }
        for (int i = 0; i < 3; i++)
            CHECK_ROW(ROWS[row].id, near(sent[i], (double)(1 << i) / 7, sum, 0.03));
    }
}

/* A flow that is idle between its datagrams saves nothing up, and owes what it overdrew. */
static void test_no_credit_for_idling(void) {
    static const uint32_t SIZE[FLOWS] = {5000, 5000};
    start();
    add(0, DP_NORMAL, 1);
    add(1, DP_NORMAL, 1);
    for (int round = 0; round < 4000; round++) {
        if (turn(SIZE) == 1) {
            sched_remove(&sched, &flows[1]);
            sched_add(&sched, &flows[1]);
            CHECK(flows[1].deficit <= 0);
        }
    }
    CHECK(near(sent[1], 0.5, sent[0] + sent[1], 0.03));
}

/* --- classes ---------------------------------------------------------------------------------------- */

static void test_urgent_first(void) {
    static const uint32_t SIZE[FLOWS] = {1000, 1000, 1000};
    start();
    add(0, DP_BULK, 255);
    add(1, DP_NORMAL, 255);
    add(2, DP_URGENT, 1);
    for (int i = 0; i < 5; i++)
        CHECK(turn(SIZE) == 2);
    sched_remove(&sched, &flows[2]);
    CHECK(turn(SIZE) == 1);
    sched_remove(&sched, &flows[1]);
    CHECK(turn(SIZE) == 0);
    sched_remove(&sched, &flows[0]);
    CHECK(sched_next(&sched) == NULL && !sched_busy(&sched));
}

/* Behind a higher class that is always busy: about a ninth each. */
static void test_no_starvation(void) {
    static const struct {
        int id;
        uint8_t priority[3];
        uint32_t size[FLOWS];
        double least[3];
    } ROWS[] = {
        {1, {DP_URGENT, DP_BULK, DP_BULK}, {100, 100, 100}, {0.80, 0.05, 0.05}},
        {2, {DP_URGENT, DP_NORMAL, DP_BULK}, {100, 100, 100}, {0.70, 0.09, 0.10}},
        {3, {DP_URGENT, DP_NORMAL, DP_BULK}, {32768, 32768, 32768}, {0.60, 0.09, 0.10}},
        {4, {DP_NORMAL, DP_BULK, DP_BULK}, {6, 32768, 6}, {0.80, 0.04, 0.04}},
        {5, {DP_URGENT, DP_URGENT, DP_NORMAL}, {200, 3000, 32768}, {0.40, 0.40, 0.10}},
    };
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        uint64_t sum = 0;
        start();
        for (int i = 0; i < 3; i++)
            add(i, ROWS[row].priority[i], 1);
        while (sum < 20000000) {
            turn(ROWS[row].size);
            sum = sent[0] + sent[1] + sent[2];
        }
        for (int i = 0; i < 3; i++)
            CHECK_ROW(ROWS[row].id, (double)sent[i] >= ROWS[row].least[i] * (double)sum);
    }
}

/* --- the ring --------------------------------------------------------------------------------------- */

/* Flows leave from any place of the ring; the others go on in their order. */
static void test_remove(void) {
    static const uint32_t SIZE[FLOWS] = {1024, 1024, 1024, 1024};
    for (int gone = 0; gone < 4; gone++) {
        for (int turns = 0; turns < 4; turns++) {
            start();
            for (int i = 0; i < 4; i++)
                add(i, DP_NORMAL, 1);
            for (int t = 0; t < turns; t++)
                CHECK(turn(SIZE) == t);
            sched_remove(&sched, &flows[gone]);
            sched_remove(&sched, &flows[gone]); /* idle already */
            for (int t = turns; t < turns + 8; t++)
                if (t % 4 != gone)
                    CHECK(turn(SIZE) == t % 4);
            CHECK(flows[gone].ring == NULL && sched_busy(&sched));
        }
    }
}

static void test_add_twice(void) {
    static const uint32_t SIZE[FLOWS] = {1024, 1024};
    start();
    CHECK(sched_next(&sched) == NULL && !sched_busy(&sched));
    add(0, DP_NORMAL, 1);
    add(1, DP_NORMAL, 1);
    sched_add(&sched, &flows[0]);
    for (int t = 0; t < 10; t++)
        CHECK(turn(SIZE) == t % 2);
    sched_remove(&sched, &flows[0]);
    for (int t = 0; t < 3; t++)
        CHECK(turn(SIZE) == 1);
    sched_remove(&sched, &flows[1]);
    CHECK(!sched_busy(&sched));
}

int main(void) {
    test_weights();
    test_no_credit_for_idling();
    test_urgent_first();
    test_no_starvation();
    test_remove();
    test_add_twice();
    return check_report();
}
