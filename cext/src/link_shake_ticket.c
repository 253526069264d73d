/* Tickets: what a handshake leaves for the next one, and asking whose the named one is. */
#include <sodium.h>
#include <string.h>

#include "dp2p_identity.h"
#include "link_shake.h"
#include "node.h"

static const char LABEL[] = "dp2p ticket"; /* its last byte, 0, becomes the direction */

/* For the next connection that is opened by this one's initiator, or by its responder. */
enum direction { BY_INITIATOR = 1, BY_RESPONDER = 2 };

/* T(d) = BLAKE2b(digest 48, key `secret`, LABEL | d). */
static int derive(uint8_t out[DP_TICKET_LEN], const uint8_t secret[DP_KEY_LEN], enum direction d) {
    uint8_t input[sizeof LABEL];
    memcpy(input, LABEL, sizeof LABEL);
    input[sizeof LABEL - 1] = (uint8_t)d;
    return dp_blake2b(out, DP_TICKET_LEN, input, sizeof input, secret, DP_KEY_LEN);
}

void link_forget_secret(struct link *link) {
    sodium_memzero(link->secret, sizeof link->secret);
    link->has_secret = false;
}

int dp_link_tickets(dp_node *node, uint64_t handle, uint8_t dial[48], uint8_t accept[48]) {
    struct link *link = table_get(&node->links, handle);
    if (!link)
        return DP_E_ARGUMENT;
    if (link->state != DP_LINK_READY || !link->has_secret)
        return DP_E_STATE;
    int rc = derive(dial, link->secret, link->initiator ? BY_INITIATOR : BY_RESPONDER);
    if (rc == DP_OK)
        rc = derive(accept, link->secret, link->initiator ? BY_RESPONDER : BY_INITIATOR);
    link_forget_secret(link);
    return rc;
}

int shake_ask_ticket(struct link *link, const uint8_t name[DP_TICKET_NAME_LEN]) {
    struct dp_event event = {.kind = DP_EVENT_TICKET, .link = link->handle};
    if (!node_event(link->node, &event, name, DP_TICKET_NAME_LEN))
        return DP_E_MEMORY;
    link->shake->ticket_state = TICKET_ASKED;
    return DP_OK;
}

int dp_link_ticket(dp_node *node, uint64_t handle, const uint8_t *psk, const uint8_t *key) {
    struct link *link = table_get(&node->links, handle);
    if (!link || !psk != !key)
        return DP_E_ARGUMENT;
    struct shake *shake = link->shake;
    if (!shake || shake->ticket_state != TICKET_ASKED)
        return DP_E_STATE;
    shake->ticket_state = psk ? TICKET_KNOWN : TICKET_UNKNOWN;
    if (psk) {
        memcpy(shake->ticket + DP_TICKET_NAME_LEN, psk, DP_KEY_LEN);
        memcpy(shake->known, key, DP_KEY_LEN);
    }
    if (node->on_resume)
        node->on_resume(link);
    return DP_OK;
}
