/* Sessions: the counter of a packet is its nonce, the header its associated data. The plaintext is
 * length (2) | body | padding. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "aead.h"
#include "bytes.h"
#include "noise_keys.h"
#include "packet.h"
#include "replay.h"

enum { BODY_AT = DP_PACKET_SEALED_PAYLOAD + 2 };

/* Far beyond what an hour can hold, far below what the AEAD allows. */
#define SESSION_PACKETS_MAX (UINT64_C(1) << 32)

_Static_assert(BODY_AT + DP_TAG_LEN == DP_PACKET_SEALED_OVERHEAD, "layout of SEALED");
_Static_assert((int)DP_PACKET_SEALED_PAYLOAD == (int)PACKET_HEADER + 4 + 8, "header of SEALED");
_Static_assert(DP_PACKET_MAX - DP_PACKET_SEALED_OVERHEAD == DP_PACKET_BODY_MAX, "room for a body");

struct dp_sealer {
    struct aead *aead;
};

struct dp_session {
    struct aead *aead;                /* the sealer's */
    uint8_t tx[DP_KEY_LEN];           /* secret */
    uint8_t rx[DP_KEY_LEN];           /* secret */
    uint64_t sent;                    /* the counter of the next packet */
    struct replay replay;             /* of what was received */
    uint8_t keys[DP_PACKET_KEYS_LEN]; /* the other side's, to mask with */
    uint32_t index;                   /* the other side's number of the session */
};

int dp_sealer_new(dp_sealer **out, const char *provider) {
    struct dp_sealer *sealer = calloc(1, sizeof *sealer);
    if (sealer == NULL)
        return DP_E_MEMORY;
    int rc = aead_new(&sealer->aead, provider);
    if (rc != DP_OK) {
        free(sealer);
        return rc;
    }
    *out = sealer;
    return DP_OK;
}

void dp_sealer_free(dp_sealer *sealer) {
    if (sealer == NULL)
        return;
    aead_free(sealer->aead);
    free(sealer);
}

int dp_session_new(dp_session **out, dp_sealer *sealer, dp_handshake *split,
                   const uint8_t keys[DP_PACKET_KEYS_LEN], uint32_t index) {
    struct cipher_state tx, rx; /* secret: wiped below */
    struct dp_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return DP_E_MEMORY;
    int rc = noise_take_keys(split, &tx, &rx);
    if (rc != DP_OK) {
        free(session);
        return rc;
    }
    session->aead = sealer->aead;
    memcpy(session->tx, tx.k, DP_KEY_LEN);
    memcpy(session->rx, rx.k, DP_KEY_LEN);
    memcpy(session->keys, keys, DP_PACKET_KEYS_LEN);
    session->index = index;
    sodium_memzero(&tx, sizeof tx);
    sodium_memzero(&rx, sizeof rx);
    *out = session;
    return DP_OK;
}

void dp_session_free(dp_session *session) {
    if (session == NULL)
        return;
    sodium_memzero(session, sizeof *session);
    free(session);
}

int dp_session_seal(dp_session *session, uint8_t *out, size_t out_cap,
                    const uint8_t nonce[DP_PACKET_NONCE_LEN], const uint8_t *body, size_t body_len,
                    size_t padding) {
    if (body_len > DP_PACKET_BODY_MAX || padding > DP_PACKET_BODY_MAX - body_len ||
        out_cap < DP_PACKET_SEALED_OVERHEAD + body_len + padding)
        return DP_E_SIZE;
    if (session->sent >= SESSION_PACKETS_MAX)
        return DP_E_NONCE;
    memcpy(out, nonce, DP_PACKET_NONCE_LEN);
    out[DP_PACKET_NONCE_LEN] = DP_PACKET_SEALED;
    store32(out + PACKET_HEADER, session->index);
    store64(out + PACKET_HEADER + 4, session->sent);
    uint8_t *plain = out + DP_PACKET_SEALED_PAYLOAD;
    store16(plain, (uint16_t)body_len);
    if (body_len > 0)
        memcpy(out + BODY_AT, body, body_len);
    memset(out + BODY_AT + body_len, 0, padding);
    int rc = aead_seal(session->aead, session->tx, session->sent, out, DP_PACKET_SEALED_PAYLOAD,
                       plain, plain, 2 + body_len + padding);
    if (rc != DP_OK)
        return rc;
    session->sent++;
    packet_mask(out, DP_PACKET_SEALED_PAYLOAD - DP_PACKET_NONCE_LEN, session->keys);
    return DP_OK;
}

int dp_session_open(dp_session *session, const struct dp_packet *header, uint8_t *packet,
                    size_t len, size_t *body, size_t *body_len) {
    if (header->kind != DP_PACKET_SEALED || header->payload != DP_PACKET_SEALED_PAYLOAD ||
        len < DP_PACKET_SEALED_OVERHEAD || header->payload_len != len - DP_PACKET_SEALED_PAYLOAD)
        return DP_E_ARGUMENT;
    if (header->counter >= SESSION_PACKETS_MAX ||
        !replay_is_fresh(&session->replay, header->counter))
        return DP_E_NONCE;
    uint8_t *sealed = packet + DP_PACKET_SEALED_PAYLOAD;
    int rc = aead_open(session->aead, session->rx, header->counter, packet,
                       DP_PACKET_SEALED_PAYLOAD, sealed, sealed, header->payload_len);
    if (rc != DP_OK)
        return rc;
    replay_take(&session->replay, header->counter);
    size_t said = load16(sealed);
    if (said > len - DP_PACKET_SEALED_OVERHEAD)
        return DP_E_FRAME;
    *body = BODY_AT;
    *body_len = said;
    return DP_OK;
}
