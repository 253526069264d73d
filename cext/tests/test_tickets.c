/* What a handshake relies on and what it leaves: known keys and tickets. */
#include "shake_pair.h"

static struct pair pair;

/* --- what a dial relies on --------------------------------------------------------------------------- */

static void test_wrong_reliance(void) {
    uint8_t key[DP_KEY_LEN], ticket[DP_TICKET_LEN] = {0}, no_key[DP_KEY_LEN] = {2};
    const struct {
        int id, status;
        bool initiator;
        struct dp_known known;
    } ROWS[] = {
        {1, DP_OK, true, {NULL, NULL, false}},
        {2, DP_E_ARGUMENT, true, {NULL, ticket, false}},
        {3, DP_E_ARGUMENT, true, {NULL, NULL, true}},
        {4, DP_E_ARGUMENT, false, {key, NULL, false}},
        {5, DP_E_KEY, true, {no_key, NULL, false}},
        {6, DP_OK, true, {no_key, ticket, false}}, /* a psk needs no point */
        {7, DP_OK, true, {key, NULL, true}},
        {8, DP_OK, true, {key, NULL, true}}, /* once more, from what was kept */
    };
    pair_key(key, 1);
    pair_start(&pair);
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        dp_node *node = pair.side[0].node;
        uint64_t link = 0;
        int rc = dp_link_new(node, &link, ROWS[row].initiator, &ROWS[row].known, NULL, 0, 1000);
        CHECK_ROW(ROWS[row].id, rc == ROWS[row].status);
        CHECK_ROW(ROWS[row].id, pair_stats(&pair, 0).links == (rc == DP_OK));
        (void)dp_link_end(node, link, DP_E_EOF);
        pair_gather(&pair, 0);
    }
    pair_free(&pair);
}

/* Keys that share a place among those dialled lately: each dial proves its own. */
static void test_kept_keys(void) {
    uint8_t keys[2][DP_KEY_LEN], seed[DP_SEED_LEN] = {0};
    CHECK(dp_identity_public(keys[0], seed) == DP_OK);
    do {
        seed[0]++;
        CHECK(dp_identity_public(keys[1], seed) == DP_OK);
    } while (keys[1][0] != keys[0][0]);
    pair_start(&pair);
    for (int n = 0; n < 6; n++) {
        uint8_t expected[DP_KEY_LEN];
        uint64_t link;
        struct dp_known known = {.key = keys[n / 2 % 2]};
        dp_node *node = pair.side[0].node;
        CHECK(dp_identity_static_public(expected, known.key) == DP_OK);
        CHECK(dp_link_new(node, &link, true, &known, NULL, 0, 1000) == DP_OK);
        const struct link *made = table_get(&node->links, link);
        CHECK_ROW(n, memcmp(made->shake->noise.rs, expected, DP_KEY_LEN) == 0);
        CHECK(dp_link_end(node, link, DP_E_EOF) == DP_OK);
    }
    pair_free(&pair);
}

/* --- tickets ----------------------------------------------------------------------------------------- */

static int take(int i, uint8_t tickets[2][DP_TICKET_LEN]) {
    return dp_link_tickets(pair.side[i].node, pair.side[i].link, tickets[0], tickets[1]);
}

/* Side `from` dials with `dial`; the other side holds `accept`. */
static void resume(int from, const uint8_t dial[DP_TICKET_LEN],
                   const uint8_t accept[DP_TICKET_LEN]) {
    uint8_t key[DP_KEY_LEN];
    struct dp_known known = {.key = key, .ticket = dial, .pinned = true};
    struct pair_ticket *there = &pair.side[1 - from].ticket;
    pair_key(key, 1 - from);
    there->known = true;
    memcpy(there->name, accept, DP_TICKET_NAME_LEN);
    memcpy(there->psk, accept + DP_TICKET_NAME_LEN, DP_KEY_LEN);
    pair_key(there->key, from);
    pair_links_from(&pair, from, &known);
    pair_run(&pair);
}

/* Every handshake gives both sides the same two tickets, of which each side dials with another. They
 * resume in either direction, and are replaced by it. */
static void test_tickets(void) {
    for (int way = 0; way < PAIR_WAYS; way++) {
        uint8_t last[2][DP_TICKET_LEN] = {{0}}, own[2][DP_TICKET_LEN], peer[2][DP_TICKET_LEN];
        pair_start(&pair);
        pair_dial(&pair, way, false);
        pair_run(&pair);
        for (int turn = 0; turn < 4; turn++) {
            CHECK_ROW(way, take(0, own) == DP_OK && take(1, peer) == DP_OK);
            CHECK_ROW(way, take(0, last) == DP_E_STATE && take(1, last) == DP_E_STATE);
            CHECK_ROW(way, memcmp(own[0], peer[1], DP_TICKET_LEN) == 0);
            CHECK_ROW(way, memcmp(own[1], peer[0], DP_TICKET_LEN) == 0);
            CHECK_ROW(way, memcmp(own[0], own[1], DP_TICKET_LEN) != 0);
            CHECK_ROW(way, memcmp(own[0], last[0], DP_TICKET_LEN) != 0);
            memcpy(last, own, sizeof last);
            pair_end(&pair);
            resume(turn % 2, turn % 2 ? peer[0] : own[0], turn % 2 ? own[1] : peer[1]);
            for (int i = 0; i < 2; i++) {
                CHECK_ROW(way, pair.side[i].seen.ready == 1);
                CHECK_ROW(way, pair_info(&pair, i).mode == DP_MODE_RESUME);
                CHECK_ROW(way, !pair_info(&pair, i).fell_back);
            }
        }
        pair_free(&pair);
    }
}

/* Not before the peer has shown that it has the keys, and not once the link is admitted. */
static void test_tickets_in_time(void) {
    uint8_t tickets[2][DP_TICKET_LEN];
    for (int way = 0; way < PAIR_WAYS; way++) {
        CHECK_ROW(way, pair_shake(&pair, way, 1) == 0 && take(1, tickets) == DP_E_STATE);
        CHECK_ROW(way, take(0, tickets) == DP_E_STATE && pair_hand(&pair, 0) == DP_OK);
        CHECK_ROW(way, take(1, tickets) == DP_E_STATE);
        pair_run(&pair);
        CHECK_ROW(way, take(1, tickets) == DP_OK);
        pair_admit(&pair, 0);
        CHECK_ROW(way, take(0, tickets) == DP_E_STATE);
        CHECK_ROW(way, sodium_is_zero(pair_link(&pair, 0)->secret, DP_KEY_LEN));
        CHECK_ROW(way, sodium_is_zero(pair_link(&pair, 1)->secret, DP_KEY_LEN));
        pair_end(&pair);
        pair_dial(&pair, way, false);
        pair_run(&pair);
        CHECK(dp_link_close(pair.side[0].node, pair.side[0].link, 4) == DP_OK);
        CHECK_ROW(way, sodium_is_zero(pair_link(&pair, 0)->secret, DP_KEY_LEN));
        pair_end(&pair);
        CHECK_ROW(way, take(0, tickets) == DP_E_ARGUMENT);
        pair_free(&pair);
    }
}

/* A side that holds no ticket accepts none, not even one that is all zeros. */
static void test_no_ticket(void) {
    uint8_t key[DP_KEY_LEN];
    static const uint8_t ZEROS[DP_TICKET_LEN];
    struct dp_known known = {.key = key, .ticket = ZEROS};
    pair_start(&pair);
    pair_key(key, 1);
    pair_links(&pair, &known);
    pair_run(&pair);
    pair_check_ready(&pair, 0, PAIR_UNKNOWN_TICKET);
    pair_check_ready(&pair, 1, PAIR_UNKNOWN_TICKET);
    pair_free(&pair);
}

/* Until it is told, a link that asked for a ticket reads nothing and says nothing. */
static void test_ticket_wait(void) {
    uint8_t psk[DP_KEY_LEN] = {0}, key[DP_KEY_LEN] = {0};
    for (int told = 0; told < 2; told++) {
        CHECK(pair_shake(&pair, PAIR_RESUME, 0) == 1);
        dp_node *node = pair.side[1].node;
        uint64_t link = pair.side[1].link;
        const struct dp_event *events;
        CHECK(dp_link_ticket(node, link, psk, key) == DP_E_STATE);
        for (int turn = 0; turn < 3; turn++) {
            CHECK(pair_deliver(&pair, 1, PAIR_WIRE) == DP_OK && pair_produce(&pair, 1, 0) == 0);
            CHECK(!link_may_read(pair_link(&pair, 1)) && pair.side[1].on_wire > 0);
        }
        CHECK(dp_node_events(node, &events) == 1 && events[0].kind == DP_EVENT_TICKET);
        dp_node_events_done(node);
        CHECK(dp_link_ticket(node, link + 1, psk, key) == DP_E_ARGUMENT);
        CHECK(dp_link_ticket(node, link, psk, NULL) == DP_E_ARGUMENT);
        CHECK(dp_link_ticket(node, link, NULL, key) == DP_E_ARGUMENT);
        CHECK(pair_stats(&pair, 1).handshakes_pending == 1);
        if (told) {
            CHECK(dp_link_ticket(node, link, NULL, NULL) == DP_OK);
            CHECK(dp_link_ticket(node, link, NULL, NULL) == DP_E_STATE);
            pair_run(&pair);
            pair_check_ready(&pair, 1, PAIR_UNKNOWN_TICKET);
        } else {
            (void)dp_node_tick(node, pair.now_ms + 10000);
            pair_gather(&pair, 1);
            CHECK(pair_refused(&pair, 1, DP_E_TIMEOUT));
            CHECK(dp_link_ticket(node, link, NULL, NULL) == DP_E_ARGUMENT);
        }
        pair_free(&pair);
    }
}

int main(void) {
    test_wrong_reliance();
    test_kept_keys();
    test_tickets();
    test_tickets_in_time();
    test_no_ticket();
    test_ticket_wait();
    return check_report();
}
