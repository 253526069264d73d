/* The identity key, BLAKE2b and the names of status codes. */
#include <limits.h>
#include <sodium.h>
#include <string.h>

#include "check.h"
#include "dp2p_identity.h"

static void from_hex(uint8_t *out, size_t cap, const char *hex) {
    size_t len;
    CHECK(sodium_hex2bin(out, cap, hex, strlen(hex), NULL, &len, NULL) == 0 && len == cap);
}

/* RFC 8032, 7.1, tests 1 to 3. */
static const struct {
    int row;
    const char *seed, *public_key, *message, *signature;
} SIGNATURES[] = {
    {1, "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b"
     "4"
     "6bd25bf5f0595bbe24655141438e7a100b"},
    {2, "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11"
     "d"
     "8c387b2eaeb4302aeeb00d291612bb0c00"},
    {3, "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc"
     "6"
     "594a7c15e9716ed28dc027beceea1ec40a"},
};

enum { SIGNATURE_ROWS = sizeof SIGNATURES / sizeof SIGNATURES[0] };

static void test_signatures(void) {
    for (int i = 0; i < SIGNATURE_ROWS; i++) {
        uint8_t seed[32], expected_key[32], key[32], message[2], expected[64], signature[64];
        size_t len = strlen(SIGNATURES[i].message) / 2;
        from_hex(seed, 32, SIGNATURES[i].seed);
        from_hex(expected_key, 32, SIGNATURES[i].public_key);
        from_hex(expected, 64, SIGNATURES[i].signature);
        from_hex(message, len, SIGNATURES[i].message);
        int row = SIGNATURES[i].row;
        CHECK_ROW(row, dp_identity_public(key, seed) == DP_OK);
        CHECK_ROW(row, memcmp(key, expected_key, 32) == 0);
        CHECK_ROW(row, dp_sign(signature, message, len, seed) == DP_OK);
        CHECK_ROW(row, memcmp(signature, expected, 64) == 0);
        CHECK_ROW(row, dp_verify(signature, message, len, key) == DP_OK);
        signature[i * 20] ^= 4;
        CHECK_ROW(row, dp_verify(signature, message, len, key) == DP_E_AUTH);
    }
}

/* Both halves of the conversion fit together, and agree with libsodium's. */
static void test_static_keys(void) {
    for (int i = 0; i < SIGNATURE_ROWS; i++) {
        uint8_t seed[32], key[32], sk[64], expected[32], s[32], spk[32], derived[32];
        from_hex(seed, 32, SIGNATURES[i].seed);
        CHECK(crypto_sign_seed_keypair(key, sk, seed) == 0);
        CHECK(crypto_sign_ed25519_sk_to_curve25519(expected, sk) == 0);
        CHECK(dp_identity_static(s, seed) == DP_OK && memcmp(s, expected, 32) == 0);
        CHECK(dp_identity_static_public(spk, key) == DP_OK);
        CHECK(crypto_scalarmult_base(derived, s) == 0 && memcmp(derived, spk, 32) == 0);
    }
}

/* No point, low order, mixed order: refused, with the output untouched. */
static void test_bad_public_keys(void) {
    static const char *const BAD[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "0200000000000000000000000000000000000000000000000000000000000000",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        uint8_t key[32], out[32] = {0xaa}, before[32] = {0xaa};
        from_hex(key, 32, BAD[i]);
        CHECK_ROW(i, dp_identity_static_public(out, key) == DP_E_KEY);
        CHECK_ROW(i, memcmp(out, before, 32) == 0);
    }
    uint8_t key[32], torsion[32], mixed[32], out[32];
    from_hex(key, 32, SIGNATURES[0].public_key);
    from_hex(torsion, 32, BAD[3]);
    CHECK(crypto_core_ed25519_add(mixed, key, torsion) == 0);
    CHECK(dp_identity_static_public(out, mixed) == DP_E_KEY);
}

/* 2^255 - 19 + `n`, little endian; n below 19 keeps the highest bit clear. */
static void p_plus(uint8_t out[32], int n) {
    memset(out, 0xff, 32);
    out[0] = (uint8_t)(0xed + n);
    out[31] = 0x7f;
}

/* As the conversion says, for keys by the hundred and for what is almost one. */
static void test_matches(void) {
    uint8_t last[32] = {9};
    for (uint16_t n = 0; n < 500; n++) {
        uint8_t seed[32] = {(uint8_t)n, (uint8_t)(n >> 8)}, key[32], spk[32];
        CHECK(dp_identity_public(key, seed) == DP_OK);
        CHECK(dp_identity_static_public(spk, key) == DP_OK);
        CHECK_ROW(n, dp_identity_matches(key, spk) && !dp_identity_matches(key, last));
        memcpy(last, spk, sizeof last);
        key[31] ^= 0x80; /* the negative */
        CHECK_ROW(n, dp_identity_matches(key, spk));
        spk[31] |= 0x80;
        CHECK_ROW(n, !dp_identity_matches(key, spk));
        spk[31] &= 0x7f;
        for (int bit = 0; bit < 255; bit += 1 + n % 7) {
            key[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK_ROW(n, !dp_identity_matches(key, spk));
            key[bit / 8] ^= (uint8_t)(1u << bit % 8);
            spk[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK_ROW(n, !dp_identity_matches(key, spk));
            spk[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

/* y (u + 1) = u - 1 where a limb is full or empty. Numbers of p or more are no field element. */
static void test_matches_edges(void) {
    static const struct {
        int row;
        int y, u; /* a small number, or one relative to p, which is -100 */
        bool matches;
    } ROWS[] = {
        {1, -101, 0, true}, /* -1 (0 + 1) = 0 - 1 */
        {2, 0, 1, true},    /* 0 (1 + 1) = 1 - 1 */
        {3, 0, 0, false},        {4, 1, 1, false},
        {5, 0, -101, false}, /* u = -1 belongs to no y */
        {6, 1, -101, false},     {7, -101, -101, false},
        {8, 2, -103, true},                           /* 2 (-3 + 1) = -3 - 1 */
        {9, 3, -102, true},                           /* 3 (-2 + 1) = -2 - 1 */
        {10, -100, 1, false},                         /* 0, written as p */
        {11, 0, -99, false},                          /* 1, written as p + 1 */
        {12, -101, -100, false}, {13, -82, 0, false}, /* p + 18 = 2^255 - 1 */
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        const int given[2] = {ROWS[i].y, ROWS[i].u};
        uint8_t numbers[2][32] = {{0}};
        for (int n = 0; n < 2; n++) {
            if (given[n] < 0)
                p_plus(numbers[n], given[n] + 100);
            else
                numbers[n][0] = (uint8_t)given[n];
        }
        CHECK_ROW(ROWS[i].row, dp_identity_matches(numbers[0], numbers[1]) == ROWS[i].matches);
    }
}

static void test_blake2b(void) {
    uint8_t out[64], expected[64], in[3] = {'a', 'b', 'c'}, key[65] = {1};
    from_hex(
        expected, 64,
        "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de45"
        "33cc9518d38aa8dbf1925ab92386edd4009923");
    CHECK(dp_blake2b(out, 64, in, 3, NULL, 0) == DP_OK && memcmp(out, expected, 64) == 0);
    CHECK(dp_blake2b(out, 16, NULL, 0, key, 64) == DP_OK);
    CHECK(dp_blake2b(out, 15, in, 3, NULL, 0) == DP_E_SIZE);
    CHECK(dp_blake2b(out, 65, in, 3, NULL, 0) == DP_E_SIZE);
    CHECK(dp_blake2b(out, 32, in, 3, key, 65) == DP_E_SIZE);
    CHECK(dp_blake2b(out, 32, NULL, 3, NULL, 0) == DP_E_ARGUMENT);
    CHECK(dp_blake2b(out, 32, in, 3, NULL, 5) == DP_E_ARGUMENT);
    CHECK(dp_node_id(out, key) == DP_OK && dp_blake2b(expected, 32, key, 32, NULL, 0) == DP_OK);
    CHECK(memcmp(out, expected, 32) == 0);
}

static void test_status_names(void) {
    CHECK(strcmp(dp_status_name(DP_OK), "ok") == 0);
    CHECK(strcmp(dp_status_name(DP_E_AUTH), "auth") == 0);
    for (int one = DP_OK; one >= DP_E_PROVIDER; one--) {
        CHECK_ROW(one, strcmp(dp_status_name(one), "unknown") != 0);
        for (int other = DP_OK; other > one; other--)
            CHECK_ROW(one, strcmp(dp_status_name(one), dp_status_name(other)) != 0);
    }
    CHECK(strcmp(dp_status_name(DP_E_PROVIDER - 1), "unknown") == 0);
    CHECK(strcmp(dp_status_name(1), "unknown") == 0);
    CHECK(strcmp(dp_status_name(INT_MIN), "unknown") == 0);
    CHECK(strcmp(dp_status_name(INT_MAX), "unknown") == 0);
}

static void test_bytes(void) {
    uint8_t one[32] = {0}, other[32] = {0}, zeros[32] = {0};
    dp_random_bytes(one, sizeof one);
    dp_random_bytes(other, sizeof other);
    CHECK(memcmp(one, other, sizeof one) != 0 && memcmp(one, zeros, sizeof one) != 0);
    dp_wipe(one, sizeof one);
    CHECK(memcmp(one, zeros, sizeof one) == 0);
}

int main(void) {
    CHECK(dp_init() == DP_OK);
    test_signatures();
    test_static_keys();
    test_bad_public_keys();
    test_matches();
    test_matches_edges();
    test_blake2b();
    test_status_names();
    test_bytes();
    return check_report();
}
