/* Any message that somebody makes up who knows the network, with a header that fits it, for the
 * responder or the initiator, in each way a handshake can go: its reader never becomes READY. It
 * answers a first message, waits, or ends with a DP_E status and without a word; it holds no more memory
 * than the message allows, and returns it. Any payload is refused or lies within its bounds.
 *
 * Input: message number and 3 times the way, mode, then the message without its header.
 */
#include "shake_pair.h"

enum { HEADER = 2, MESSAGES = 3 };

static struct pair pair;

/* Put the message on the wire; how long it says to be is how long it is. */
static void make(int to, int message, uint8_t mode, const uint8_t *data, size_t size) {
    struct pair_side *side = &pair.side[to];
    size_t lead = message < 2 ? DP_KEY_LEN : 0;
    memcpy(side->wire, data, lead);
    shake_put_header(pair_link(&pair, to), side->wire, side->wire + lead, mode, size - lead);
    memcpy(side->wire + lead + SHAKE_HEADER, data + lead, size - lead);
    side->on_wire = SHAKE_HEADER + size;
}

static void check_payload(const uint8_t *data, size_t size) {
    struct shake_payload payload;
    if (shake_get_payload(data, size, &payload) != DP_OK)
        return;
    CHECK(payload.hello == data + PAYLOAD_FIXED && payload.hello_len <= DP_HELLO_MAX);
    CHECK(payload.hello_len <= size - PAYLOAD_FIXED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEADER + DP_KEY_LEN || size > HEADER + 65535)
        return 0;
    check_payload(data + HEADER, size - HEADER);
    int message = data[0] % MESSAGES, way = data[0] / MESSAGES % PAIR_WAYS;
    int to = pair_shake(&pair, way, message);
    make(to, message, data[1], data + HEADER, size - HEADER);
    int rc = pair_hand(&pair, to);
    CHECK(rc == DP_OK || rc == DP_E_SIZE || rc == DP_E_AUTH || rc == DP_E_KEY);
    CHECK(pair.side[to].seen.down == (rc != DP_OK) && pair.side[to].seen.ready == 0);
    CHECK((pair_produce(&pair, to, 0) > 0) == (rc == DP_OK && message == 0));
    pair_free(&pair);
    return 0;
}
