/* Any plaintext in frames of a peer that holds the key: the link takes it or ends with a status for
 * a broken rule, of which the peer hears. Nothing beyond the credit granted is accepted; what is
 * kept stays within windows; when the link is gone, so is its memory.
 *
 * Input: frames, each behind its length (2 bytes, little endian).
 */
#include "link_pair.h"

enum { WINDOW = 5000, FLOWS = 2 };

static struct pair pair;

static bool known(int rc) {
    return rc == DP_OK || rc == DP_E_SEGMENT || rc == DP_E_CHANNEL || rc == DP_E_CREDIT ||
           rc == DP_E_DATAGRAM || rc == DP_E_CLOSED;
}

static void check_flows(const struct link *link) {
    for (const struct flow *f = link->flows; f; f = f->next) {
        const struct receive_state *in = &f->receive;
        CHECK(in->received.bytes <= in->limit && in->builder.have <= in->builder.total);
        CHECK(in->builder.payload + in->builder.total <= WINDOW);
        CHECK(f->send.confirmed.bytes <= f->send.sent.bytes);
    }
    CHECK(!link->control_in || link->control_in->len < link->control_total);
}

static int take(const uint8_t *plain, size_t len) {
    pair_inject(&pair, 1, plain, len);
    int rc = pair_deliver(&pair, 1, PAIR_WIRE);
    CHECK(known(rc));
    if (rc == DP_OK && pair_state(&pair, 1) == DP_LINK_OPEN)
        check_flows(pair_link(&pair, 1));
    pair_gather(&pair, 1);
    return rc;
}

/* Both sides rekey when a frame says so, else the pair's own frames would not open. */
static void follow(const uint8_t *plain, size_t len) {
    const uint8_t *cursor = plain;
    struct segment s;
    struct link *from = pair_link(&pair, 0);
    while (cursor < plain + len && segment_next(&cursor, plain + len, &s) == DP_OK)
        if (s.kind == SEGMENT_REKEY)
            CHECK(frame_rekey(&from->ciphers[0], from->node->aead, pair.now_ms) == DP_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dp_node_config config = pair_config();
    int rc = DP_OK;
    pair_open(&pair, &config);
    for (int flow = 0; flow < FLOWS; flow++) {
        pair_flow_both(&pair, flow, WINDOW, DP_NORMAL);
        pair.flow[flow].handle[1] = 0; /* what it gets was not sent by pair_send: do not compare */
    }
    while (rc == DP_OK && size > 2) {
        size_t len = load16(data), most = size - 2 < DP_FRAME_MAX ? size - 2 : DP_FRAME_MAX;
        len = len < 1 ? 1 : len < most ? len : most;
        rc = take(data + 2, len);
        if (rc == DP_OK)
            follow(data + 2, len);
        data += 2 + len;
        size -= 2 + len;
    }
    struct pair_seen *peer = &pair.side[0].seen;
    pair_run(&pair);
    CHECK(rc == DP_OK || pair.side[1].seen.down == 1);
    CHECK(rc == DP_OK || rc == DP_E_CLOSED || (peer->down == 1 && peer->status == DP_E_CLOSED));
    pair_free(&pair);
    return 0;
}
