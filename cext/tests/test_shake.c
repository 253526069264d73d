/* The handshake in each way it can go: how it ends, what it proves, and what becomes of it when bytes
 * are cut, changed, repeated, reflected or made up. */
#include "shake_pair.h"

static struct pair pair;

/* Shortest messages, all in one pair: for tests that shake hands by the thousand. */
static void start_least(void) {
    pair_start(&pair);
    pair.side[0].filled = pair.side[1].filled = true;
}

/* --- the way it should go ---------------------------------------------------------------------------- */

/* Of READY links, by how they were made. */
static void check_counts(int way) {
    for (int i = 0; i < 2; i++) {
        struct dp_stats s = pair_stats(&pair, i);
        bool fell_back = pair_falls_back(way);
        CHECK_ROW(way, s.handshakes_xx == (way == PAIR_XX) && s.handshakes_ik == (way == PAIR_IK));
        CHECK_ROW(way, s.handshakes_resume == (way == PAIR_RESUME));
        CHECK_ROW(way, s.handshakes_fallback == fell_back && s.handshakes_done == 1);
    }
}

/* Message 3 of IK and NNpsk0 took the first nonce of the initiator's key. */
static void check_nonces(int way) {
    uint64_t first = way == PAIR_IK || way == PAIR_RESUME;
    CHECK_ROW(way, pair_link(&pair, 0)->ciphers[0].cipher.n == first);
    CHECK_ROW(way, pair_link(&pair, 1)->ciphers[1].cipher.n == first);
    CHECK_ROW(way, pair_link(&pair, 0)->ciphers[1].cipher.n == 0);
    CHECK_ROW(way, pair_link(&pair, 1)->ciphers[0].cipher.n == 0);
}

static void test_ways(void) {
    for (int way = 0; way < PAIR_WAYS; way++) {
        pair_start(&pair);
        pair_dial(&pair, way, false);
        pair_run(&pair);
        for (int i = 0; i < 2; i++)
            pair_check_ready(&pair, i, way);
        CHECK_ROW(way, pair.side[1].seen.tickets == (pair_mode(way) == DP_MODE_RESUME));
        check_nonces(way);
        pair_admit(&pair, 0);
        pair_admit(&pair, 1);
        pair_run(&pair);
        CHECK_ROW(way, pair.side[0].seen.control == 1 && pair.side[1].seen.control == 1);
        check_counts(way);
        pair_free(&pair);
    }
}

static void test_byte_by_byte(void) {
    for (int way = 0; way < PAIR_WAYS; way++) {
        pair_start(&pair);
        pair_dial(&pair, way, false);
        for (int message = 0; message < 3; message++) {
            int to = 1 - message % 2;
            CHECK_ROW(way, pair_produce(&pair, 1 - to, 0) > 0);
            /* one call more: the bytes that rest while a ticket is asked for are offered again */
            for (size_t n = pair.side[to].on_wire + 1; n > 0; n--) {
                CHECK_ROW(way, pair_deliver(&pair, to, 1) == DP_OK);
                pair_gather(&pair, to);
            }
            CHECK_ROW(way, pair.side[to].on_wire == 0);
        }
        for (int i = 0; i < 2; i++)
            pair_check_ready(&pair, i, way);
        pair_free(&pair);
    }
}

/* --- bytes cut and changed --------------------------------------------------------------------------- */

/* The stream ends within a message. */
static void test_truncation(void) {
    start_least();
    for (int way = 0; way <= PAIR_WRONG_KEY; way++)
        for (int message = 0; message < 3; message++)
            for (size_t len = 0, full = 1; len < full; len++) {
                pair_dial(&pair, way, false);
                int to = pair_carry(&pair, message);
                full = pair.side[to].on_wire;
                CHECK_ROW(way, pair_deliver(&pair, to, len) == DP_OK);
                pair_gather(&pair, to);
                CHECK_ROW(way, pair_state(&pair, to) == DP_LINK_HANDSHAKE);
                CHECK_ROW(way, message > 0 || pair.side[to].seen.tickets == 0);
                pair_end(&pair);
                CHECK_ROW(way, pair_refused(&pair, to, DP_E_EOF));
            }
    pair_free(&pair);
}

/* Whether side `i` is READY; then it fell back and knows who is there. */
static bool ready_without_trust(int i) {
    uint8_t key[DP_KEY_LEN];
    if (!pair.side[i].seen.ready)
        return false;
    struct dp_link_info info = pair_info(&pair, i);
    pair_key(key, 1 - i);
    CHECK(info.fell_back && memcmp(info.key, key, DP_KEY_LEN) == 0);
    return true;
}

/* A changed message 2 or 3 makes nobody READY who reads it. A changed first message takes the trust
 * away that it relied on, and no more; what stands in front of the rest ends the link or leaves it
 * waiting, but for a length that became shorter. */
static void check_flip(int way, int message, size_t bit) {
    bool relied = pair_mode(way) != DP_MODE_XX && message == 0;
    pair_dial(&pair, way, false);
    int to = pair_carry(&pair, message);
    pair.side[to].wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
    (void)pair_hand(&pair, to);
    CHECK(pair.side[to].seen.ready == 0);
    pair_run(&pair);
    if (message == 2)
        CHECK(pair.side[0].seen.ready == 1 && pair.side[1].seen.ready == 0);
    else if (!relied)
        CHECK(pair.side[0].seen.ready == 0 && pair.side[1].seen.ready == 0);
    else if (bit / 8 >= DP_KEY_LEN + SHAKE_HEADER)
        CHECK(ready_without_trust(0) && ready_without_trust(1));
    else if (bit / 8 <= DP_KEY_LEN)
        CHECK(!ready_without_trust(0) && !ready_without_trust(1));
    else
        CHECK(ready_without_trust(0) >= ready_without_trust(1));
    pair_end(&pair);
}

static void test_flips(void) {
    start_least();
    for (int way = 0; way <= PAIR_WRONG_KEY; way++)
        for (int message = way == PAIR_WRONG_KEY; message < 3; message++) {
            pair_dial(&pair, way, false);
            size_t full = pair.side[pair_carry(&pair, message)].on_wire;
            pair_end(&pair);
            for (size_t bit = 0; bit < 8 * full; bit++)
                check_flip(way, message, bit);
        }
    pair_free(&pair);
}

/* --- messages again ---------------------------------------------------------------------------------- */

/* Recorded and sent anew: a message 2 at most, which nobody can go on from. */
static void test_replay(void) {
    static uint8_t first[PAIR_WIRE], third[PAIR_WIRE];
    for (int way = 0; way < PAIR_WAYS; way++) {
        struct pair_side *to = &pair.side[1];
        pair_start(&pair);
        pair_dial(&pair, way, false);
        size_t first_len = pair_produce(&pair, 0, 0);
        memcpy(first, to->wire, first_len);
        CHECK(pair_hand(&pair, 1) == DP_OK && pair_produce(&pair, 1, 0) > 0);
        CHECK(pair_hand(&pair, 0) == DP_OK);
        size_t third_len = pair_produce(&pair, 0, 0);
        memcpy(third, to->wire, third_len);
        pair_run(&pair);
        pair_check_ready(&pair, 1, way);
        pair_end(&pair);
        for (int again = 0; again < 2; again++) {
            pair_dial(&pair, way, false);
            to->ticket.known = !again; /* a node gives a ticket out once */
            memcpy(to->wire, first, to->on_wire = first_len);
            CHECK_ROW(way, pair_hand(&pair, 1) == DP_OK && pair_produce(&pair, 1, 0) > 0);
            memcpy(to->wire, third, to->on_wire = third_len);
            (void)pair_hand(&pair, 1);
            CHECK_ROW(way, to->seen.ready == 0 && pair_stats(&pair, 1).handshakes_done == 0);
            pair_end(&pair);
        }
        pair_free(&pair);
    }
}

/* A node's own first message as the answer to it. */
static void test_reflection(void) {
    for (int way = 0; way < PAIR_WAYS; way++) {
        pair_start(&pair);
        pair_dial(&pair, way, false);
        size_t len = pair_produce(&pair, 0, 0);
        memcpy(pair.side[0].wire, pair.side[1].wire, pair.side[0].on_wire = len);
        (void)pair_hand(&pair, 0);
        CHECK_ROW(way, pair.side[0].seen.ready == 0 && pair_produce(&pair, 0, 0) == 0);
        (void)dp_node_tick(pair.side[0].node, pair.now_ms + 10000);
        pair_gather(&pair, 0);
        CHECK_ROW(way, pair.side[0].seen.down == 1 && pair.side[0].seen.ready == 0);
        pair_free(&pair);
    }
}

/* Side 1 becomes another instance of side 0's node, as if somebody led its bytes back to it. */
static void start_twins(void) {
    struct dp_node_config config = pair_config();
    pair_start(&pair);
    dp_node_free(pair.side[1].node);
    memset(config.seed, 1, sizeof config.seed);
    config.random = pair_random;
    config.random_context = &pair.side[1];
    CHECK(dp_node_new(&pair.side[1].node, &config) == DP_OK);
    CHECK(dp_sink_open(pair.side[1].node, &pair.side[1].sink) == DP_OK);
}

/* A dial that is led back to its own node meets its own key, and never takes it for the other. */
static void test_self(void) {
    uint8_t own[DP_KEY_LEN];
    pair_key(own, 0);
    for (int way = 0; way < PAIR_WAYS; way++)
        for (int pinned = 0; pinned < 2; pinned++) {
            const struct pair_seen *seen = &pair.side[0].seen;
            start_twins();
            pair_dial(&pair, way, pinned);
            pair_run(&pair);
            if (way == PAIR_RESUME) { /* only if it took its own ticket for the peer's */
                CHECK(pair_refused(&pair, 0, DP_E_IDENTITY) && seen->answered_len == 0);
            } else if (way == PAIR_XX || !pinned) {
                CHECK_ROW(way, seen->ready == 1 && pair_info(&pair, 0).fell_back == (way > 0));
                CHECK_ROW(way, memcmp(pair_info(&pair, 0).key, own, DP_KEY_LEN) == 0);
            } else {
                CHECK_ROW(way, pair_refused(&pair, 0, DP_E_IDENTITY) &&
                                   seen->answered_len == DP_KEY_LEN);
                CHECK_ROW(way, memcmp(seen->answered, own, DP_KEY_LEN) == 0);
            }
            pair_free(&pair);
        }
}

/* --- made-up keys ------------------------------------------------------------------------------------ */

/* X25519's points of low order, and their encodings beyond p. */
static const char *const LOW_ORDER[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

/* Each in place of the ephemeral of message 1 or 2, with a header that fits: its reader ends. */
static void test_low_order(void) {
    enum { KEYS = sizeof LOW_ORDER / sizeof LOW_ORDER[0] };
    start_least();
    for (int n = 0; n < 2 * PAIR_WAYS * 2 * KEYS; n++) {
        int way = n % PAIR_WAYS, message = n / PAIR_WAYS % 2, top = n / PAIR_WAYS / 2 % 2;
        pair_dial(&pair, way, false);
        int to = pair_carry(&pair, message);
        uint8_t *wire = pair.side[to].wire;
        uint8_t mode = (uint8_t)(message ? pair_wire_mode(way) : pair_mode(way));
        CHECK(sodium_hex2bin(wire, DP_KEY_LEN, LOW_ORDER[n / PAIR_WAYS / 4], 2 * DP_KEY_LEN, NULL,
                             NULL, NULL) == 0);
        wire[DP_KEY_LEN - 1] |= (uint8_t)(top * TOP_BIT);
        shake_put_header(pair_link(&pair, to), wire, wire + DP_KEY_LEN, mode,
                         pair.side[to].on_wire - DP_KEY_LEN - SHAKE_HEADER);
        CHECK_ROW(way, pair_hand(&pair, to) == DP_E_KEY && pair_refused(&pair, to, DP_E_KEY));
        pair_end(&pair);
    }
    pair_free(&pair);
}

/* A static key of low order in message 1 or 3, sealed as it should be: no reason to fall back. */
static void test_low_order_static(void) {
    for (int way = 0; way <= PAIR_WRONG_KEY; way++) {
        if (way == PAIR_RESUME)
            continue; /* sends none */
        pair_start(&pair);
        memset(pair.side[0].node->static_public, 0, DP_KEY_LEN);
        pair_dial(&pair, way, false);
        int to = pair_carry(&pair, way == PAIR_IK ? 0 : 2);
        CHECK_ROW(way,
                  to == 1 && pair_hand(&pair, 1) == DP_E_KEY && pair_refused(&pair, 1, DP_E_KEY));
        pair_free(&pair);
    }
}

/* --- who answers ------------------------------------------------------------------------------------- */

/* A pinned key must answer; without it, whoever answers is known and trusted for nothing. */
static void test_pinned(void) {
    uint8_t key[DP_KEY_LEN];
    pair_key(key, 1);
    for (int way = PAIR_IK; way < PAIR_WAYS; way++) {
        const struct pair_seen *seen = &pair.side[0].seen;
        pair_start(&pair);
        pair_dial(&pair, way, true);
        pair_run(&pair);
        if (way == PAIR_WRONG_KEY) {
            CHECK(pair_refused(&pair, 0, DP_E_IDENTITY) && pair.side[1].seen.ready == 0);
            CHECK(seen->answered_len == DP_KEY_LEN && memcmp(seen->answered, key, DP_KEY_LEN) == 0);
            CHECK(pair.side[1].on_wire == 0 && pair_stats(&pair, 0).handshakes_failed == 1);
        } else {
            pair_check_ready(&pair, 0, way);
            pair_check_ready(&pair, 1, way);
        }
        pair_free(&pair);
    }
}

/* One side says another key than it has: `claim` is what is flipped in its last byte. The sign of x
 * gives the key's negative, which has the same static key. */
static void test_claims(void) {
    static const struct {
        int id, way, liar, claim;
        bool accepted, answered;
    } ROWS[] = {
        {1, PAIR_XX, 1, 1, false, false},         {2, PAIR_XX, 0, 1, false, false},
        {3, PAIR_XX, 1, 0x80, true, false},       {4, PAIR_XX, 0, 0x80, true, false},
        {5, PAIR_IK, 1, 1, false, false},         {6, PAIR_IK, 0, 1, false, false},
        {7, PAIR_IK, 1, 0x80, false, true},       {8, PAIR_IK, 0, 0x80, true, false},
        {9, PAIR_RESUME, 1, 1, false, false},     {10, PAIR_RESUME, 0, 1, false, false},
        {11, PAIR_RESUME, 1, 0x80, false, false}, {12, PAIR_RESUME, 0, 0x80, false, false},
        {13, PAIR_WRONG_KEY, 1, 1, false, false}, {14, PAIR_WRONG_KEY, 0, 1, false, false},
    };
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        int judge = 1 - ROWS[row].liar;
        const struct pair_seen *seen = &pair.side[judge].seen;
        pair_start(&pair);
        pair.side[ROWS[row].liar].node->public_key[31] ^= (uint8_t)ROWS[row].claim;
        pair_dial(&pair, ROWS[row].way, false);
        pair_run(&pair);
        CHECK_ROW(ROWS[row].id, seen->ready == ROWS[row].accepted);
        CHECK_ROW(ROWS[row].id, ROWS[row].accepted || pair_refused(&pair, judge, DP_E_IDENTITY));
        CHECK_ROW(ROWS[row].id, seen->answered_len == (ROWS[row].answered ? DP_KEY_LEN : 0));
        pair_free(&pair);
    }
}

int main(void) {
    test_ways();
    test_byte_by_byte();
    test_truncation();
    test_flips();
    test_replay();
    test_reflection();
    test_self();
    test_low_order();
    test_low_order_static();
    test_pinned();
    test_claims();
    return check_report();
}
