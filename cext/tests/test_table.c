/* Handles: stale ones find nothing, freed indices wait in line, limits hold. */
#include "check.h"
#include "table.h"

enum { MANY = 1000, LINE = 64 }; /* LINE: freed indices that wait before one is used again */

static struct table table;
static uint64_t handles[MANY];
static int objects[MANY];

static void add_all(uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        CHECK(table_add(&table, &objects[i], &handles[i]) == DP_OK);
}

static void test_find(void) {
    table_init(&table, MANY);
    CHECK(table_get(&table, 0) == NULL && table_get_short(&table, 0) == NULL);
    add_all(MANY);
    CHECK(table.count == MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK(handles[i] != 0 && table_get(&table, handles[i]) == &objects[i]);
        CHECK(table_get_short(&table, table_short(handles[i])) == &objects[i]);
        CHECK(table_get(&table, handles[i] + (UINT64_C(1) << 32)) == NULL);
        CHECK(table_get(&table, handles[i] - (UINT64_C(1) << 32)) == NULL);
    }
    CHECK(table_get(&table, (UINT64_C(1) << 32) + MANY) == NULL);
    CHECK(table_get(&table, UINT64_MAX) == NULL && table_get_short(&table, UINT32_MAX) == NULL);
    table_free(&table);
    CHECK(table_get(&table, handles[0]) == NULL);
}

static void test_limit(void) {
    uint64_t handle = 77;
    table_init(&table, 3);
    add_all(3);
    CHECK(table_add(&table, &objects[3], &handle) == DP_E_LIMIT && handle == 77);
    table_remove(&table, handles[1]);
    CHECK(table_add(&table, &objects[3], &handle) == DP_OK && table.count == 3);
    CHECK(table_add(&table, &objects[4], &handle) == DP_E_LIMIT);
    table_free(&table);
}

static void test_stale(void) {
    table_init(&table, MANY);
    add_all(3);
    table_remove(&table, handles[1]);
    CHECK(table_get(&table, handles[1]) == NULL && table.count == 2);
    CHECK(table_get_short(&table, table_short(handles[1])) == NULL);
    table_remove(&table, handles[1]); /* again: nothing happens */
    CHECK(table.count == 2 && table.free_count == 1);
    CHECK(table_get(&table, handles[0]) == &objects[0]);
    CHECK(table_get(&table, handles[2]) == &objects[2]);
    table_free(&table);
}

/* The first freed comes back first, and not before LINE others wait. */
static void test_reuse_order(void) {
    uint64_t handle;
    table_init(&table, MANY);
    add_all(200);
    for (uint32_t i = 0; i < LINE; i++)
        table_remove(&table, handles[i]);
    CHECK(table_add(&table, &objects[0], &handle) == DP_OK && (uint32_t)handle == 200);
    for (uint32_t i = LINE; i < 100; i++)
        table_remove(&table, handles[i]);
    for (uint32_t i = 0; i < 100 - LINE; i++) {
        CHECK(table_add(&table, &objects[i], &handle) == DP_OK && (uint32_t)handle == i);
        CHECK(handle >> 32 == 2 && table_get(&table, handle) == &objects[i]);
        CHECK(table_get(&table, handles[i]) == NULL);
    }
    CHECK(table_add(&table, &objects[0], &handle) == DP_OK && (uint32_t)handle == 201);
    table_free(&table);
}

/* One object that comes and goes: no short handle returns within 4096 generations of LINE + 1. */
static void test_short_handles(void) {
    enum { TURNS = 20000 };
    uint64_t handle, first;
    table_init(&table, MANY);
    CHECK(table_add(&table, &objects[0], &first) == DP_OK);
    table_remove(&table, first);
    for (uint32_t i = 0; i < TURNS; i++) {
        CHECK(table_add(&table, &objects[1], &handle) == DP_OK);
        CHECK(table_short(handle) != table_short(first) && handle != first);
        table_remove(&table, handle);
    }
    CHECK(table.used == LINE + 1 && table.count == 0);
    table_free(&table);
}

int main(void) {
    test_find();
    test_limit();
    test_stale();
    test_reuse_order();
    test_short_handles();
    return check_report();
}
