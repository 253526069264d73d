/* Any bytes as an application's messages: a record is queued whole or changes nothing but a count of
 * refusals; a message is kept or done with, and a kept one is released once; credit is never
 * passed, and the peer, which checks everything again, has nothing to object to.
 *
 * Input: messages, each behind its length (2 bytes, little endian).
 */
#include "link_pair.h"

enum { WINDOW = 5000, FLOWS = 2 };

static struct pair pair;

/* Flows in which an EPOCH was taken. */
static unsigned epochs(void) {
    unsigned sum = 0;
    for (const struct flow *f = pair_link(&pair, 0)->flows; f; f = f->next)
        sum += f->send.epoch;
    return sum;
}

static struct position accepted(void) {
    struct position sum = {0, 0};
    for (const struct flow *f = pair_link(&pair, 0)->flows; f; f = f->next) {
        CHECK(f->send.accepted.bytes <= f->send.limit);
        CHECK(f->send.sent.bytes <= f->send.accepted.bytes);
        CHECK(f->receive.consumed.bytes <= f->receive.received.bytes);
        sum.datagrams += f->send.accepted.datagrams;
        sum.bytes += f->send.accepted.bytes;
    }
    return sum;
}

static void ingest(const uint8_t *message, size_t len) {
    struct position before = accepted();
    unsigned kept = pair.side[0].kept, said = epochs();
    pair_ingest(&pair.side[0], message, len);
    bool queued = accepted().datagrams > before.datagrams || epochs() > said;
    CHECK(queued == (pair.side[0].kept > kept));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dp_node_config config = pair_config();
    struct dp_stats out, in;
    pair_open(&pair, &config);
    for (int flow = 0; flow < FLOWS; flow++) {
        pair_flow_both(&pair, flow, WINDOW, DP_NORMAL);
        CHECK(pair_send(&pair, 1, flow, 3, 50)); /* something to consume */
    }
    pair_run(&pair);
    for (int flow = 0; flow < FLOWS; flow++) /* no longer pair_send's: do not compare */
        pair.flow[flow].handle[0] = pair.flow[flow].handle[1] = 0;
    while (size > 2) {
        size_t len = load16(data), most = size - 2;
        len = len < most ? len : most;
        ingest(data + 2, len);
        if (len % 2)
            pair_run(&pair);
        data += 2 + len;
        size -= 2 + len;
    }
    struct position sent = accepted();
    pair_run(&pair);
    CHECK(pair.side[0].seen.down == 0 && pair.side[1].seen.down == 0 && pair.side[0].kept == 0);
    dp_node_stats(pair.side[0].node, &out);
    dp_node_stats(pair.side[1].node, &in);
    CHECK(out.datagrams_out == sent.datagrams && in.datagrams_in == sent.datagrams);
    CHECK(out.payload_out == in.payload_in);
    pair_free(&pair);
    return 0;
}
