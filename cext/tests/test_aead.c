/* The AEAD and the CipherState: known answers, providers that agree byte for byte, and what a
 * refusal leaves behind. */
#include <sodium.h>
#include <string.h>

#include "aead.h"
#include "aead_provider.h"
#include "check.h"
#include "cipher.h"
#include "dp2p_identity.h"
#include "dp2p_noise.h"

enum { LONGEST = 70000, MOST_PROVIDERS = 4 };

static struct aead *aeads[MOST_PROVIDERS];
static size_t aead_count;
static uint8_t in[LONGEST], sealed[LONGEST + DP_TAG_LEN], again[LONGEST + DP_TAG_LEN];
static uint8_t opened[LONGEST];
static uint8_t key[DP_KEY_LEN], ad[300];

static const struct aead_provider *const PROVIDERS[] = {
    &aead_libsodium,
#ifdef DP_HAVE_OPENSSL
    &aead_openssl,
#endif
};

enum { PROVIDER_COUNT = sizeof PROVIDERS / sizeof PROVIDERS[0] };

static void from_hex(uint8_t *out, size_t cap, const char *hex) {
    size_t len;
    CHECK(sodium_hex2bin(out, cap, hex, strlen(hex), NULL, &len, NULL) == 0 && len == cap);
}

static int all_equal(const uint8_t *bytes, size_t len, uint8_t value) {
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != value)
            return 0;
    return 1;
}

/* Bytes that differ from place to place and are the same in every run. */
static void pattern_bytes(uint8_t *out, size_t len, uint8_t seed) {
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(seed + i * 131 + (i >> 8) * 17);
}

/* --- known answers: RFC 8439, 2.8.2 and A.5 ----------------------------------------------------- */

static const struct {
    int row;
    const char *key, *nonce, *ad, *first, *tag; /* first: 16 bytes of ciphertext */
    const char *text;
} ANSWERS[] = {
    {1, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
     "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7", "d31a8d34648e60db7b86afbc53ef7ec2",
     "1ae10b594f09e26a7e902ecbd0600691",
     "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
     "sunscreen would be it."},
    {2, "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
     "000000000102030405060708", "f33388860000000000004e91", "64a0861575861af460f062c79be643bd",
     "eead9d67890cbb22392336fea1851f38",
     "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, "
     "replaced, or obsoleted by other documents at any time. It is inappropriate to use "
     "Internet-Drafts as reference material or to cite them other than as "
     "/\xe2\x80\x9cwork in progress./\xe2\x80\x9d"},
};

static void test_known_answers(void) {
    for (size_t i = 0; i < sizeof ANSWERS / sizeof ANSWERS[0]; i++) {
        int row = ANSWERS[i].row;
        uint8_t nonce[12], data[12], first[16], tag[16], got[16];
        from_hex(key, sizeof key, ANSWERS[i].key);
        from_hex(nonce, sizeof nonce, ANSWERS[i].nonce);
        from_hex(data, sizeof data, ANSWERS[i].ad);
        from_hex(first, sizeof first, ANSWERS[i].first);
        from_hex(tag, sizeof tag, ANSWERS[i].tag);
        const uint8_t *text = (const uint8_t *)ANSWERS[i].text;
        size_t len = strlen(ANSWERS[i].text);
        for (int p = 0; p < PROVIDER_COUNT; p++) {
            void *state;
            CHECK_ROW(row, PROVIDERS[p]->start(&state) == DP_OK);
            CHECK_ROW(row, PROVIDERS[p]->seal(state, key, nonce, data, sizeof data, sealed, got,
                                              text, len) == DP_OK);
            CHECK_ROW(row, memcmp(sealed, first, sizeof first) == 0);
            CHECK_ROW(row, memcmp(got, tag, sizeof tag) == 0);
            CHECK_ROW(row, PROVIDERS[p]->open(state, key, nonce, data, sizeof data, opened, tag,
                                              sealed, len) == DP_OK);
            CHECK_ROW(row, memcmp(opened, text, len) == 0);
            PROVIDERS[p]->stop(state);
        }
    }
}

/* Row 2's nonce is one that the Noise counter can have. */
static void test_nonce_encoding(void) {
    uint8_t data[12], tag[16];
    const uint8_t *text = (const uint8_t *)ANSWERS[1].text;
    size_t len = strlen(ANSWERS[1].text);
    from_hex(key, sizeof key, ANSWERS[1].key);
    from_hex(data, sizeof data, ANSWERS[1].ad);
    from_hex(tag, sizeof tag, ANSWERS[1].tag);
    for (size_t p = 0; p < aead_count; p++) {
        CHECK(aead_seal(aeads[p], key, 0x0807060504030201u, data, sizeof data, sealed, text, len) ==
              DP_OK);
        CHECK(memcmp(sealed + len, tag, sizeof tag) == 0);
    }
}

/* --- providers agree ------------------------------------------------------------------------------ */

static void check_length(size_t len, size_t ad_len, uint64_t nonce) {
    CHECK(aead_seal(aeads[0], key, nonce, ad, ad_len, sealed, in, len) == DP_OK);
    for (size_t p = 0; p < aead_count; p++) {
        memset(again, 0xaa, len + DP_TAG_LEN);
        CHECK(aead_seal(aeads[p], key, nonce, ad, ad_len, again, in, len) == DP_OK);
        CHECK(memcmp(again, sealed, len + DP_TAG_LEN) == 0);
        memcpy(again, in, len); /* in place */
        CHECK(aead_seal(aeads[p], key, nonce, ad, ad_len, again, again, len) == DP_OK);
        CHECK(memcmp(again, sealed, len + DP_TAG_LEN) == 0);
        CHECK(aead_open(aeads[p], key, nonce, ad, ad_len, opened, sealed, len + DP_TAG_LEN) ==
              DP_OK);
        CHECK(memcmp(opened, in, len) == 0);
        CHECK(aead_open(aeads[p], key, nonce, ad, ad_len, again, again, len + DP_TAG_LEN) == DP_OK);
        CHECK(memcmp(again, in, len) == 0);
    }
}

static void test_providers_agree(void) {
    static const size_t LONG[] = {4095, 4096, 4097, 16384, 65519, 65535, 65536, LONGEST};
    pattern_bytes(key, sizeof key, 9);
    for (size_t len = 0; len < 1100; len++) {
        key[len % DP_KEY_LEN]++; /* another key each time: no call may rest on the last one's */
        check_length(len, len % (sizeof ad + 1), (uint64_t)len << (len % 56));
    }
    for (size_t i = 0; i < sizeof LONG / sizeof LONG[0]; i++)
        check_length(LONG[i], i * 7, UINT64_MAX - i);
}

/* --- refusals ---------------------------------------------------------------------------------------- */

/* Open sealed[len] with one bit of something wrong; the output must come back wiped. */
static void check_refused(struct aead *aead, const uint8_t *k, uint64_t nonce, size_t ad_len,
                          size_t len) {
    memset(opened, 0xaa, len);
    CHECK(aead_open(aead, k, nonce, ad, ad_len, opened, sealed, len) == DP_E_AUTH);
    CHECK(all_equal(opened, len - DP_TAG_LEN, 0));
    CHECK(all_equal(opened + len - DP_TAG_LEN, DP_TAG_LEN, 0xaa));
}

static void check_refusals(struct aead *aead, size_t text_len) {
    size_t len = text_len + DP_TAG_LEN;
    uint8_t other[DP_KEY_LEN];
    CHECK(aead_seal(aead, key, 5, ad, 20, sealed, in, text_len) == DP_OK);
    for (size_t bit = 0; bit < len * 8; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check_refused(aead, key, 5, 20, len);
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memcpy(other, key, sizeof other);
    other[31] ^= 0x80;
    check_refused(aead, other, 5, 20, len);
    check_refused(aead, key, 6, 20, len);
    check_refused(aead, key, 5, 19, len);
    ad[0] ^= 1;
    check_refused(aead, key, 5, 20, len);
    ad[0] ^= 1;
    CHECK(aead_open(aead, key, 5, ad, 20, opened, sealed, len) == DP_OK);
    sealed[0] ^= 1; /* and in place */
    CHECK(aead_open(aead, key, 5, ad, 20, sealed, sealed, len) == DP_E_AUTH);
    CHECK(all_equal(sealed, text_len, 0));
}

static void test_refusals(void) {
    static const size_t LENGTHS[] = {0, 1, 15, 16, 63, 64, 65, 300};
    for (size_t p = 0; p < aead_count; p++)
        for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++)
            check_refusals(aeads[p], LENGTHS[i]);
}

static void test_sizes(void) {
    for (size_t p = 0; p < aead_count; p++) {
        memset(opened, 0xaa, DP_TAG_LEN);
        for (size_t len = 0; len < DP_TAG_LEN; len++)
            CHECK(aead_open(aeads[p], key, 0, NULL, 0, opened, sealed, len) == DP_E_SIZE);
        CHECK(all_equal(opened, DP_TAG_LEN, 0xaa));
        CHECK(aead_seal(aeads[p], key, 0, NULL, 0, sealed, in, SIZE_MAX) == DP_E_SIZE);
        CHECK(aead_seal(aeads[p], key, 0, NULL, 0, sealed, in, (size_t)INT32_MAX - 15) ==
              DP_E_SIZE);
    }
}

/* --- selection and the one-shot calls ------------------------------------------------------------- */

static void test_selection(void) {
    struct aead *aead = NULL;
    CHECK(aead_new(&aead, "none such") == DP_E_PROVIDER && aead == NULL);
    CHECK(aead_new(&aead, "") == DP_E_PROVIDER && aead == NULL);
    CHECK(aead_count == PROVIDER_COUNT && dp_aead_provider(aead_count) == NULL);
    CHECK(strcmp(dp_aead_provider(0), dp_aead_default()) == 0);
    CHECK(strcmp(dp_aead_provider(aead_count - 1), "libsodium") == 0);
    CHECK(aead_new(&aead, NULL) == DP_OK && strcmp(aead_name(aead), dp_aead_default()) == 0);
    aead_free(aead);
    CHECK(aead_new(&aead, "auto") == DP_OK && strcmp(aead_name(aead), dp_aead_default()) == 0);
    aead_free(aead);
    aead_free(NULL);
}

static void test_one_shot(void) {
    CHECK(dp_aead_seal("none such", key, 1, ad, 9, again, 66, in, 50) == DP_E_PROVIDER);
    CHECK(dp_aead_seal("auto", key, 1, ad, 9, again, 65, in, 50) == DP_E_SIZE);
    CHECK(dp_aead_seal(NULL, key, 1, ad, 9, again, 66, in, 50) == DP_OK);
    CHECK(aead_seal(aeads[0], key, 1, ad, 9, sealed, in, 50) == DP_OK);
    CHECK(memcmp(again, sealed, 66) == 0);
    CHECK(dp_aead_open("libsodium", key, 1, ad, 9, opened, 49, again, 66) == DP_E_SIZE);
    CHECK(dp_aead_open("libsodium", key, 1, ad, 9, opened, 50, again, 15) == DP_E_SIZE);
    CHECK(dp_aead_open("libsodium", key, 1, ad, 9, opened, 50, again, 66) == DP_OK);
    CHECK(memcmp(opened, in, 50) == 0);
    CHECK(dp_aead_open("libsodium", key, 2, ad, 9, opened, 50, again, 66) == DP_E_AUTH);
}

/* --- CipherState --------------------------------------------------------------------------------------- */

static void test_cipher_without_key(void) {
    struct cipher_state cs = {0};
    CHECK(cipher_seal(&cs, aeads[0], ad, 9, sealed, in, 50) == DP_OK);
    CHECK(memcmp(sealed, in, 50) == 0 && cs.n == 0);
    CHECK(cipher_open(&cs, aeads[0], ad, 9, sealed, sealed, 50) == DP_OK && cs.n == 0);
    CHECK(cipher_seal(&cs, aeads[0], NULL, 0, sealed, NULL, 0) == DP_OK);
    CHECK(cipher_rekey(&cs, aeads[0]) == DP_E_STATE);
}

static void test_cipher_nonces(struct aead *aead) {
    struct cipher_state tx, rx, before;
    cipher_init(&tx, key);
    rx = tx;
    for (uint64_t n = 0; n < 5; n++) {
        CHECK(cipher_seal(&tx, aead, ad, 9, sealed, in, 50) == DP_OK && tx.n == n + 1);
        CHECK(aead_seal(aead, key, n, ad, 9, again, in, 50) == DP_OK);
        CHECK(memcmp(sealed, again, 66) == 0);
        before = rx;
        CHECK(cipher_open(&rx, aead, ad, 8, opened, sealed, 66) == DP_E_AUTH);
        CHECK(cipher_open(&rx, aead, ad, 9, opened, sealed, 15) == DP_E_SIZE);
        CHECK(memcmp(&rx, &before, sizeof rx) == 0);
        CHECK(cipher_open(&rx, aead, ad, 9, opened, sealed, 66) == DP_OK && rx.n == n + 1);
    }
}

/* The last nonce but one works, the last is kept for rekey and never passed. */
static void test_cipher_exhaustion(struct aead *aead) {
    struct cipher_state tx, rx, before;
    cipher_init(&tx, key);
    tx.n = UINT64_MAX - 1;
    rx = tx;
    CHECK(cipher_seal(&tx, aead, NULL, 0, sealed, in, 50) == DP_OK && tx.n == UINT64_MAX);
    CHECK(cipher_open(&rx, aead, NULL, 0, opened, sealed, 66) == DP_OK && rx.n == UINT64_MAX);
    before = tx;
    for (int i = 0; i < 2; i++) {
        CHECK(cipher_seal(&tx, aead, NULL, 0, sealed, in, 50) == DP_E_NONCE);
        CHECK(cipher_open(&rx, aead, NULL, 0, opened, sealed, 66) == DP_E_NONCE);
    }
    CHECK(memcmp(&tx, &before, sizeof tx) == 0 && memcmp(&rx, &before, sizeof rx) == 0);
}

static void test_cipher_rekey(struct aead *aead) {
    static const uint8_t ZEROS[DP_KEY_LEN];
    struct cipher_state cs;
    cipher_init(&cs, key);
    cs.n = 7;
    CHECK(aead_seal(aeads[0], key, UINT64_MAX, NULL, 0, again, ZEROS, sizeof ZEROS) == DP_OK);
    CHECK(cipher_rekey(&cs, aead) == DP_OK);
    CHECK(memcmp(cs.k, again, DP_KEY_LEN) == 0 && cs.n == 7 && cs.has_key);
    CHECK(memcmp(cs.k, key, DP_KEY_LEN) != 0);
}

int main(void) {
    CHECK(dp_init() == DP_OK && dp_init() == DP_OK);
    for (const char *name; (name = dp_aead_provider(aead_count)) != NULL; aead_count++)
        CHECK(aead_new(&aeads[aead_count], name) == DP_OK);
    pattern_bytes(in, sizeof in, 1);
    pattern_bytes(ad, sizeof ad, 2);
    test_known_answers();
    test_nonce_encoding();
    test_providers_agree();
    test_refusals();
    test_sizes();
    test_selection();
    test_one_shot();
    test_cipher_without_key();
    for (size_t p = 0; p < aead_count; p++) {
        test_cipher_nonces(aeads[p]);
        test_cipher_exhaustion(aeads[p]);
        test_cipher_rekey(aeads[p]);
    }
    for (size_t p = 0; p < aead_count; p++)
        aead_free(aeads[p]);
    return check_report();
}
