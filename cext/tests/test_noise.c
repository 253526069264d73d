/* Handshakes: what a refused message leaves behind, which keys are refused, whose turn it is. That
 * the bytes are Noise's is for tests/vectors to show. */
#include <sodium.h>
#include <string.h>

#include "check.h"
#include "dp2p_identity.h"
#include "noise_pair.h"

enum { ROOM = 70000, PAYLOAD_LEN = 11 };

static const uint8_t PAYLOAD[PAYLOAD_LEN] = "hello there";
static struct aead *aead;
static uint8_t message[ROOM], reply[ROOM], payload[ROOM];

static int all_equal(const uint8_t *bytes, size_t len, uint8_t value) {
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != value)
            return 0;
    return 1;
}

static void start(struct noise_pair *pair, enum dp_pattern pattern) {
    noise_pair_keys(pair, pattern, aead);
    CHECK(noise_pair_start(pair));
}

/* Write the next message of whoever's turn it is; its length. */
static size_t write_next(struct noise_pair *pair, uint8_t *out) {
    size_t len = 0;
    struct handshake *hs = &pair->side[noise_pair_writer(pair)].hs;
    size_t overhead = handshake_overhead(hs);
    CHECK(handshake_write(hs, out, ROOM, &len, PAYLOAD, PAYLOAD_LEN) == DP_OK);
    CHECK(len == PAYLOAD_LEN + overhead);
    return len;
}

/* The good message must be accepted, whatever was refused before it. */
static void read_good(struct handshake *hs, const uint8_t *in, size_t len) {
    size_t got = 0;
    CHECK(handshake_read(hs, payload, ROOM, &got, in, len) == DP_OK);
    CHECK(got == PAYLOAD_LEN && memcmp(payload, PAYLOAD, PAYLOAD_LEN) == 0);
}

static void pass_message(struct noise_pair *pair) {
    struct handshake *reader = &pair->side[1 - noise_pair_writer(pair)].hs;
    size_t len = write_next(pair, message);
    read_good(reader, message, len);
}

/* `in` must be refused with one of the two codes, and the whole handshake be as it was. */
static void check_refused(struct handshake *hs, const uint8_t *in, size_t len, int code,
                          int or_code) {
    struct handshake before = *hs;
    size_t got = 777;
    int rc = handshake_read(hs, payload, ROOM, &got, in, len);
    CHECK(rc == code || rc == or_code);
    CHECK(memcmp(&before, hs, sizeof before) == 0);
    CHECK(got == 777);
}

/* --- whole handshakes ----------------------------------------------------------------------------- */

static void check_transport(struct cipher_state *tx, struct cipher_state *rx) {
    size_t len = PAYLOAD_LEN + DP_TAG_LEN;
    CHECK(cipher_seal(tx, aead, NULL, 0, message, PAYLOAD, PAYLOAD_LEN) == DP_OK);
    CHECK(cipher_open(rx, aead, NULL, 0, payload, message, len) == DP_OK);
    CHECK(memcmp(payload, PAYLOAD, PAYLOAD_LEN) == 0);
}

static void finish(struct noise_pair *pair) {
    struct cipher_state tx[2], rx[2];
    uint8_t hash[2][DP_HASH_LEN], secret[2][DP_KEY_LEN];
    while (!handshake_finished(&pair->side[INITIATOR].hs))
        pass_message(pair);
    for (int i = 0; i < 2; i++) {
        CHECK(handshake_overhead(&pair->side[i].hs) == 0);
        CHECK(handshake_split(&pair->side[i].hs, &tx[i], &rx[i], hash[i], secret[i]) == DP_OK);
        CHECK(all_equal((const uint8_t *)&pair->side[i].hs, sizeof pair->side[i].hs, 0));
    }
    CHECK(memcmp(hash[0], hash[1], DP_HASH_LEN) == 0);
    CHECK(memcmp(tx[0].k, tx[1].k, DP_KEY_LEN) != 0);
    CHECK(memcmp(secret[0], secret[1], DP_KEY_LEN) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(memcmp(secret[0], tx[i].k, DP_KEY_LEN) != 0);
    check_transport(&tx[0], &rx[1]);
    check_transport(&tx[1], &rx[0]);
}

static const struct {
    int row;
    enum dp_pattern pattern;
    uint8_t messages;
    bool statics; /* each side learns the other's static key */
} PATTERNS[] = {
    {1, DP_PATTERN_XX, 3, true},
    {2, DP_PATTERN_IK, 2, true},
    {3, DP_PATTERN_NNPSK0, 2, false},
};

enum { PATTERN_ROWS = sizeof PATTERNS / sizeof PATTERNS[0] };

static void test_patterns(void) {
    for (int i = 0; i < PATTERN_ROWS; i++) {
        struct noise_pair pair;
        start(&pair, PATTERNS[i].pattern);
        for (uint8_t m = 0; m < PATTERNS[i].messages; m++)
            pass_message(&pair);
        for (int side = 0; side < 2; side++) {
            struct handshake *hs = &pair.side[side].hs;
            CHECK_ROW(PATTERNS[i].row, handshake_finished(hs));
            CHECK_ROW(PATTERNS[i].row, hs->has_s == PATTERNS[i].statics);
            CHECK_ROW(PATTERNS[i].row, hs->has_rs == PATTERNS[i].statics);
            if (PATTERNS[i].statics)
                CHECK_ROW(PATTERNS[i].row,
                          memcmp(hs->rs, pair.side[1 - side].spk, DP_KEY_LEN) == 0);
        }
        finish(&pair);
    }
}

/* A static public key that is handed over gives the same bytes as one that is derived. */
static void test_static_public_key(void) {
    struct noise_pair given, derived;
    start(&given, DP_PATTERN_IK);
    noise_pair_keys(&derived, DP_PATTERN_IK, aead);
    derived.side[INITIATOR].config.spk = NULL;
    derived.side[RESPONDER].config.spk = NULL;
    CHECK(noise_pair_start(&derived));
    size_t len = write_next(&given, message);
    CHECK(write_next(&derived, reply) == len && memcmp(message, reply, len) == 0);
    read_good(&derived.side[RESPONDER].hs, message, len);
}

/* --- refused messages ------------------------------------------------------------------------------- */

static void check_truncations(struct handshake *hs, size_t len) {
    size_t least = handshake_overhead(hs);
    for (size_t cut = 0; cut < least; cut++)
        check_refused(hs, message, cut, DP_E_SIZE, DP_E_SIZE);
    if (hs->pattern == DP_PATTERN_XX && hs->message == 0)
        return; /* its payload has no tag: the next message's tag covers it */
    for (size_t cut = least; cut < len; cut++)
        check_refused(hs, message, cut, DP_E_AUTH, DP_E_AUTH);
}

static void check_bit_flips(struct handshake *hs, size_t len) {
    if (hs->pattern == DP_PATTERN_XX && hs->message == 0)
        return; /* test_unkeyed_message */
    for (size_t bit = 0; bit < len * 8; bit++) {
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check_refused(hs, message, len, DP_E_AUTH, DP_E_KEY);
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Every cut and every flipped bit of every message is refused without a trace; then the message
 * itself is accepted. */
static void test_refused_messages(void) {
    for (int i = 0; i < PATTERN_ROWS; i++) {
        struct noise_pair pair;
        start(&pair, PATTERNS[i].pattern);
        while (!handshake_finished(&pair.side[INITIATOR].hs)) {
            struct handshake *reader = &pair.side[1 - noise_pair_writer(&pair)].hs;
            size_t len = write_next(&pair, message);
            check_truncations(reader, len);
            check_bit_flips(reader, len);
            check_refused(reader, message, 65536, DP_E_SIZE, DP_E_SIZE);
            read_good(reader, message, len);
        }
        finish(&pair);
    }
}

/* The responder gets message[len], which differs from what was sent; the initiator refuses the
 * answer, unless the responder refused already. */
static void check_answer_refused(const struct noise_pair *before, size_t len) {
    struct noise_pair pair = *before;
    struct handshake *responder = &pair.side[RESPONDER].hs;
    size_t got;
    int rc = handshake_read(responder, payload, ROOM, &got, message, len);
    CHECK(rc == DP_OK || (rc == DP_E_SIZE && len < DP_KEY_LEN));
    if (rc != DP_OK)
        return;
    rc = handshake_write(responder, reply, ROOM, &got, PAYLOAD, PAYLOAD_LEN);
    CHECK(rc == DP_OK || rc == DP_E_KEY);
    if (rc == DP_OK)
        check_refused(&pair.side[INITIATOR].hs, reply, got, DP_E_AUTH, DP_E_AUTH);
}

/* XX's first message carries no tag: a change in it is refused one message later. */
static void test_unkeyed_message(void) {
    struct noise_pair pair;
    start(&pair, DP_PATTERN_XX);
    size_t len = write_next(&pair, message);
    for (size_t bit = 0; bit < len * 8; bit++) {
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check_answer_refused(&pair, len);
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++)
        check_answer_refused(&pair, cut);
    read_good(&pair.side[RESPONDER].hs, message, len);
    finish(&pair);
}

/* Different prologues, or a different psk: the first message with a tag is refused. */
static void test_disagreement(void) {
    struct noise_pair pair;
    uint8_t other[DP_KEY_LEN] = {1};
    for (int i = 0; i < PATTERN_ROWS; i++) {
        noise_pair_keys(&pair, PATTERNS[i].pattern, aead);
        pair.side[RESPONDER].config.prologue = (const uint8_t *)"Prologue";
        CHECK(noise_pair_start(&pair));
        if (PATTERNS[i].pattern == DP_PATTERN_XX)
            pass_message(&pair);
        int writer = noise_pair_writer(&pair);
        size_t len = write_next(&pair, message);
        check_refused(&pair.side[1 - writer].hs, message, len, DP_E_AUTH, DP_E_AUTH);
    }
    noise_pair_keys(&pair, DP_PATTERN_NNPSK0, aead);
    pair.side[RESPONDER].config.psk = other;
    CHECK(noise_pair_start(&pair));
    size_t len = write_next(&pair, message);
    check_refused(&pair.side[RESPONDER].hs, message, len, DP_E_AUTH, DP_E_AUTH);
}

/* --- low-order public keys ---------------------------------------------------------------------------- */

/* All points whose order divides 8, in every form that 255 bits can write them. */
static const char *const LOW_ORDER[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

/* Whose key is of low order (in which message, which field) and who meets it in which token. */
enum culprit { THEIR_E, THEIR_S };

static const struct {
    int row;
    enum dp_pattern pattern;
    int peer;             /* the side with the bad key */
    enum culprit culprit; /* its ephemeral, put into `message`; or its static key */
    uint8_t at;           /* the message that carries it, or that is first computed with it */
    bool in_write;        /* met when the other side writes the message after it */
} LOW_ROWS[] = {
    {1, DP_PATTERN_XX, INITIATOR, THEIR_E, 0, true},      /* ee by the responder */
    {2, DP_PATTERN_XX, RESPONDER, THEIR_E, 1, false},     /* ee by the initiator */
    {3, DP_PATTERN_XX, RESPONDER, THEIR_S, 1, false},     /* es by the initiator */
    {4, DP_PATTERN_XX, INITIATOR, THEIR_S, 2, false},     /* se by the responder */
    {5, DP_PATTERN_IK, INITIATOR, THEIR_E, 0, false},     /* es by the responder */
    {6, DP_PATTERN_IK, INITIATOR, THEIR_S, 0, false},     /* ss by the responder */
    {7, DP_PATTERN_IK, RESPONDER, THEIR_E, 1, false},     /* ee by the initiator */
    {8, DP_PATTERN_NNPSK0, RESPONDER, THEIR_E, 1, false}, /* ee by the initiator */
};

static void check_write_refused(struct handshake *hs, int row) {
    struct handshake before = *hs;
    size_t got = 777, total = handshake_overhead(hs) + PAYLOAD_LEN;
    memset(reply, 0xaa, total + 1);
    CHECK_ROW(row, handshake_write(hs, reply, ROOM, &got, PAYLOAD, PAYLOAD_LEN) == DP_E_KEY);
    CHECK_ROW(row, memcmp(&before, hs, sizeof before) == 0 && got == 777);
    CHECK_ROW(row, all_equal(reply, total, 0) && reply[total] == 0xaa);
}

static void check_low_order(int index, const uint8_t low[DP_KEY_LEN]) {
    struct noise_pair pair;
    size_t len = 0;
    noise_pair_keys(&pair, LOW_ROWS[index].pattern, aead);
    struct noise_side *bad = &pair.side[LOW_ROWS[index].peer];
    struct handshake *victim = &pair.side[1 - LOW_ROWS[index].peer].hs;
    if (LOW_ROWS[index].culprit == THEIR_S)
        bad->config.spk = low;
    CHECK(noise_pair_start(&pair));
    for (uint8_t m = 0; m < LOW_ROWS[index].at; m++)
        pass_message(&pair);
    len = write_next(&pair, message);
    if (LOW_ROWS[index].culprit == THEIR_E)
        memcpy(message, low, DP_KEY_LEN);
    if (!LOW_ROWS[index].in_write) {
        check_refused(victim, message, len, DP_E_KEY, DP_E_KEY);
        return;
    }
    read_good(victim, message, len);
    check_write_refused(victim, LOW_ROWS[index].row);
}

/* The responder's static key, known beforehand to IK's initiator, and XXfallback's ephemeral. */
static void check_low_order_known(const uint8_t low[DP_KEY_LEN]) {
    struct noise_pair pair;
    noise_pair_keys(&pair, DP_PATTERN_IK, aead);
    pair.side[INITIATOR].config.rs = low;
    CHECK(noise_pair_start(&pair));
    check_write_refused(&pair.side[INITIATOR].hs, 9);
    struct noise_side *responder = &pair.side[RESPONDER];
    CHECK(handshake_fallback(&responder->hs, &responder->config, low) == DP_OK);
    check_write_refused(&responder->hs, 10);
}

static void test_low_order(void) {
    uint8_t low[DP_KEY_LEN];
    for (size_t i = 0; i < 2 * (sizeof LOW_ORDER / sizeof LOW_ORDER[0]); i++) {
        CHECK(sodium_hex2bin(low, sizeof low, LOW_ORDER[i / 2], 64, NULL, NULL, NULL) == 0);
        low[31] |= (uint8_t)(i % 2 << 7); /* X25519 ignores the topmost bit */
        for (int row = 0; row < (int)(sizeof LOW_ROWS / sizeof LOW_ROWS[0]); row++)
            check_low_order(row, low);
        check_low_order_known(low);
    }
}

/* --- turns, sizes, configurations -------------------------------------------------------------------- */

static void check_only(struct handshake *hs, bool may_write, bool may_read) {
    struct handshake before = *hs;
    struct cipher_state tx, rx;
    uint8_t hash[DP_HASH_LEN];
    size_t got;
    CHECK(handshake_our_turn(hs) == may_write);
    if (!may_write)
        CHECK(handshake_write(hs, reply, ROOM, &got, NULL, 0) == DP_E_STATE);
    if (!may_read)
        CHECK(handshake_read(hs, payload, ROOM, &got, message, 200) == DP_E_STATE);
    if (!handshake_finished(hs))
        CHECK(handshake_split(hs, &tx, &rx, hash, NULL) == DP_E_STATE);
    CHECK(memcmp(&before, hs, sizeof before) == 0);
}

static void test_turns(void) {
    for (int i = 0; i < PATTERN_ROWS; i++) {
        struct noise_pair pair;
        start(&pair, PATTERNS[i].pattern);
        for (uint8_t m = 0; m < PATTERNS[i].messages; m++) {
            int writer = m % 2;
            check_only(&pair.side[writer].hs, true, false);
            check_only(&pair.side[1 - writer].hs, false, true);
            pass_message(&pair);
        }
        check_only(&pair.side[INITIATOR].hs, false, false);
        check_only(&pair.side[RESPONDER].hs, false, false);
    }
}

static void test_capacities(void) {
    struct noise_pair pair;
    size_t got = 0;
    start(&pair, DP_PATTERN_IK);
    struct handshake *tx = &pair.side[INITIATOR].hs, *rx = &pair.side[RESPONDER].hs, before = *tx;
    size_t overhead = handshake_overhead(tx), longest = 65535 - overhead;
    CHECK(overhead == 96);
    CHECK(handshake_write(tx, message, overhead + 4, &got, PAYLOAD, 5) == DP_E_SIZE);
    CHECK(handshake_write(tx, message, ROOM, &got, reply, longest + 1) == DP_E_SIZE);
    CHECK(handshake_write(tx, message, ROOM, &got, reply, SIZE_MAX) == DP_E_SIZE);
    CHECK(memcmp(&before, tx, sizeof before) == 0 && got == 0);
    CHECK(handshake_write(tx, message, 65535, &got, reply, longest) == DP_OK && got == 65535);
    CHECK(handshake_read(rx, payload, longest - 1, &got, message, 65535) == DP_E_SIZE);
    CHECK(handshake_read(rx, payload, longest, &got, message, 65535) == DP_OK && got == longest);
    CHECK(memcmp(payload, reply, longest) == 0);
    CHECK(handshake_write(rx, message, ROOM, &got, NULL, 0) == DP_OK && got == 48);
    CHECK(handshake_read(tx, NULL, 0, &got, message, 48) == DP_OK && got == 0);
}

/* What each side's configuration may not lack. */
static const struct {
    int row;
    enum dp_pattern pattern;
    int side;
    char lacks; /* s, r(s), p(sk), a(ead), x (random source), - nothing */
    int status;
} CONFIG_ROWS[] = {
    {1, DP_PATTERN_XX, INITIATOR, 's', DP_E_ARGUMENT},
    {2, DP_PATTERN_XX, RESPONDER, 's', DP_E_ARGUMENT},
    {3, DP_PATTERN_XX, INITIATOR, 'r', DP_OK},
    {4, DP_PATTERN_XX, INITIATOR, 'p', DP_OK},
    {5, DP_PATTERN_IK, INITIATOR, 's', DP_E_ARGUMENT},
    {6, DP_PATTERN_IK, RESPONDER, 's', DP_E_ARGUMENT},
    {7, DP_PATTERN_IK, INITIATOR, 'r', DP_E_ARGUMENT},
    {8, DP_PATTERN_IK, RESPONDER, 'r', DP_OK},
    {9, DP_PATTERN_NNPSK0, INITIATOR, 's', DP_OK},
    {10, DP_PATTERN_NNPSK0, INITIATOR, 'p', DP_E_ARGUMENT},
    {11, DP_PATTERN_NNPSK0, RESPONDER, 'p', DP_E_ARGUMENT},
    {12, DP_PATTERN_XX, INITIATOR, 'a', DP_E_ARGUMENT},
    {13, DP_PATTERN_XX, INITIATOR, 'x', DP_E_ARGUMENT},
    {14, DP_PATTERN_XXFALLBACK, INITIATOR, '-', DP_E_ARGUMENT},
    {15, DP_PATTERN_XXFALLBACK, RESPONDER, '-', DP_E_ARGUMENT},
    {16, DP_PATTERN_COUNT, INITIATOR, '-', DP_E_ARGUMENT},
};

static void remove_from(struct handshake_config *config, char what) {
    if (what == 's')
        config->s = NULL;
    if (what == 'r')
        config->rs = NULL;
    if (what == 'p')
        config->psk = NULL;
    if (what == 'a')
        config->aead = NULL;
    if (what == 'x')
        config->random = NULL;
}

static void test_configurations(void) {
    for (size_t i = 0; i < sizeof CONFIG_ROWS / sizeof CONFIG_ROWS[0]; i++) {
        struct noise_pair pair;
        struct handshake hs;
        noise_pair_keys(&pair, CONFIG_ROWS[i].pattern, aead);
        struct handshake_config *config = &pair.side[CONFIG_ROWS[i].side].config;
        remove_from(config, CONFIG_ROWS[i].lacks);
        memset(&hs, 0xaa, sizeof hs);
        CHECK_ROW(CONFIG_ROWS[i].row, handshake_start(&hs, config) == CONFIG_ROWS[i].status);
        if (CONFIG_ROWS[i].status != DP_OK)
            CHECK_ROW(CONFIG_ROWS[i].row, all_equal((uint8_t *)&hs, sizeof hs, 0xaa));
    }
}

/* --- fallback ------------------------------------------------------------------------------------------ */

static int fall_back(struct noise_side *side, const uint8_t *re) {
    struct handshake before = side->hs;
    int rc = handshake_fallback(&side->hs, &side->config, re);
    if (rc != DP_OK)
        CHECK(memcmp(&before, &side->hs, sizeof before) == 0);
    return rc;
}

/* The responder has another key than the one asked for, or has lost the ticket. */
static void test_fallback(enum dp_pattern pattern) {
    struct noise_pair pair;
    uint8_t other[DP_KEY_LEN] = {7}, other_public[DP_KEY_LEN];
    struct noise_side *initiator = &pair.side[INITIATOR], *responder = &pair.side[RESPONDER];
    noise_pair_keys(&pair, pattern, aead);
    crypto_scalarmult_base(other_public, other);
    initiator->config.rs = other_public;
    responder->config.psk = other;
    CHECK(noise_pair_start(&pair));
    CHECK(fall_back(initiator, NULL) == DP_E_STATE);
    size_t len = write_next(&pair, message);
    check_refused(&responder->hs, message, len, DP_E_AUTH, DP_E_AUTH);
    CHECK(fall_back(responder, NULL) == DP_E_ARGUMENT);
    CHECK(fall_back(responder, message) == DP_OK);
    CHECK(fall_back(initiator, NULL) == DP_OK);
    CHECK(fall_back(initiator, NULL) == DP_E_STATE);
    CHECK(fall_back(responder, message) == DP_E_STATE);
    CHECK(!initiator->hs.has_rs && !initiator->hs.has_psk);
    for (int m = 0; m < 2; m++) {
        int writer = noise_pair_writer(&pair);
        CHECK(writer == (m == 0 ? RESPONDER : INITIATOR));
        len = write_next(&pair, message);
        check_truncations(&pair.side[1 - writer].hs, len);
        check_bit_flips(&pair.side[1 - writer].hs, len);
        read_good(&pair.side[1 - writer].hs, message, len);
    }
    CHECK(memcmp(initiator->hs.rs, responder->spk, DP_KEY_LEN) == 0);
    CHECK(memcmp(responder->hs.rs, initiator->spk, DP_KEY_LEN) == 0);
    finish(&pair);
}

/* The first message was fine, what it carried was not: the responder need not pass its start. */
static void test_fallback_after_read(void) {
    struct noise_pair pair;
    start(&pair, DP_PATTERN_NNPSK0);
    pass_message(&pair);
    CHECK(fall_back(&pair.side[RESPONDER], NULL) == DP_OK);
    CHECK(fall_back(&pair.side[INITIATOR], NULL) == DP_OK);
    finish(&pair);
}

static void test_fallback_refused(void) {
    struct noise_pair pair;
    start(&pair, DP_PATTERN_XX);
    CHECK(fall_back(&pair.side[RESPONDER], message) == DP_E_STATE);
    pass_message(&pair);
    CHECK(fall_back(&pair.side[INITIATOR], NULL) == DP_E_STATE);
    start(&pair, DP_PATTERN_IK);
    pass_message(&pair);
    pass_message(&pair);
    CHECK(fall_back(&pair.side[INITIATOR], NULL) == DP_E_STATE);
    CHECK(fall_back(&pair.side[RESPONDER], NULL) == DP_E_STATE);
}

int main(void) {
    CHECK(dp_init() == DP_OK);
    for (size_t i = 0; dp_aead_provider(i) != NULL; i++) {
        CHECK(aead_new(&aead, dp_aead_provider(i)) == DP_OK);
        test_patterns();
        test_static_public_key();
        test_refused_messages();
        test_unkeyed_message();
        test_disagreement();
        test_low_order();
        test_turns();
        test_capacities();
        test_configurations();
        test_fallback(DP_PATTERN_IK);
        test_fallback(DP_PATTERN_NNPSK0);
        test_fallback_after_read();
        test_fallback_refused();
        aead_free(aead);
    }
    return check_report();
}
