/* Any bytes, given as any message of any pattern to either side, whole or written over the genuine
 * message: the answer is DP_OK or a DP_E status; a refusal changes no byte of the handshake and
 * yields no payload; the genuine message is accepted after it. No crash, no leak.
 *
 * Input: pattern, message number, where to write (2 bytes, little endian; 65535 = instead of the
 * genuine message), then the bytes.
 */
#include <stdlib.h>

#include "../tests/noise_pair.h"
#include "dp2p_identity.h"

enum { ROOM = 65536, HEADER = 4, INSTEAD = 65535 };

static struct aead *aead;
static uint8_t genuine[ROOM], given[ROOM], out[ROOM];

static void require(bool ok) {
    if (!ok)
        abort();
}

/* Bring the pair to where message number `stop` is next. As pattern number 3 the responder refuses
 * IK's first message and both fall back. */
static void advance(struct noise_pair *pair, uint8_t pattern, uint8_t stop) {
    size_t len, got;
    bool fallback = pattern == DP_PATTERN_XXFALLBACK;
    noise_pair_keys(pair, fallback ? DP_PATTERN_IK : (enum dp_pattern)pattern, aead);
    require(noise_pair_start(pair));
    if (fallback) {
        struct noise_side *side = pair->side;
        require(handshake_write(&side[0].hs, genuine, ROOM, &len, NULL, 0) == DP_OK);
        require(handshake_fallback(&side[0].hs, &side[0].config, NULL) == DP_OK);
        require(handshake_fallback(&side[1].hs, &side[1].config, genuine) == DP_OK);
    }
    while (pair->side[0].hs.message < stop) {
        int writer = noise_pair_writer(pair);
        require(handshake_write(&pair->side[writer].hs, genuine, ROOM, &len, NULL, 0) == DP_OK);
        require(handshake_read(&pair->side[1 - writer].hs, out, ROOM, &got, genuine, len) == DP_OK);
    }
}

/* given[] = the genuine message with the fuzzer's bytes written over it, or these alone. */
static size_t compose(size_t genuine_len, size_t at, const uint8_t *data, size_t size) {
    if (at == INSTEAD) {
        memcpy(given, data, size);
        return size;
    }
    memcpy(given, genuine, genuine_len);
    at %= genuine_len;
    size = size < genuine_len - at ? size : genuine_len - at;
    memcpy(given + at, data, size);
    return genuine_len;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    require(dp_init() == DP_OK && aead_new(&aead, NULL) == DP_OK);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t PAYLOAD[] = "payload";
    struct noise_pair pair;
    size_t len, got = ROOM;
    if (size < HEADER || size - HEADER >= ROOM)
        return 0;
    uint8_t pattern = data[0] % DP_PATTERN_COUNT;
    advance(&pair, pattern, data[1] % pattern_get(pattern)->message_count);
    int writer = noise_pair_writer(&pair);
    struct handshake *reader = &pair.side[1 - writer].hs;
    require(handshake_write(&pair.side[writer].hs, genuine, ROOM, &len, PAYLOAD, 7) == DP_OK);
    size_t given_len =
        compose(len, (size_t)data[2] | (size_t)data[3] << 8, data + HEADER, size - HEADER);

    struct handshake before = *reader;
    int rc = handshake_read(reader, out, ROOM, &got, given, given_len);
    if (rc == DP_OK)
        return 0;
    require(rc == DP_E_SIZE || rc == DP_E_AUTH || rc == DP_E_KEY);
    require(memcmp(&before, reader, sizeof before) == 0 && got == ROOM);
    require(handshake_read(reader, out, ROOM, &got, genuine, len) == DP_OK);
    require(got == 7 && memcmp(out, PAYLOAD, 7) == 0);
    return 0;
}
