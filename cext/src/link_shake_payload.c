/* What handshake messages carry, and whose it is. */
#include <string.h>

#include "bytes.h"
#include "dp2p_identity.h"
#include "link_shake.h"
#include "node.h"

static void put_address(uint8_t *out, const struct dp_address *a) {
    out[0] = a->family;
    memcpy(out + 1, a->ip, sizeof a->ip);
    store16(out + 17, a->port);
}

/* Random, because in XX it is not encrypted. */
static size_t put_first(const struct link *link, uint8_t *out, const struct shake_shape *shape) {
    uint8_t draw[2];
    node_random(link->node, draw, sizeof draw);
    size_t len = FIRST_REST_MIN + load16(draw) % FIRST_REST_CHOICES - shape->overhead;
    node_random(link->node, out, len);
    return len;
}

size_t shake_put_payload(const struct link *link, uint8_t *out) {
    const struct dp_node *node = link->node;
    const struct shake_shape *shape = shake_shape(link->shake->message, link->shake->mode);
    if (link->shake->message == 0)
        return put_first(link, out, shape);
    uint8_t draw;
    node_random(node, &draw, sizeof draw);
    size_t len = PAYLOAD_FIXED + node->hello_len, padding = (size_t)shape->padding + draw;
    memcpy(out, node->public_key, DP_KEY_LEN);
    put_address(out + DP_KEY_LEN, &link->remote);
    store16(out + DP_KEY_LEN + ADDRESS_SIZE, (uint16_t)node->hello_len);
    if (node->hello_len)
        memcpy(out + PAYLOAD_FIXED, node->hello, node->hello_len);
    memset(out + len, 0, padding);
    return len + padding;
}

int shake_get_payload(const uint8_t *in, size_t len, struct shake_payload *out) {
    if (len < PAYLOAD_FIXED)
        return DP_E_SIZE;
    const uint8_t *seen = in + DP_KEY_LEN;
    out->key = in;
    out->seen = (struct dp_address){.family = seen[0], .port = load16(seen + 17)};
    memcpy(out->seen.ip, seen + 1, sizeof out->seen.ip);
    out->hello = in + PAYLOAD_FIXED;
    out->hello_len = load16(in + DP_KEY_LEN + ADDRESS_SIZE);
    return out->hello_len <= DP_HELLO_MAX && out->hello_len <= len - PAYLOAD_FIXED ? DP_OK
                                                                                   : DP_E_SIZE;
}

/* Which keys are compared. A psk proves the key that it was agreed with; elsewhere a static key was
 * proved, and the side that dialled by key wants that very key, not its negative. */
int shake_check_identity(struct shake *shake, bool initiator, const uint8_t key[DP_KEY_LEN]) {
    bool is_known = memcmp(key, shake->known, DP_KEY_LEN) == 0;
    if (shake->mode == SHAKE_RESUME)
        return is_known ? DP_OK : DP_E_IDENTITY;
    if (!dp_identity_matches(key, shake->proved))
        return DP_E_IDENTITY;
    memcpy(shake->answered, key, DP_KEY_LEN);
    shake->has_answered = true;
    bool must_be_known = initiator && (shake->mode == SHAKE_IK || shake->pinned);
    return is_known || !must_be_known ? DP_OK : DP_E_IDENTITY;
}
