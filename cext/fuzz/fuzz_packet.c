/* Any bytes, unmasked or as they are: a packet is refused, or its header and payload lie within it and
 * it is written again as the same bytes. A session opens nothing but what the other side sealed, each once,
 * and is as it was after a refusal. No retry opens but the genuine one.
 *
 * Input: what to do, then the packet. Random bytes seldom have a valid header, so bit 0 masks what was
 * given first; bits 1 and 2 write the bytes over a genuine message 1 or sealed packet.
 */
#include "../tests/packet_pair.h"

#include "../tests/check.h"
#include "packet.h"

static struct packet_pair pair;
static uint8_t noise[DP_PACKET_MAX], packet[DP_PACKET_MAX + 1], again[DP_PACKET_MAX];
static const uint8_t COOKIE[DP_COOKIE_LEN] = {1};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    packet_require(dp_init() == DP_OK);
    packet_pair_keys(&pair, NULL);
    packet_pair_shake(&pair);
    packet_pair_sessions(&pair);
    return 0;
}

/* What parse accepted, built again, is what was given. */
static void check_built(const struct dp_packet *header, const uint8_t *given, const uint8_t *plain,
                        size_t len) {
    int rc = DP_OK;
    const uint8_t *keys = pair.side[1].keys;
    if (header->kind == DP_PACKET_FIRST)
        rc = dp_packet_first(again, sizeof again, keys, given, header->cookie,
                             plain + header->payload, header->payload_len);
    else if (header->kind == DP_PACKET_SECOND)
        rc = dp_packet_second(again, sizeof again, keys, given, header->index,
                              plain + header->payload, header->payload_len);
    else {
        memcpy(again, plain, len);
        packet_mask(again, header->payload - DP_PACKET_NONCE_LEN, keys);
    }
    CHECK(rc == DP_OK && memcmp(again, given, len) == 0);
}

static size_t put_over(size_t genuine, const uint8_t *data, size_t size) {
    size_t at = size > 0 ? data[0] * (size_t)5 % genuine : 0;
    for (size_t i = 1; i < size && at + i - 1 < genuine; i++)
        packet[at + i - 1] ^= data[i];
    return genuine;
}

/* packet[] = what the input asks for; its length, and whether it is a genuine sealed packet. */
static size_t compose(uint8_t what, const uint8_t *data, size_t size, int *genuine) {
    enum { BODY = 40, SEALED = BODY + DP_PACKET_SEALED_OVERHEAD, FIRST = 360 };
    uint8_t nonce[DP_PACKET_NONCE_LEN] = {what};
    const uint8_t *keys = pair.side[1].keys;
    *genuine = 0;
    if (what & 2) {
        CHECK(dp_packet_first(packet, sizeof packet, keys, nonce, COOKIE, noise,
                              FIRST - DP_PACKET_FIRST_OVERHEAD) == DP_OK);
        return put_over(FIRST, data, size);
    }
    if (what & 4) {
        CHECK(dp_session_seal(pair.side[0].session, packet, sizeof packet, nonce, noise, BODY, 0) ==
              DP_OK);
        memcpy(again, packet, SEALED);
        put_over(SEALED, data, size);
        *genuine = memcmp(again, packet, SEALED) == 0;
        return SEALED;
    }
    size = size < sizeof packet ? size : sizeof packet;
    memcpy(packet, data, size);
    if (what & 1 && size > DP_PACKET_NONCE_LEN)
        packet_mask(packet, size - DP_PACKET_NONCE_LEN, keys);
    return size;
}

/* Opened, it is the genuine one, and only once. */
static void check_session(const struct dp_packet *header, const uint8_t *plain, size_t len,
                          int genuine) {
    size_t body = 0, body_len = 0;
    dp_session *session = pair.side[1].session;
    for (int turn = 0; turn < 2; turn++) {
        memcpy(again, plain, len);
        int rc = dp_session_open(session, header, again, len, &body, &body_len);
        CHECK((rc == DP_OK) == (genuine && turn == 0));
        CHECK(rc == DP_OK || rc == DP_E_AUTH || rc == DP_E_NONCE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t plain[DP_PACKET_MAX + 1], cookie[DP_COOKIE_LEN];
    struct dp_packet header;
    int genuine;
    if (size == 0)
        return 0;
    size_t len = compose(data[0], data + 1, size - 1, &genuine);
    memcpy(plain, packet, len);
    CHECK(dp_packet_retry_open(cookie, pair.side[1].keys, pair.side[0].spk, packet, len) != DP_OK);
    int rc = dp_packet_parse(&header, pair.side[1].keys, plain, len);
    CHECK(rc == DP_OK || !genuine);
    if (rc != DP_OK) {
        CHECK(rc == DP_E_SIZE || rc == DP_E_FRAME || rc == DP_E_AUTH);
        return 0;
    }
    CHECK(header.payload_len < len && header.payload + header.payload_len == len);
    check_built(&header, packet, plain, len);
    if (header.kind == DP_PACKET_SEALED)
        check_session(&header, plain, len, genuine);
    return 0;
}
