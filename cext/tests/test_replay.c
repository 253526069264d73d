/* The window against repetition, against a plain list of what was taken. */
#include <string.h>

#include "check.h"
#include "replay.h"

enum { WINDOW = DP_REPLAY_WINDOW };
#define LAST (UINT64_MAX - 1)

/* One window through all rows: the counter, and whether it is fresh. */
static const struct {
    int row;
    uint64_t counter;
    bool fresh;
} ROWS[] = {
    {1, 0, true},
    {2, 0, false},
    {3, 1, true},
    {4, 3, true}, /* reordered: 2 follows */
    {5, 2, true},
    {6, 2, false},
    {7, 3, false},
    {8, 63, true},
    {9, 64, true},
    {10, 62, true},
    {11, WINDOW + 2, true}, /* 2 is too old now, 3 the oldest in the window, and taken */
    {12, 2, false},
    {13, 3, false},
    {14, 4, true},
    {15, 65, true},
    {16, WINDOW + 64, true},
    {17, 65, false}, /* the oldest */
    {18, 66, true},
    {19, 64, false},               /* out */
    {20, UINT64_C(1) << 40, true}, /* a huge jump */
    {21, WINDOW + 64, false},
    {22, (UINT64_C(1) << 40) - WINDOW, false},
    {23, (UINT64_C(1) << 40) - WINDOW + 1, true},
    {24, (UINT64_C(1) << 40) - WINDOW + 1, false},
    {25, (UINT64_C(1) << 40) - 1, true},
    {26, LAST, true}, /* as far as it goes */
    {27, LAST, false},
    {28, LAST - 1, true},
    {29, LAST - WINDOW + 1, true},
    {30, LAST - WINDOW, false},
    {31, UINT64_MAX, false}, /* and no wrap */
    {32, 0, false},
};

static void test_rows(void) {
    struct replay replay;
    memset(&replay, 0, sizeof replay);
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        CHECK_ROW(ROWS[i].row, replay_is_fresh(&replay, ROWS[i].counter) == ROWS[i].fresh);
        if (ROWS[i].fresh)
            replay_take(&replay, ROWS[i].counter);
    }
}

/* --- against a list ------------------------------------------------------------------------------- */

enum { SPAN = 1 << 16, STEPS = 200000 };
static bool taken[SPAN];

static uint32_t draw(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Mostly near the front, sometimes far behind it, sometimes far ahead. */
static uint64_t any_counter(uint32_t *state, uint64_t next) {
    switch (draw(state) % 16) {
    case 0:
        return next + draw(state) % 8;
    case 1:
        return draw(state) % 256 == 0 ? next + draw(state) % (3 * WINDOW) : next;
    case 2:
        return draw(state) % (uint32_t)(next + 1);
    default: {
        uint64_t back = draw(state) % (WINDOW + 100);
        return next > back ? next - back : next;
    }
    }
}

static bool expected(uint64_t counter, uint64_t next) {
    return counter >= next || (next - counter <= WINDOW && !taken[counter]);
}

static void test_list(uint32_t seed) {
    struct replay replay;
    uint64_t next = 0;
    memset(&replay, 0, sizeof replay);
    memset(taken, 0, sizeof taken);
    for (int step = 0; step < STEPS && next < SPAN - 4 * WINDOW; step++) {
        uint64_t counter = any_counter(&seed, next);
        bool fresh = replay_is_fresh(&replay, counter);
        CHECK(fresh == expected(counter, next));
        if (!fresh || draw(&seed) % 4 == 0) /* some are forged, and not taken */
            continue;
        replay_take(&replay, counter);
        taken[counter] = true;
        next = counter >= next ? counter + 1 : next;
        CHECK(replay.next == next && !replay_is_fresh(&replay, counter));
    }
}

int main(void) {
    test_rows();
    for (uint32_t seed = 1; seed <= 8; seed++)
        test_list(seed);
    return check_report();
}
