/* The field of Curve25519 beside the slowest arithmetic there is, and the public keys made with it
 * beside libsodium's. */
#include <sodium.h>
#include <string.h>

#include "check.h"
#include "field25519.h"
#include "x25519.h"

enum { RANDOM_KEYS = 10000, RANDOM_PAIRS = 400 };

static void from_hex(uint8_t out[32], const char *hex) {
    size_t len;
    CHECK(sodium_hex2bin(out, 32, hex, strlen(hex), NULL, &len, NULL) == 0 && len == 32);
}

/* The same bytes in every run. */
static void repeatable(uint8_t *out, size_t len, uint32_t number) {
    uint8_t seed[randombytes_SEEDBYTES] = {0};
    memcpy(seed, &number, sizeof number);
    randombytes_buf_deterministic(out, len, seed);
}

/* --- the field: bytes, little endian and below 2^255, doubled and added ----------------------- */

static void slow_below_p(uint8_t a[32]) {
    uint8_t p[32];
    memset(p, 0xff, sizeof p);
    p[0] = 0xed;
    p[31] = 0x7f;
    if (sodium_compare(a, p, sizeof p) >= 0)
        sodium_sub(a, p, sizeof p);
}

static void slow_add(uint8_t a[32], const uint8_t b[32]) {
    sodium_add(a, b, 32);
    slow_below_p(a);
}

static void slow_times(uint8_t out[32], const uint8_t a[32], const uint8_t b[32]) {
    memset(out, 0, 32);
    for (int bit = 254; bit >= 0; bit--) {
        uint8_t twice[32];
        memcpy(twice, out, sizeof twice);
        slow_add(out, twice);
        if (b[bit / 8] >> bit % 8 & 1)
            slow_add(out, a);
    }
}

static bool is(const struct field *a, const uint8_t expected[32]) {
    uint8_t stored[32];
    field_store(stored, a);
    return memcmp(stored, expected, sizeof stored) == 0;
}

/* Every operation on two numbers. */
static void check_pair(int row, const uint8_t a_in[32], const uint8_t b_in[32]) {
    uint8_t a_low[32], b_low[32], expected[32];
    struct field a = field_load(a_in), b = field_load(b_in), result;
    memcpy(a_low, a_in, 32);
    memcpy(b_low, b_in, 32);
    slow_below_p(a_low);
    slow_below_p(b_low);
    CHECK_ROW(row, is(&a, a_low) && is(&b, b_low));
    CHECK_ROW(row, field_is_stored(a_in) == (memcmp(a_in, a_low, 32) == 0));
    CHECK_ROW(row, field_equal(&a, &b) == (memcmp(a_low, b_low, 32) == 0));
    slow_times(expected, a_low, b_low);
    result = field_times(&a, &b);
    CHECK_ROW(row, is(&result, expected));
    slow_times(expected, a_low, a_low);
    result = field_square(&a);
    CHECK_ROW(row, is(&result, expected));
    struct field sum = field_plus(&a, &b), difference = field_minus(&a, &b);
    memcpy(expected, a_low, 32);
    slow_add(expected, b_low);
    CHECK_ROW(row, is(&sum, expected));
    struct field product = field_times(&sum, &difference), a2 = field_square(&a);
    result = field_square(&b);
    result = field_minus(&a2, &result); /* (a + b) (a - b) */
    CHECK_ROW(row, field_equal(&product, &result));
}

static void check_inverse(int row, const uint8_t in[32]) {
    static const struct field ZERO, ONE = {{1}};
    struct field a = field_load(in), inverse = field_invert(&a), product;
    product = field_times(&a, &inverse);
    CHECK_ROW(row, field_equal(&product, field_equal(&a, &ZERO) ? &ZERO : &ONE));
}

/* What is at the end of something: of the field, of 2^255, of a limb, of a word. */
static const char *const EDGES[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "1200000000000000000000000000000000000000000000000000000000000000",
    "1300000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", /* p - 1 */
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", /* p */
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", /* p + 18 */
    "ffffffffffff0700000000000000000000000000000000000000000000000000", /* 2^51 - 1 */
    "0000000000000800000000000000000000000000000000000000000000000000", /* 2^51 */
    "0000000000000000000000000000000000000000000000000080ffffffffff7f", /* the last limb */
    "ffffffffffffffff000000000000000000000000000000000000000000000000",
    "0000000000000000ffffffffffffffff0000000000000000ffffffffffffff7f",
    "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff3f", /* (p - 1) / 2 */
};

enum { EDGE_COUNT = sizeof EDGES / sizeof *EDGES };

static void test_field_edges(void) {
    uint8_t a[32], b[32];
    for (int i = 0; i < EDGE_COUNT * EDGE_COUNT; i++) {
        from_hex(a, EDGES[i / EDGE_COUNT]);
        from_hex(b, EDGES[i % EDGE_COUNT]);
        check_pair(i, a, b);
    }
    for (int i = 0; i < EDGE_COUNT; i++) {
        from_hex(a, EDGES[i]);
        check_inverse(i, a);
    }
}

static void test_field_random(void) {
    uint8_t pair[2][32];
    for (uint32_t i = 0; i < RANDOM_PAIRS; i++) {
        repeatable(pair[0], sizeof pair, i);
        pair[0][31] &= 0x7f;
        pair[1][31] &= 0x7f;
        check_pair((int)i, pair[0], pair[1]);
        check_inverse((int)i, pair[0]);
    }
}

/* The highest bit is not read, and no stored number has it. */
static void test_field_highest_bit(void) {
    uint8_t in[32] = {7};
    struct field low = field_load(in);
    in[31] = 0x80;
    struct field high = field_load(in);
    CHECK(field_equal(&low, &high) && !field_is_stored(in));
}

/* The largest limbs that a product may be given: nothing is lost on the way. */
static void test_field_bounds(void) {
    struct field full;
    uint8_t low[32], expected[32];
    for (int i = 0; i < FIELD_LIMBS; i++)
        full.limb[i] = (UINT64_C(1) << 53) - 1;
    field_store(low, &full);
    CHECK(field_is_stored(low));
    slow_times(expected, low, low);
    struct field product = field_times(&full, &full), square = field_square(&full);
    CHECK(is(&product, expected) && is(&square, expected));
    for (int i = 0; i < FIELD_LIMBS; i++)
        CHECK_ROW(i, product.limb[i] < (UINT64_C(1) << 51) + (1 << 13) &&
                         square.limb[i] == product.limb[i]);
}

/* --- public keys ------------------------------------------------------------------------------ */

static void check_key(int row, const uint8_t scalar[32]) {
    uint8_t expected[32], out[32];
    CHECK_ROW(row, crypto_scalarmult_base(expected, scalar) == 0);
    x25519_base(out, scalar);
    CHECK_ROW(row, memcmp(out, expected, sizeof out) == 0);
}

/* RFC 7748: the first step of 5.2's iteration, whose u is the base point, and 6.1. */
static void test_key_vectors(void) {
    static const char *const ROWS[][2] = {
        {"0900000000000000000000000000000000000000000000000000000000000000",
         "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"},
        {"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
         "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"},
        {"5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
         "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        uint8_t scalar[32], expected[32], out[32];
        from_hex(scalar, ROWS[i][0]);
        from_hex(expected, ROWS[i][1]);
        x25519_base(out, scalar);
        CHECK_ROW(i, memcmp(out, expected, sizeof out) == 0);
    }
}

/* Clamping makes 2^254 of 0, the largest scalar of all ones. */
static void test_key_edges(void) {
    uint8_t scalar[32];
    memset(scalar, 0, sizeof scalar);
    check_key(-1, scalar);
    for (int bit = 0; bit < 256; bit++) {
        memset(scalar, 0, sizeof scalar);
        scalar[bit / 8] = (uint8_t)(1 << bit % 8);
        check_key(bit, scalar);
        for (int i = 0; i < 32; i++)
            scalar[i] ^= 0xff;
        check_key(bit, scalar);
    }
    memset(scalar, 0xff, sizeof scalar);
    check_key(256, scalar);
    for (int i = 0; i < EDGE_COUNT; i++) {
        from_hex(scalar, EDGES[i]);
        check_key(i, scalar);
    }
}

static void test_keys(void) {
    uint8_t scalar[32];
    for (uint32_t i = 0; i < RANDOM_KEYS; i++) {
        repeatable(scalar, sizeof scalar, i);
        check_key((int)i, scalar);
    }
}

/* The scalar may stand where the key goes. */
static void test_key_in_place(void) {
    uint8_t expected[32], key[32] = {1, 2, 3};
    x25519_base(expected, key);
    x25519_base(key, key);
    CHECK(memcmp(key, expected, sizeof key) == 0);
}

int main(void) {
    CHECK(sodium_init() >= 0);
    test_field_edges();
    test_field_random();
    test_field_highest_bit();
    test_field_bounds();
    test_key_vectors();
    test_key_edges();
    test_keys();
    test_key_in_place();
    return check_report();
}
