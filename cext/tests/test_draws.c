/* Random bytes that are drawn beforehand. */
#include <sodium.h>
#include <string.h>

#include "check.h"
#include "draws.h"

static bool is_wiped(const struct draws *draws) {
    return sodium_is_zero(draws->bytes, sizeof draws->bytes);
}

/* What is taken is what was ready, and is there no more. */
static void test_taken_once(void) {
    struct draws draws = {.left = 0};
    uint8_t ready[100], out[100];
    draws_begin(&draws, sizeof ready);
    memcpy(ready, draws.bytes + DRAWS_MAX - sizeof ready, sizeof ready);
    CHECK(draws.left == 100 && !sodium_is_zero(ready, sizeof ready));
    draws_take(&draws, out, 60);
    CHECK(draws.left == 40 && memcmp(out, ready, 60) == 0);
    CHECK(sodium_is_zero(draws.bytes, DRAWS_MAX - 40));
    draws_take(&draws, out + 60, 40);
    CHECK(draws.left == 0 && memcmp(out, ready, 100) == 0 && is_wiped(&draws));
}

/* Too long a draw takes nothing of what is ready, and is random all the same. */
static void test_not_ready(void) {
    struct draws draws = {.left = 0};
    uint8_t one[32] = {0}, other[32] = {0};
    draws_take(&draws, one, sizeof one);
    draws_begin(&draws, 31);
    draws_take(&draws, other, sizeof other);
    CHECK(draws.left == 31 && memcmp(one, other, sizeof one) != 0);
    CHECK(!sodium_is_zero(one, sizeof one) && !sodium_is_zero(other, sizeof other));
}

/* Nothing stays from one message to the next. */
static void test_ended(void) {
    struct draws draws = {.left = 0};
    uint8_t one[DRAWS_MAX], other[DRAWS_MAX];
    draws_begin(&draws, DRAWS_MAX);
    memcpy(one, draws.bytes, DRAWS_MAX);
    draws_begin(&draws, DRAWS_MAX);
    memcpy(other, draws.bytes, DRAWS_MAX);
    CHECK(memcmp(one, other, DRAWS_MAX) != 0);
    draws_end(&draws);
    CHECK(draws.left == 0 && is_wiped(&draws));
    draws_end(&draws);
    CHECK(draws.left == 0);
}

int main(void) {
    CHECK(sodium_init() >= 0);
    test_taken_once();
    test_not_ready();
    test_ended();
    return check_report();
}
