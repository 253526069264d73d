/* Packets: sizes and headers, what a changed byte or a missing one leads to, whom they are for, and
 * sessions whose packets come in any order. */
#include <stdint.h>

#include "check.h"
#include "packet_pair.h"

static struct packet_pair pair;
static uint8_t packet[DP_PACKET_MAX], other[DP_PACKET_MAX], noise[DP_PACKET_MAX];
static const uint8_t NONCE[DP_PACKET_NONCE_LEN] = {1, 2, 3};
static const uint8_t COOKIE[DP_COOKIE_LEN] = {4, 5, 6};
static struct dp_packet header;

static void fill_noise(void) {
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(7 * i + 1);
}

/* Parse a copy, as the owner of `side`'s key; the copy stays in other[]. */
static int parse(int side, size_t len) {
    memcpy(other, packet, len);
    return dp_packet_parse(&header, pair.side[side].keys, other, len);
}

/* --- handshake messages ------------------------------------------------------------------------- */

static const struct {
    int row;
    int kind;
    size_t len; /* of the packet */
    int rc;
} SIZES[] = {
    {1, DP_PACKET_FIRST, DP_PACKET_FIRST_OVERHEAD, DP_E_SIZE},
    {2, DP_PACKET_FIRST, DP_PACKET_FIRST_MIN - 1, DP_E_SIZE},
    {3, DP_PACKET_FIRST, DP_PACKET_FIRST_MIN, DP_OK},
    {4, DP_PACKET_FIRST, 777, DP_OK},
    {5, DP_PACKET_FIRST, DP_PACKET_MAX, DP_OK},
    {6, DP_PACKET_FIRST, DP_PACKET_MAX + 1, DP_E_SIZE},
    {7, DP_PACKET_SECOND, DP_PACKET_SECOND_OVERHEAD + 47, DP_E_SIZE},
    {8, DP_PACKET_SECOND, DP_PACKET_SECOND_OVERHEAD + 48, DP_OK},
    {9, DP_PACKET_SECOND, DP_PACKET_ANSWER_MAX, DP_OK},
    {10, DP_PACKET_SECOND, DP_PACKET_ANSWER_MAX + 1, DP_E_SIZE},
};

static int build(int kind, size_t room, size_t len) {
    const uint8_t *keys = pair.side[1].keys;
    if (kind == DP_PACKET_FIRST)
        return dp_packet_first(packet, room, keys, NONCE, COOKIE, noise,
                               len - DP_PACKET_FIRST_OVERHEAD);
    return dp_packet_second(packet, room, keys, NONCE, 0x01020304, noise,
                            len - DP_PACKET_SECOND_OVERHEAD);
}

static void check_parsed(int row, int kind, size_t len) {
    CHECK_ROW(row, parse(1, len) == DP_OK && header.kind == kind);
    CHECK_ROW(row, header.payload + header.payload_len == len);
    CHECK_ROW(row, memcmp(other + header.payload, noise, header.payload_len) == 0);
    if (kind == DP_PACKET_FIRST)
        CHECK_ROW(row, memcmp(header.cookie, COOKIE, sizeof COOKIE) == 0);
    else
        CHECK_ROW(row, header.index == 0x01020304);
    /* nobody else reads it, nor is it anything to who sent it */
    CHECK_ROW(row, parse(0, len) != DP_OK);
}

static void test_sizes(void) {
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        int row = SIZES[i].row;
        CHECK_ROW(row, build(SIZES[i].kind, sizeof packet, SIZES[i].len) == SIZES[i].rc);
        if (SIZES[i].rc != DP_OK)
            continue;
        check_parsed(row, SIZES[i].kind, SIZES[i].len);
        CHECK_ROW(row, build(SIZES[i].kind, SIZES[i].len, SIZES[i].len) == DP_OK);
        CHECK_ROW(row, build(SIZES[i].kind, SIZES[i].len - 1, SIZES[i].len) == DP_E_SIZE);
    }
}

/* A message 1 that was changed anywhere, or cut or lengthened, is found out before any DH. */
static void test_first_is_checked(void) {
    enum { LEN = 400 };
    CHECK(build(DP_PACKET_FIRST, sizeof packet, LEN) == DP_OK);
    for (size_t at = 0; at < LEN; at++)
        for (int bit = 0; bit < 8; bit++) {
            packet[at] ^= (uint8_t)(1 << bit);
            /* of another kind it may seem, and then belongs to no session */
            CHECK(parse(1, LEN) != DP_OK || header.kind == DP_PACKET_SEALED);
            packet[at] ^= (uint8_t)(1 << bit);
        }
    for (size_t len = 0; len < LEN; len++)
        CHECK(parse(1, len) != DP_OK);
    CHECK(parse(1, LEN + 1) != DP_OK && parse(1, LEN) == DP_OK);
}

/* --- retry -------------------------------------------------------------------------------------- */

static void test_retry(void) {
    static const uint8_t E[DP_KEY_LEN] = {1}, E2[DP_KEY_LEN] = {2};
    enum { PADDING = 20, LEN = DP_PACKET_RETRY_OVERHEAD + PADDING };
    const uint8_t *keys = pair.side[1].keys;
    uint8_t cookie[DP_COOKIE_LEN] = {0};
    CHECK(dp_packet_retry(packet, LEN - 1, keys, E, NONCE, COOKIE, PADDING) == DP_E_SIZE);
    CHECK(dp_packet_retry(packet, sizeof packet, keys, E, NONCE, COOKIE,
                          DP_PACKET_ANSWER_MAX - DP_PACKET_RETRY_OVERHEAD + 1) == DP_E_SIZE);
    CHECK(dp_packet_retry(packet, LEN, keys, E, NONCE, COOKIE, PADDING) == DP_OK);
    CHECK(dp_packet_retry_open(cookie, keys, E2, packet, LEN) == DP_E_AUTH);
    CHECK(dp_packet_retry_open(cookie, pair.side[0].keys, E, packet, LEN) == DP_E_AUTH);
    for (size_t at = 0; at < LEN; at++) {
        packet[at] ^= 1;
        CHECK(dp_packet_retry_open(cookie, keys, E, packet, LEN) == DP_E_AUTH);
        packet[at] ^= 1;
        CHECK(dp_packet_retry_open(cookie, keys, E, packet, at) != DP_OK);
    }
    CHECK(cookie[0] == 0);
    CHECK(dp_packet_retry_open(cookie, keys, E, packet, LEN) == DP_OK);
    CHECK(memcmp(cookie, COOKIE, sizeof COOKIE) == 0);
}

/* --- sessions ----------------------------------------------------------------------------------- */

static void start(const char *provider) {
    packet_pair_keys(&pair, provider);
    packet_pair_shake(&pair);
    packet_pair_sessions(&pair);
}

static size_t seal(int from, size_t body_len, size_t padding) {
    size_t len = body_len + padding + DP_PACKET_SEALED_OVERHEAD;
    CHECK(dp_session_seal(pair.side[from].session, packet, len, NONCE, noise, body_len, padding) ==
          DP_OK);
    return len;
}

/* Give packet[] to side `to`. */
static int open_packet(int to, size_t len, size_t *body_len) {
    size_t body = 0;
    int rc = parse(to, len);
    if (rc != DP_OK)
        return rc;
    rc = dp_session_open(pair.side[to].session, &header, other, len, &body, body_len);
    if (rc == DP_OK)
        CHECK(memcmp(other + body, noise, *body_len) == 0);
    return rc;
}

static void test_session_sizes(void) {
    static const struct {
        int row;
        size_t body, padding;
        int rc;
    } ROWS[] = {
        {1, 0, 0, DP_OK},
        {2, 1, 0, DP_OK},
        {3, 0, 1, DP_OK},
        {4, 100, 77, DP_OK},
        {5, DP_PACKET_BODY_MAX, 0, DP_OK},
        {6, DP_PACKET_BODY_MAX - 1, 1, DP_OK},
        {7, 0, DP_PACKET_BODY_MAX, DP_OK},
        {8, DP_PACKET_BODY_MAX, 1, DP_E_SIZE},
        {9, 1, SIZE_MAX, DP_E_SIZE},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        size_t len = ROWS[i].body + ROWS[i].padding + DP_PACKET_SEALED_OVERHEAD, got = 0;
        CHECK_ROW(ROWS[i].row, dp_session_seal(pair.side[0].session, packet, sizeof packet, NONCE,
                                               noise, ROWS[i].body, ROWS[i].padding) == ROWS[i].rc);
        if (ROWS[i].rc == DP_OK) {
            CHECK_ROW(ROWS[i].row, open_packet(1, len, &got) == DP_OK && got == ROWS[i].body);
            CHECK_ROW(ROWS[i].row, header.index == 8);
        }
    }
    CHECK(dp_session_seal(pair.side[0].session, packet, DP_PACKET_SEALED_OVERHEAD, NONCE, noise, 1,
                          0) == DP_E_SIZE);
}

/* No changed byte, no missing one; and after all that the genuine packet, once. */
static void test_session_changes(void) {
    size_t len = seal(1, 30, 9), got = 0;
    for (size_t at = 0; at < len; at++)
        for (int bit = 0; bit < 8; bit++) {
            packet[at] ^= (uint8_t)(1 << bit);
            CHECK(open_packet(0, len, &got) != DP_OK);
            packet[at] ^= (uint8_t)(1 << bit);
        }
    for (size_t cut = 0; cut < len; cut++)
        CHECK(open_packet(0, cut, &got) != DP_OK);
    CHECK(open_packet(1, len, &got) != DP_OK); /* reflected */
    CHECK(open_packet(0, len, &got) == DP_OK && got == 30);
    CHECK(open_packet(0, len, &got) == DP_E_NONCE); /* repeated */
}

/* A header that does not belong to the packet. */
static void test_session_argument(void) {
    size_t len = seal(0, 5, 0), body = 0, got = 0;
    CHECK(parse(1, len) == DP_OK);
    header.payload_len++;
    CHECK(dp_session_open(pair.side[1].session, &header, other, len, &body, &got) == DP_E_ARGUMENT);
    header.payload_len--;
    header.kind = DP_PACKET_SECOND;
    CHECK(dp_session_open(pair.side[1].session, &header, other, len, &body, &got) == DP_E_ARGUMENT);
}

/* A counter past the last one is refused before it is looked at. */
static void test_session_end(void) {
    size_t len = seal(0, 5, 0), body = 0, got = 0;
    CHECK(parse(1, len) == DP_OK);
    header.counter = UINT64_C(1) << 32;
    CHECK(dp_session_open(pair.side[1].session, &header, other, len, &body, &got) == DP_E_NONCE);
    header.counter = UINT64_MAX;
    CHECK(dp_session_open(pair.side[1].session, &header, other, len, &body, &got) == DP_E_NONCE);
    CHECK(open_packet(1, len, &got) == DP_OK);
}

/* A packet that is late comes through while it is in the window. */
static void test_session_order(void) {
    static uint8_t late[3][DP_PACKET_SEALED_OVERHEAD];
    size_t got = 0;
    for (int i = 0; i < 3; i++) {
        seal(0, 0, 0);
        memcpy(late[i], packet, sizeof late[i]);
    }
    for (int i = 0; i < DP_REPLAY_WINDOW - 2; i++)
        CHECK(open_packet(1, seal(0, 0, 0), &got) == DP_OK);
    static const struct {
        int row, which, rc;
    } ROWS[] = {{1, 0, DP_E_NONCE}, {2, 2, DP_OK}, {3, 1, DP_OK}, {4, 2, DP_E_NONCE}};
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        memcpy(packet, late[ROWS[i].which], sizeof late[0]);
        CHECK_ROW(ROWS[i].row, open_packet(1, sizeof late[0], &got) == ROWS[i].rc);
    }
}

static void test_session_takes_keys_once(void) {
    dp_session *again = NULL;
    uint8_t out[64];
    dp_handshake *split = pair.side[0].handshake;
    CHECK(dp_session_new(&again, pair.sealer, split, pair.side[1].keys, 1) == DP_E_STATE);
    CHECK(again == NULL);
    CHECK(dp_handshake_seal(split, out, sizeof out, noise, 1) == DP_E_STATE);
    CHECK(dp_handshake_open(split, out, sizeof out, noise, 32) == DP_E_STATE);
    CHECK(dp_handshake_finished(split) && dp_handshake_overhead(split) == 0);
}

int main(void) {
    CHECK(dp_init() == DP_OK);
    fill_noise();
    const char *name;
    for (size_t i = 0; (name = dp_aead_provider(i)) != NULL; i++) {
        start(name);
        test_sizes();
        test_first_is_checked();
        test_retry();
        test_session_sizes();
        test_session_changes();
        test_session_argument();
        test_session_end();
        test_session_order();
        test_session_takes_keys_once();
        packet_pair_free(&pair);
    }
    dp_sealer *none = NULL;
    CHECK(dp_sealer_new(&none, "no such thing") == DP_E_PROVIDER && none == NULL);
    return check_report();
}
