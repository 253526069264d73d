/* Any bytes, in place of a handshake message or written over it, in each way a handshake can go,
 * arriving in any two parts: a link that reads a changed message, or what was written in answer to one,
 * does not become READY, unless it has fallen back and knows who is there. It waits for more or ends
 * with a DP_E status and without a word; its memory is returned.
 *
 * Input: message number and 3 times the way, where to write (2 bytes, little endian; 65535 =
 * instead), how much arrives first (2 bytes), then the bytes.
 */
#include "shake_pair.h"

enum { HEADER = 5, INSTEAD = 65535, MESSAGES = 3 };

static struct pair pair;

static bool known(int rc) {
    return rc == DP_OK || rc == DP_E_SIZE || rc == DP_E_AUTH || rc == DP_E_KEY ||
           rc == DP_E_IDENTITY;
}

/* Whether the message on its way to `side` is another one now. */
static bool change(struct pair_side *side, size_t at, const uint8_t *data, size_t size) {
    if (at == INSTEAD) {
        bool same = size >= side->on_wire && memcmp(side->wire, data, side->on_wire) == 0;
        size = size < PAIR_WIRE ? size : PAIR_WIRE;
        memcpy(side->wire, data, size);
        side->on_wire = size;
        return !same;
    }
    at %= side->on_wire;
    size = size < side->on_wire - at ? size : side->on_wire - at;
    bool same = memcmp(side->wire + at, data, size) == 0;
    memcpy(side->wire + at, data, size);
    return !same;
}

static int deliver(int to, size_t first) {
    int rc = pair_deliver(&pair, to, first);
    if (rc == DP_OK)
        rc = pair_hand(&pair, to);
    else
        pair_gather(&pair, to);
    CHECK(known(rc));
    CHECK(pair.side[to].seen.down == (rc != DP_OK));
    return rc;
}

/* Side `i` is not READY, or relies on nothing but what was proved. */
static bool harmless(int i) {
    uint8_t key[DP_KEY_LEN];
    if (pair.side[i].seen.ready == 0)
        return true;
    struct dp_link_info info = pair_info(&pair, i);
    pair_key(key, 1 - i);
    return info.fell_back && memcmp(info.key, key, DP_KEY_LEN) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEADER)
        return 0;
    int message = data[0] % MESSAGES, way = data[0] / MESSAGES % PAIR_WAYS;
    int to = pair_shake(&pair, way, message);
    bool changed = change(&pair.side[to], load16(data + 1), data + HEADER, size - HEADER);
    int rc = deliver(to, load16(data + 3));
    CHECK(!changed || pair.side[to].seen.ready == 0);
    size_t answer = pair_produce(&pair, to, 0);
    CHECK(rc == DP_OK || answer == 0);
    (void)deliver(1 - to, PAIR_WIRE);
    CHECK(!changed || message == 2 || (message == 0 ? harmless(0) : !pair.side[1].seen.ready));
    pair_run(&pair);
    CHECK(!changed || (message == 0 ? harmless(1) : !pair.side[to].seen.ready));
    pair_free(&pair);
    return 0;
}
