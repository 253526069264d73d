/* Frames: sizes, masks, what a changed wire leads to, renewal of keys and the limits on their use. */
#include <string.h>

#include "bytes.h"
#include "check.h"
#include "dp2p_identity.h"
#include "frame.h"

static struct aead *aead;
static struct frame_cipher tx, rx;
static uint8_t wire[FRAME_WIRE_MAX], other[FRAME_WIRE_MAX], plain[DP_FRAME_MAX];

static void start(void) {
    static const uint8_t KEY[DP_KEY_LEN] = {1, 2, 3};
    struct cipher_state cipher;
    cipher_init(&cipher, KEY);
    CHECK(frame_init(&tx, &cipher, 10) == DP_OK && frame_init(&rx, &cipher, 10) == DP_OK);
}

/* The frame of plain[len] at `out`. */
static void seal(uint8_t *out, size_t len) {
    memcpy(out + FRAME_HEADER, plain, len);
    CHECK(frame_seal(&tx, aead, out, len, NULL, 0) == DP_OK);
}

/* Open the frame at `in`, of `expected` bytes of plaintext. */
static int open_frame(uint8_t *in, size_t expected) {
    size_t wire_len = 0, len = 0;
    int rc = frame_peek(&rx, in, &wire_len);
    if (rc != DP_OK)
        return rc;
    if (wire_len != FRAME_OVERHEAD + expected)
        return DP_E_FRAME;
    rc = frame_open(&rx, aead, in + FRAME_HEADER, in, wire_len, &len);
    if (rc != DP_OK)
        return rc;
    return len == expected && memcmp(in + FRAME_HEADER, plain, len) == 0 ? DP_OK : DP_E_FRAME;
}

/* --- sizes ---------------------------------------------------------------------------------------- */

static void test_sizes(void) {
    static const struct {
        int id;
        size_t len;
        int rc;
    } ROWS[] = {
        {1, 0, DP_E_SIZE},
        {2, 1, DP_OK},
        {3, 2, DP_OK},
        {4, DP_FRAME_MAX - 1, DP_OK},
        {5, DP_FRAME_MAX, DP_OK},
        {6, DP_FRAME_MAX + 1, DP_E_SIZE},
        {7, SIZE_MAX, DP_E_SIZE},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        start();
        struct frame_cipher before = tx;
        if (ROWS[i].len <= DP_FRAME_MAX)
            memcpy(wire + FRAME_HEADER, plain, ROWS[i].len);
        CHECK_ROW(ROWS[i].id, frame_seal(&tx, aead, wire, ROWS[i].len, NULL, 0) == ROWS[i].rc);
        if (ROWS[i].rc == DP_OK)
            CHECK_ROW(ROWS[i].id, open_frame(wire, ROWS[i].len) == DP_OK);
        else
            CHECK_ROW(ROWS[i].id, memcmp(&before, &tx, sizeof tx) == 0);
    }
}

/* Plaintext in two places makes the same frame as in one. */
static void test_tail(void) {
    static const size_t LEN = DP_FRAME_MAX;
    static const size_t TAILS[] = {1, 15, 16, 63, 64, 65, 4096, DP_FRAME_MAX - 4, DP_FRAME_MAX};
    for (size_t i = 0; i < sizeof TAILS / sizeof TAILS[0]; i++) {
        size_t head = LEN - TAILS[i];
        start();
        seal(wire, LEN);
        start();
        memset(other, 0xee, sizeof other);
        memcpy(other + FRAME_HEADER, plain, head);
        CHECK(frame_seal(&tx, aead, other, LEN, plain + head, TAILS[i]) == DP_OK);
        CHECK(memcmp(wire, other, FRAME_OVERHEAD + LEN) == 0);
        CHECK(open_frame(other, LEN) == DP_OK && tx.key_bytes == LEN && tx.cipher.n == 1);
    }
    struct frame_cipher before = tx;
    CHECK(frame_seal(&tx, aead, other, 5, plain, 6) == DP_E_SIZE);
    tx.cipher.has_key = false;
    CHECK(frame_seal(&tx, aead, other, 5, plain, 5) == DP_E_STATE);
    tx.cipher.has_key = true;
    CHECK(memcmp(&before, &tx, sizeof tx) == 0);
    tx.cipher.n = UINT64_MAX;
    CHECK(frame_seal(&tx, aead, other, 5, plain, 5) == DP_E_NONCE &&
          tx.key_bytes == before.key_bytes);
}

/* All 65536 headers: exactly those whose unmasked length a frame can have. */
static void test_peek(void) {
    uint8_t header[FRAME_HEADER];
    size_t accepted = 0;
    start();
    for (uint32_t h = 0; h < 65536; h++) {
        size_t wire_len = 0;
        store16(header, (uint16_t)h);
        int rc = frame_peek(&rx, header, &wire_len);
        CHECK(rc == DP_E_FRAME ? wire_len == 0
                               : wire_len > FRAME_OVERHEAD && wire_len <= FRAME_WIRE_MAX);
        accepted += rc == DP_OK;
    }
    CHECK(accepted == DP_FRAME_MAX && rx.cipher.n == 0);
}

/* --- changed wires ------------------------------------------------------------------------------- */

static void test_bit_flips(void) {
    enum { LEN = 40 };
    start();
    seal(wire, LEN);
    for (size_t bit = 0; bit < 8 * (FRAME_OVERHEAD + LEN); bit++) {
        struct frame_cipher before = rx;
        memcpy(other, wire, sizeof wire);
        other[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(open_frame(other, LEN) != DP_OK);
        CHECK(memcmp(before.cipher.k, rx.cipher.k, DP_KEY_LEN) == 0);
        CHECK(rx.cipher.n == 0 && rx.key_frames == 0 && rx.key_bytes == 0);
    }
    CHECK(open_frame(wire, LEN) == DP_OK && rx.key_frames == 1 && rx.key_bytes == LEN);
}

/* A flipped length that is still a frame's takes the tag from elsewhere. */
static void test_wrong_length(void) {
    size_t len;
    start();
    seal(wire, 100);
    seal(wire + FRAME_OVERHEAD + 100, 100);
    for (size_t wire_len = FRAME_OVERHEAD + 1; wire_len < 2 * (FRAME_OVERHEAD + 100); wire_len++) {
        memcpy(other, wire, sizeof wire);
        int rc = frame_open(&rx, aead, other + FRAME_HEADER, other, wire_len, &len);
        CHECK((rc == DP_OK) == (wire_len == FRAME_OVERHEAD + 100));
        if (rc == DP_OK)
            start();
        else
            CHECK(rc == DP_E_AUTH);
    }
}

/* Deliver frames in `order` (by digits); only as sent are they taken. */
static void test_order(void) {
    enum { FRAMES = 3, LEN = 50, SIZE = FRAME_OVERHEAD + LEN };
    static const struct {
        int id;
        const char *order;
        size_t taken;
    } ROWS[] = {
        {1, "012", 3},  {2, "021", 1}, {3, "102", 0}, {4, "001", 1},
        {5, "0112", 2}, {6, "02", 1},  {7, "12", 0},  {8, "0120", 3},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        size_t taken = 0;
        start();
        for (size_t f = 0; f < FRAMES; f++)
            seal(wire + f * SIZE, LEN);
        for (const char *at = ROWS[i].order; *at; at++, taken++) {
            memcpy(other, wire + (size_t)(*at - '0') * SIZE, SIZE);
            if (open_frame(other, LEN) != DP_OK)
                break;
        }
        CHECK_ROW(ROWS[i].id, taken == ROWS[i].taken);
    }
}

/* --- masks ---------------------------------------------------------------------------------------- */

/* Across three blocks of masks: equal lengths look different, and both sides stay together. */
static void test_masks(void) {
    enum { FRAMES = 3 * MASKS_PER_BLOCK + 2 };
    uint16_t seen[FRAMES];
    size_t equal = 0;
    start();
    for (size_t n = 0; n < FRAMES; n++) {
        seal(wire, 7);
        seen[n] = load16(wire);
        CHECK(tx.mask_block == n / MASKS_PER_BLOCK);
        for (size_t i = 0; i < n; i++)
            equal += seen[i] == seen[n];
        CHECK(open_frame(wire, 7) == DP_OK && rx.mask_block == n / MASKS_PER_BLOCK);
    }
    CHECK(equal <= 3); /* of 4753 pairs; by chance 0.07 */
}

/* Peeking at a boundary again and again changes nothing. */
static void test_mask_boundary(void) {
    size_t wire_len;
    start();
    for (size_t n = 0; n < MASKS_PER_BLOCK; n++) {
        seal(wire, 1);
        CHECK(open_frame(wire, 1) == DP_OK);
    }
    seal(wire, 9);
    CHECK(tx.mask_block == 1 && rx.mask_block == 0);
    for (int i = 0; i < 3; i++)
        CHECK(frame_peek(&rx, wire, &wire_len) == DP_OK && wire_len == FRAME_OVERHEAD + 9);
    CHECK(open_frame(wire, 9) == DP_OK && rx.mask_block == 1);
}

/* --- keys ------------------------------------------------------------------------------------------ */

static void test_rekey(void) {
    start();
    for (uint64_t round = 1; round < 40; round++) {
        uint8_t old_key[DP_KEY_LEN], old_mask[DP_KEY_LEN];
        memcpy(old_key, tx.cipher.k, DP_KEY_LEN);
        memcpy(old_mask, tx.mask_key, DP_KEY_LEN);
        seal(wire, 30);
        CHECK(open_frame(wire, 30) == DP_OK);
        CHECK(frame_rekey(&tx, aead, 10 + round) == DP_OK && tx.key_since_ms == 10 + round);
        CHECK(tx.key_bytes == 0 && tx.key_frames == 0 && tx.cipher.n == round);
        CHECK(memcmp(tx.cipher.k, old_key, DP_KEY_LEN) != 0);
        CHECK(memcmp(tx.mask_key, old_mask, DP_KEY_LEN) != 0);
        seal(wire, 30);
        memcpy(other, wire, sizeof wire);
        CHECK(open_frame(other, 30) != DP_OK); /* still under the old key */
        CHECK(frame_rekey(&rx, aead, 99) == DP_OK && open_frame(wire, 30) == DP_OK);
        tx.cipher.n = rx.cipher.n = round; /* so that rounds meet every place in a block */
        tx.mask_block = rx.mask_block = UINT64_MAX;
    }
}

/* A receiver takes no frame under a key that is used up. */
static void test_rekey_limit(void) {
    static const struct {
        int id;
        uint64_t bytes, frames;
        int rc;
    } ROWS[] = {
        {1, FRAME_KEY_BYTES_MAX - 1, 0, DP_OK},  {2, FRAME_KEY_BYTES_MAX, 0, DP_E_REKEY},
        {3, 0, FRAME_KEY_FRAMES_MAX - 1, DP_OK}, {4, 0, FRAME_KEY_FRAMES_MAX, DP_E_REKEY},
        {5, UINT64_MAX, UINT64_MAX, DP_E_REKEY},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        start();
        rx.key_bytes = ROWS[i].bytes;
        rx.key_frames = ROWS[i].frames;
        seal(wire, 5);
        CHECK_ROW(ROWS[i].id, open_frame(wire, 5) == ROWS[i].rc);
        CHECK_ROW(ROWS[i].id, rx.cipher.n == (ROWS[i].rc == DP_OK));
    }
}

/* 2^64 - 2 is the last nonce of a frame; 2^64 - 1 belongs to rekey. */
static void test_nonce_limit(void) {
    start();
    tx.cipher.n = rx.cipher.n = UINT64_MAX - 1;
    seal(wire, 5);
    CHECK(open_frame(wire, 5) == DP_OK && rx.cipher.n == UINT64_MAX);
    uint64_t bytes = tx.key_bytes;
    CHECK(frame_seal(&tx, aead, wire, 5, NULL, 0) == DP_E_NONCE && tx.key_bytes == bytes);
    size_t len;
    CHECK(frame_open(&rx, aead, wire + FRAME_HEADER, wire, FRAME_OVERHEAD + 5, &len) == DP_E_NONCE);
    CHECK(tx.cipher.n == UINT64_MAX && rx.cipher.n == UINT64_MAX);
}

int main(void) {
    CHECK(dp_init() == DP_OK && aead_new(&aead, NULL) == DP_OK);
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 131 + (i >> 8));
    test_sizes();
    test_tail();
    test_peek();
    test_bit_flips();
    test_wrong_length();
    test_order();
    test_masks();
    test_mask_boundary();
    test_rekey();
    test_rekey_limit();
    test_nonce_limit();
    aead_free(aead);
    return check_report();
}
