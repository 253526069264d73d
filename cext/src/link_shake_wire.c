/* Lengths and headers of handshake messages. */
#include <sodium.h>
#include <string.h>

#include "bytes.h"
#include "link_shake.h"
#include "node.h"

enum { NAME = DP_TICKET_NAME_LEN, TAG = DP_TAG_LEN, STATIC = SEALED_STATIC };

#define FIRST(name, overhead) {true, DP_KEY_LEN, name, overhead, 0, overhead, FIRST_REST_MAX}
#define LATER(lead, overhead, padding) \
    {true, lead, 0, overhead, padding, (overhead) + PAYLOAD_FIXED, REST_MAX}

/* Padding makes up for the static key that IK and NNpsk0 do not send in messages 2 and 3. */
static const struct shake_shape SHAPES[SHAKE_MESSAGES][SHAKE_MODES] = {
    {
        [SHAKE_XX] = FIRST(0, 0),
        [SHAKE_IK] = FIRST(0, STATIC + TAG),
        [SHAKE_RESUME] = FIRST(NAME, NAME + TAG),
    },
    {
        [SHAKE_XX] = LATER(DP_KEY_LEN, STATIC + TAG, 0),
        [SHAKE_IK] = LATER(DP_KEY_LEN, TAG, STATIC),
        [SHAKE_RESUME] = LATER(DP_KEY_LEN, TAG, STATIC),
        [SHAKE_FALLBACK] = LATER(DP_KEY_LEN, STATIC + TAG, 0),
    },
    {
        [SHAKE_XX] = LATER(0, STATIC + TAG, 0),
        [SHAKE_IK] = LATER(0, TAG, STATIC),
        [SHAKE_RESUME] = LATER(0, TAG, STATIC),
        [SHAKE_FALLBACK] = LATER(0, STATIC + TAG, 0),
    },
};

const struct shake_shape *shake_shape(uint8_t message, uint8_t mode) {
    return message < SHAKE_MESSAGES && mode < SHAKE_MODES && SHAPES[message][mode].exists
               ? &SHAPES[message][mode]
               : NULL;
}

/* mask = BLAKE2b keyed with the network, of the message's number and the ephemerals so far. */
static void mask(const struct link *link, const uint8_t *lead, uint8_t header[SHAKE_HEADER]) {
    const struct shake *shake = link->shake;
    uint8_t input[1 + 2 * DP_KEY_LEN] = {(uint8_t)(shake->message + 1)};
    uint8_t bytes[crypto_generichash_BYTES_MIN];
    size_t len = 1;
    for (uint8_t i = 0; i < 2 && i <= shake->message; i++, len += DP_KEY_LEN)
        memcpy(input + len, i == shake->message ? lead : shake->ephemerals[i], DP_KEY_LEN);
    crypto_generichash(bytes, sizeof bytes, input, len, link->node->network_key, DP_KEY_LEN);
    for (size_t i = 0; i < SHAKE_HEADER; i++)
        header[i] ^= bytes[i];
}

void shake_put_header(const struct link *link, const uint8_t *lead, uint8_t out[SHAKE_HEADER],
                      uint8_t mode, size_t rest) {
    out[0] = mode;
    store16(out + 1, (uint16_t)rest);
    mask(link, lead, out);
}

void shake_get_header(const struct link *link, const uint8_t *lead, const uint8_t in[SHAKE_HEADER],
                      uint8_t *mode, size_t *rest) {
    uint8_t header[SHAKE_HEADER];
    memcpy(header, in, sizeof header);
    mask(link, lead, header);
    *mode = header[0];
    *rest = load16(header + 1);
}

void shake_keep_ephemeral(struct link *link, const uint8_t *lead) {
    if (link->shake->message < 2)
        memcpy(link->shake->ephemerals[link->shake->message], lead, DP_KEY_LEN);
}
