/* Links in pairs, in virtual time: what an open link refuses, deadlines, keys, ends. */
#include "shake_pair.h"

static struct pair pair;

static void open_default(void) {
    struct dp_node_config config = pair_config();
    pair_open(&pair, &config);
}

/* Side `i` ended with `status` and `reason`, and knows it once. */
static bool ended(int i, int status, uint16_t reason) {
    const struct pair_seen *seen = &pair.side[i].seen;
    return seen->down == 1 && seen->status == status && seen->reason == reason &&
           pair_state(&pair, i) == DP_LINK_DEAD;
}

/* --- the way it should go --------------------------------------------------------------------------- */

static void check_info(int i) {
    struct dp_link_info info;
    uint8_t key[DP_KEY_LEN];
    pair_key(key, 1 - i);
    CHECK(dp_link_get(pair.side[i].node, pair.side[i].link, &info) == DP_OK);
    CHECK(info.state == DP_LINK_OPEN && info.initiator == (i == 0) && info.dial == (uint64_t)i);
    CHECK(memcmp(info.key, key, DP_KEY_LEN) == 0);
}

/* Side 0's counts of what goes out are side 1's of what comes in, and the other way round. */
static void check_stats(void) {
    for (int i = 0; i < 2; i++) {
        struct dp_stats out = pair_stats(&pair, i), in = pair_stats(&pair, 1 - i);
        CHECK(out.bytes_out == in.bytes_in && out.frames_out == in.frames_in);
        CHECK(out.datagrams_out == in.datagrams_in && out.payload_out == in.payload_in);
        CHECK(out.links == 1 && out.handshakes_done == 1 && out.handshakes_failed == 0);
        CHECK(out.handshakes_pending == 0 && out.links_refused == 0 && out.events_lost == 0);
    }
}

static void exchange(void) {
    static const uint32_t LENGTHS[] = {0, 1, 100, 1023, 32762, 32763, 32768, 40000, 200000};
    for (size_t n = 0; n < sizeof LENGTHS / sizeof LENGTHS[0]; n++)
        for (int flow = 0; flow < PAIR_FLOWS; flow++)
            for (int i = 0; i < 2; i++)
                CHECK(pair_send(&pair, i, flow, n < 4 ? 5 : 1, LENGTHS[n]));
    pair_run(&pair);
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        for (int i = 0; i < 2; i++) {
            struct pair_lane *lane = &pair.flow[flow].lane[i];
            CHECK(lane->received == lane->sent && lane->sent == 25);
            pair_consume(&pair, 1 - i, flow);
        }
    pair_run(&pair);
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        for (int i = 0; i < 2; i++)
            CHECK(pair.flow[flow].lane[i].limit == pair.flow[flow].lane[i].sent_bytes + (1 << 20));
}

static void test_exchange(void) {
    open_default();
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        pair_flow_both(&pair, flow, 1 << 20, (uint8_t)(flow % DP_CLASS_COUNT));
    exchange();
    check_info(0);
    check_info(1);
    check_stats();
    CHECK(pair_stats(&pair, 0).datagrams_out == 25 * PAIR_FLOWS);
    pair_free(&pair);
}

/* Handshake, admission and datagrams, one byte at a time. */
static void test_split_everywhere(void) {
    struct dp_node_config config[2] = {pair_config(), pair_config()};
    pair_nodes(&pair, config);
    pair_links(&pair, NULL);
    for (int step = 0, quiet = 0; quiet < 2; step++) {
        int from = step % 2;
        if (step == 6)
            pair_admit(&pair, 0);
        if (step == 8)
            pair_admit(&pair, 1);
        if (step == 12)
            pair_flow_both(&pair, 0, 100000, DP_NORMAL);
        if (step == 13)
            CHECK(pair_send(&pair, 0, 0, 20, 30) && pair_send(&pair, 0, 0, 1, 50000));
        quiet = pair_produce(&pair, from, 0) || step < 14 ? 0 : quiet + 1;
        for (size_t n = pair.side[1 - from].on_wire + 1; n > 0; n--) {
            CHECK(pair_deliver(&pair, 1 - from, 1) == DP_OK);
            pair_gather(&pair, 1 - from);
        }
    }
    CHECK(pair.flow[0].lane[0].received == 21);
    pair_free(&pair);
}

/* Nodes of other networks do not understand each other, and say so to nobody. */
static void test_networks(void) {
    static const char *const OTHERS[] = {"Test", "tes", "test\x01"};
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
        struct dp_node_config config[2] = {pair_config(), pair_config()};
        config[1].network = OTHERS[i];
        pair_nodes(&pair, config);
        pair_links(&pair, NULL);
        pair_run(&pair);
        CHECK_ROW(i, pair.side[0].seen.ready == 0 && pair.side[1].seen.ready == 0);
        CHECK_ROW(i, pair_state(&pair, 0) == DP_LINK_HANDSHAKE && pair.side[0].on_wire == 0);
        pair_free(&pair);
    }
}

/* --- frames from a peer that holds the key -------------------------------------------------------- */

/* Side 1 receives on channel 0b (40 bytes of window, 7 types) and sends to channel 0a. Up to two
 * frames; its answer to the last, and what it tells the peer. */
static const struct {
    int id, rc;
    uint16_t reason;
    const char *frames[2];
} FRAMES[] = {
    {1, DP_OK, 0, {"010b0000010078"}},        /* a datagram */
    {2, DP_OK, 0, {"010b060000000020"}},      /* and padding */
    {3, DP_E_SEGMENT, 6, {"0b"}},             /* unknown kind */
    {4, DP_E_SEGMENT, 6, {"010b00000200ff"}}, /* shorter than it says */
    {5, DP_E_DATAGRAM, 6, {"030b010078"}},    /* orphan NEXT */
    {6, DP_E_DATAGRAM, 6, {"020b00000a000000010078", "020b00000a000000010078"}},
    {7, DP_E_DATAGRAM, 6, {"020b00000a000000010078", "010b0000010078"}},
    {8, DP_E_DATAGRAM, 6, {"020b00000300000002007878", "030b02007878"}},
    {9, DP_OK, 0, {"020b00000300000002007878", "030b010078"}},
    {10, DP_E_DATAGRAM, 6, {"020b000029000000010078"}}, /* 41 bytes */
    {11, DP_E_CREDIT, 7, {"020b000028000000010078"}},   /* 40, and their cost */
    {12, DP_OK, 0, {"020b000018000000010078"}},         /* 24, and their cost */
    {13, DP_E_CREDIT, 7, {"010b00000000", "020b000009000000010078"}},
    {14, DP_E_DATAGRAM, 6, {"010b07000000"}}, /* type 7 */
    {15, DP_E_CHANNEL, 6, {"010a00000000"}},  /* not ours */
    {16, DP_E_CHANNEL, 6, {"01f900000000"}},
    {17, DP_E_CHANNEL, 6, {"01fe00000000"}},
    {18, DP_E_CHANNEL, 6, {"030c010078"}},
    {19,
     DP_OK,
     0,
     {"040a28000000"
      "0000000000000000"
      "0000000000000000"}},
    {20,
     DP_E_CREDIT,
     7,
     {"040a28000000"
      "0100000000000000"
      "0000000000000000"}},
    {21,
     DP_E_CREDIT,
     7,
     {"040a28000000"
      "0000000000000000"
      "0100000000000000"}},
    {22,
     DP_OK,
     0,
     {"040d28000000"
      "0100000000000000"
      "0000000000000000"}}, /* closed flow */
    {23,
     DP_OK,
     0,
     {"04ff28000000"
      "0100000000000000"
      "0000000000000000"}},
    {24, DP_OK, 0, {"050102030405060708", "060102030405060708"}}, /* ping, pong */
    {25, DP_OK, 0, {"00", "00ffffffff"}},                         /* padding */
    {26, DP_E_SEGMENT, 6, {"0700"}},                              /* REKEY, not last */
    {27, DP_E_SEGMENT, 6, {"08010000"}},                          /* CLOSE, not last */
    {28, DP_E_SEGMENT, 6, {"01ff0200000000"}},                    /* control, not last */
    {29, DP_E_SEGMENT, 6, {"02ff02000a00000001007800"}},
    {30, DP_OK, 0, {"01ff02000000"}},
    {31, DP_OK, 0, {"02ff020000000400010078"}},         /* 262144 */
    {32, DP_E_DATAGRAM, 6, {"02ff020001000400010078"}}, /* 262145 */
    {33, DP_E_DATAGRAM, 6, {"03ff010078"}},
    {34, DP_E_DATAGRAM, 6, {"02ff02000a000000010078", "02ff02000a000000010078"}},
    {35, DP_E_DATAGRAM, 6, {"02ff02000a000000010078", "01ff02000000"}},
    {36, DP_E_DATAGRAM, 6, {"02ff020002000000010078", "03ff02007878"}},
    {37, DP_OK, 0, {"02ff020002000000010078", "03ff010078"}},
};

static size_t from_hex(uint8_t *out, size_t cap, const char *hex) {
    size_t len;
    CHECK(sodium_hex2bin(out, cap, hex, strlen(hex), NULL, &len, NULL) == 0);
    return len;
}

static void test_frames(void) {
    for (size_t i = 0; i < sizeof FRAMES / sizeof FRAMES[0]; i++) {
        uint8_t plain[64];
        int rc = DP_OK, id = FRAMES[i].id;
        open_default();
        pair_flow_both(&pair, 0, 40, DP_NORMAL);
        for (int f = 0; f < 2 && FRAMES[i].frames[f]; f++) {
            CHECK_ROW(id, rc == DP_OK && pair.side[1].on_wire == 0);
            pair_inject(&pair, 1, plain, from_hex(plain, sizeof plain, FRAMES[i].frames[f]));
            rc = pair_deliver(&pair, 1, PAIR_WIRE);
        }
        CHECK_ROW(id, rc == FRAMES[i].rc);
        dp_node_events_done(pair.side[0].node);
        pair.flow[0].handle[1] = 0; /* its application sent nothing: do not compare */
        pair_run(&pair);
        bool alive = rc == DP_OK;
        CHECK_ROW(id,
                  alive ? pair_state(&pair, 1) == DP_LINK_OPEN : ended(1, rc, FRAMES[i].reason));
        CHECK_ROW(id, alive ? pair_state(&pair, 0) == DP_LINK_OPEN
                            : ended(0, DP_E_CLOSED, FRAMES[i].reason));
        pair_free(&pair);
    }
}

/* What does not authenticate ends the link without a word. */
static void test_forged_frame(void) {
    open_default();
    pair_inject(&pair, 1, (const uint8_t *)"\0\0\0", 3);
    pair.side[1].wire[4] ^= 1;
    CHECK(pair_deliver(&pair, 1, PAIR_WIRE) == DP_E_AUTH);
    pair_gather(&pair, 1);
    CHECK(ended(1, DP_E_AUTH, 0) && pair_produce(&pair, 1, 0) == 0);
    pair_free(&pair);
}

/* --- control ---------------------------------------------------------------------------------------- */

static void test_control(void) {
    static uint8_t data[DP_CONTROL_MAX + 1];
    static const size_t LENGTHS[] = {1, 32762, 32763, DP_CONTROL_MAX};
    open_default();
    for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++) {
        CHECK(dp_link_control(pair.side[0].node, pair.side[0].link, 9, data, LENGTHS[i]) == DP_OK);
        pair_run(&pair);
        CHECK(pair.side[1].seen.control == 2 + i && pair.side[1].seen.control_len == LENGTHS[i]);
        CHECK(pair.side[1].seen.control_type == 9);
    }
    dp_node *node = pair.side[0].node;
    CHECK(dp_link_control(node, pair.side[0].link, 9, data, sizeof data) == DP_E_SIZE);
    unsigned queued = 0;
    while (dp_link_control(node, pair.side[0].link, 9, data, DP_CONTROL_MAX) == DP_OK)
        queued++;
    CHECK(queued == CONTROL_QUEUE_MAX / DP_CONTROL_MAX - 1);
    CHECK(dp_link_control(node, pair.side[0].link, 9, data, DP_CONTROL_MAX) == DP_E_LIMIT);
    pair_run(&pair);
    CHECK(pair.side[1].seen.control == 5 + queued);
    CHECK(dp_link_admit(node, pair.side[0].link, data, 1) == DP_E_STATE);
    pair_free(&pair);
}

/* Data for a flow that was closed with a tombstone is dropped until it is buried. */
static void test_tombstone(void) {
    uint8_t plain[64];
    const char *datagram = "010b0000010078";
    open_default();
    pair_flow_both(&pair, 0, 100, DP_NORMAL);
    CHECK(dp_flow_close(pair.side[1].node, pair.flow[0].handle[1], true) == DP_OK);
    CHECK(dp_flow_close(pair.side[1].node, pair.flow[0].handle[1], true) == DP_E_ARGUMENT);
    for (int i = 0; i < 3; i++) {
        pair_inject(&pair, 1, plain, from_hex(plain, sizeof plain, i ? "030b010078" : datagram));
        CHECK(pair_deliver(&pair, 1, PAIR_WIRE) == DP_OK);
    }
    CHECK(pair_stats(&pair, 1).datagrams_in == 0);
    CHECK(dp_flow_bury(pair.side[1].node, pair.side[1].link, DP_CHANNEL_COUNT) == DP_E_ARGUMENT);
    CHECK(dp_flow_bury(pair.side[1].node, pair.side[1].link, 0x0b) == DP_OK);
    pair_inject(&pair, 1, plain, from_hex(plain, sizeof plain, datagram));
    CHECK(pair_deliver(&pair, 1, PAIR_WIRE) == DP_E_CHANNEL);
    pair_free(&pair);
}

/* --- ends ------------------------------------------------------------------------------------------- */

static void test_close(void) {
    open_default();
    CHECK(dp_link_close(pair.side[0].node, pair.side[0].link, 0x1234) == DP_OK);
    CHECK(dp_link_close(pair.side[0].node, pair.side[0].link, 5) == DP_OK);
    pair_run(&pair);
    CHECK(ended(0, DP_OK, 0x1234) && ended(1, DP_E_CLOSED, 0x1234));
    CHECK(dp_link_close(pair.side[0].node, pair.side[0].link, 5) == DP_E_ARGUMENT);
    pair_free(&pair);
}

/* In the handshake there is nothing to say it with. */
static void test_close_early(void) {
    for (int message = 0; message < 2; message++) {
        int to = pair_shake(&pair, PAIR_XX, message);
        CHECK(dp_link_close(pair.side[to].node, pair.side[to].link, 5) == DP_OK);
        CHECK(pair_produce(&pair, to, 0) == 0);
        pair_gather(&pair, to);
        CHECK(ended(to, DP_OK, 5));
        pair_free(&pair);
    }
}

/* A peer that vanishes in mid-datagram: what came whole is delivered, the rest leaves no trace. */
static void test_vanish(void) {
    open_default();
    pair_flow_both(&pair, 0, 1 << 20, DP_NORMAL);
    CHECK(pair_send(&pair, 0, 0, 3, 100) && pair_send(&pair, 0, 0, 1, 500000));
    CHECK(pair_produce(&pair, 0, 0) > 0 && pair_deliver(&pair, 1, PAIR_WIRE) == DP_OK);
    CHECK(dp_link_end(pair.side[1].node, pair.side[1].link, DP_E_IO) == DP_OK);
    pair_gather(&pair, 1);
    CHECK(ended(1, DP_E_IO, 0) && pair.flow[0].lane[0].received == 3);
    pair_free(&pair);
}

/* --- time ------------------------------------------------------------------------------------------- */

/* One byte per second: the deadline is for the handshake in all. */
static void test_slow_handshake(void) {
    int to = pair_shake(&pair, PAIR_XX, 0);
    for (int second = 0; second < 9; second++) {
        pair.now_ms += 1000;
        CHECK(dp_node_tick(pair.side[to].node, pair.now_ms) == PAIR_START_MS + 10000);
        CHECK(pair_deliver(&pair, to, 1) == DP_OK);
    }
    pair.now_ms += 1000;
    CHECK(dp_node_tick(pair.side[to].node, pair.now_ms) == UINT64_MAX);
    pair_gather(&pair, to);
    CHECK(ended(to, DP_E_TIMEOUT, 9));
    pair_free(&pair);
}

/* READY, but the coordinator never answers: the same deadline. */
static void test_never_admitted(void) {
    CHECK(pair_shake(&pair, PAIR_XX, 2) == 1);
    CHECK(pair_deliver(&pair, 1, PAIR_WIRE) == DP_OK && pair_state(&pair, 1) == DP_LINK_READY);
    pair.now_ms += 10000;
    (void)dp_node_tick(pair.side[1].node, pair.now_ms);
    pair_run(&pair);
    CHECK(ended(1, DP_E_TIMEOUT, 9) && pair_stats(&pair, 1).handshakes_failed == 1);
    pair_free(&pair);
}

/* Quiet links ping and live; one whose peer is silent ends. */
static void test_keepalive(void) {
    open_default();
    for (int turn = 0; turn < 20; turn++) {
        pair.now_ms += 20000;
        for (int i = 0; i < 2; i++)
            CHECK(dp_node_tick(pair.side[i].node, pair.now_ms) == pair.now_ms + 20000);
        pair_run(&pair);
    }
    CHECK(pair_state(&pair, 0) == DP_LINK_OPEN && pair_state(&pair, 1) == DP_LINK_OPEN);
    for (int turn = 0; turn < 3; turn++) {
        pair.now_ms += 20000;
        (void)dp_node_tick(pair.side[0].node, pair.now_ms);
        (void)pair_produce(&pair, 0, 0);
    }
    pair_gather(&pair, 0);
    CHECK(pair.side[0].seen.down == 1 && pair.side[0].seen.status == DP_E_TIMEOUT);
    (void)pair_deliver(&pair, 1, PAIR_WIRE);
    pair_gather(&pair, 1);
    CHECK(ended(1, DP_E_CLOSED, 9));
    pair_free(&pair);
}

/* A close that nobody takes is given up. */
static void test_stuck_close(void) {
    open_default();
    CHECK(dp_link_close(pair.side[0].node, pair.side[0].link, 3) == DP_OK);
    CHECK(dp_node_tick(pair.side[0].node, pair.now_ms) == pair.now_ms + CLOSING_MS);
    CHECK(dp_node_tick(pair.side[0].node, pair.now_ms + CLOSING_MS) == UINT64_MAX);
    pair_gather(&pair, 0);
    CHECK(ended(0, DP_OK, 3));
    pair_free(&pair);
}

/* --- keys ------------------------------------------------------------------------------------------- */

/* Frames that datagrams fill to the last byte leave room for REKEY all the same. */
static void test_rekey_by_bytes(void) {
    struct dp_node_config config = pair_config();
    config.rekey_bytes = 100000;
    pair_open(&pair, &config);
    pair_flow_both(&pair, 0, 1 << 24, DP_BULK);
    for (int i = 0; i < 30; i++)
        CHECK(pair_send(&pair, 0, 0, 1, 2 * DP_FRAME_MAX - FIRST_HEADER - NEXT_HEADER));
    pair_run(&pair);
    CHECK(pair.flow[0].lane[0].received == 30 &&
          pair_link(&pair, 0)->ciphers[0].key_bytes < 140000);
    CHECK(pair_stats(&pair, 1).rekeys >= 10);
    pair_free(&pair);
}

/* By time; and when nothing but control datagrams passes, which end their frames too. */
static void test_rekey_by_time(void) {
    struct dp_node_config config = pair_config();
    config.rekey_ms = 5000;
    pair_open(&pair, &config);
    for (uint64_t turn = 1; turn < 5; turn++) {
        pair.now_ms += 5000;
        CHECK(dp_link_control(pair.side[0].node, pair.side[0].link, 3, (const uint8_t *)"x", 1) ==
              DP_OK);
        pair_run(&pair);
        CHECK(pair_stats(&pair, 1).rekeys == turn);
    }
    pair_free(&pair);
}

/* CLOSE ends its frame, so a renewal that is due waits for ever. */
static void test_close_when_rekey_is_due(void) {
    struct dp_node_config config = pair_config();
    config.rekey_bytes = 1;
    pair_open(&pair, &config);
    CHECK(dp_link_close(pair.side[0].node, pair.side[0].link, 3) == DP_OK);
    pair_run(&pair);
    CHECK(ended(0, DP_OK, 3) && ended(1, DP_E_CLOSED, 3));
    pair_free(&pair);
}

/* A peer that does not renew its key is told so. */
static void test_rekey_limit(void) {
    open_default();
    pair_link(&pair, 1)->ciphers[1].key_frames = FRAME_KEY_FRAMES_MAX;
    pair_inject(&pair, 1, (const uint8_t *)"", 1);
    CHECK(pair_deliver(&pair, 1, PAIR_WIRE) == DP_E_REKEY);
    pair_run(&pair);
    CHECK(ended(1, DP_E_REKEY, 6) && ended(0, DP_E_CLOSED, 6));
    pair_free(&pair);
}

int main(void) {
    test_exchange();
    test_split_everywhere();
    test_networks();
    test_frames();
    test_forged_frame();
    test_control();
    test_tombstone();
    test_close();
    test_close_early();
    test_vanish();
    test_slow_handshake();
    test_never_admitted();
    test_keepalive();
    test_stuck_close();
    test_rekey_by_bytes();
    test_rekey_by_time();
    test_close_when_rekey_is_due();
    test_rekey_limit();
    return check_report();
}
