/* What a link still holds of a ticket that was of no use, and what it says when it is dead. */
#include "shake_pair.h"

static struct pair pair;

/* A fallback leaves nothing of the ticket, neither one of the wrong psk nor one that is unknown. */
static void test_ticket_wiped(void) {
    for (int way = PAIR_UNKNOWN_TICKET; way <= PAIR_WRONG_PSK; way++) {
        CHECK(pair_shake(&pair, way, 1) == 0);
        const struct shake *shake = pair_link(&pair, 1)->shake;
        CHECK_ROW(way, shake->mode == SHAKE_FALLBACK);
        CHECK_ROW(way, sodium_is_zero(shake->ticket, DP_TICKET_LEN));
        pair_free(&pair);
    }
}

/* A message 1 with something behind it that is no message 3: not even the answer leaves. */
static void test_dead_is_silent(void) {
    for (int way = 0; way < PAIR_WAYS; way++) {
        struct pair_side *to = &pair.side[1];
        CHECK(pair_shake(&pair, way, 0) == 1);
        memset(to->wire + to->on_wire, 0, SHAKE_HEADER);
        to->on_wire += SHAKE_HEADER;
        if (pair_mode(way) == DP_MODE_RESUME) {
            CHECK_ROW(way, pair_deliver(&pair, 1, PAIR_WIRE) == DP_OK);
            pair_gather(&pair, 1);
        }
        CHECK_ROW(way, pair_deliver(&pair, 1, PAIR_WIRE) == DP_E_SIZE);
        CHECK_ROW(way, pair_state(&pair, 1) == DP_LINK_DEAD && pair_produce(&pair, 1, 0) == 0);
        CHECK_ROW(way, pair_stats(&pair, 1).buffer_bytes == 0);
        pair_gather(&pair, 1);
        pair_free(&pair);
    }
}

int main(void) {
    CHECK(dp_init() == DP_OK);
    test_ticket_wiped();
    test_dead_is_silent();
    return check_report();
}
