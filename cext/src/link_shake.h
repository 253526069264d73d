/* The handshake on the wire (docs/spec/wire.md, "Handshake"): the link_shake.c that goes through it and
 * what it is made of.
 *
 *   messages 1 and 2:  ephemeral (32) | header (3, masked) | rest
 *   message 3:                          header (3, masked) | rest
 *
 * The header is the mode and the length of the rest. */
#ifndef DP2P_LINK_SHAKE_H
#define DP2P_LINK_SHAKE_H

#include "handshake.h"
#include "link.h"

enum {
    SHAKE_HEADER = 3,
    SHAKE_MESSAGES = 3,
    TOP_BIT = 0x80,      /* of an ephemeral's last byte: random on the wire, no part of the key */
    FIRST_REST_MIN = 96, /* ours: what a first message has behind its header, */
    FIRST_REST_CHOICES = 512, /* drawn evenly from so many lengths in every mode */
    FIRST_REST_MAX = 768,     /* of any node's first message */
    ADDRESS_SIZE = 19,        /* family 1 | address 16 | port 2 */
    PAYLOAD_FIXED = DP_KEY_LEN + ADDRESS_SIZE + 2, /* key | seen | length of the hello */
    PADDING_DRAWN_MAX = 255,
    SEALED_STATIC = DP_KEY_LEN + DP_TAG_LEN,
    PADDING_MAX = SEALED_STATIC + PADDING_DRAWN_MAX,
    PAYLOAD_MAX = PAYLOAD_FIXED + DP_HELLO_MAX + PADDING_MAX,
    REST_MAX = PAYLOAD_MAX + SEALED_STATIC + DP_TAG_LEN,
    DRAWS_LATER = 1 + DP_KEY_LEN + 1, /* length of the padding, key, its TOP_BIT */
    DRAWS_FIRST = 1 + DRAWS_LATER + FIRST_REST_MIN + FIRST_REST_CHOICES /* and the padding */
};

/* As on the wire; the first three are enum dp_mode. */
enum shake_mode { SHAKE_XX, SHAKE_IK, SHAKE_RESUME, SHAKE_FALLBACK, SHAKE_MODES };

/* Where a responder is with the ticket that a first message names. */
enum ticket_state { TICKET_NONE, TICKET_ASKED, TICKET_KNOWN, TICKET_UNKNOWN };

/* Only while shaking hands; freed afterwards. */
struct shake {
    struct handshake noise;            /* secret; unset in a responder that has not read the mode */
    uint8_t ephemerals[2][DP_KEY_LEN]; /* initiator's, responder's; as on the wire */
    uint8_t message;                   /* index of the next one */
    uint8_t mode;                      /* enum shake_mode */
    uint8_t ticket_state;              /* enum ticket_state */
    bool pinned, has_answered;
    uint8_t known[DP_KEY_LEN];     /* Ed25519 key that this side relies on: of a dial or a ticket */
    uint8_t proved[DP_KEY_LEN];    /* static key that the handshake proved */
    uint8_t answered[DP_KEY_LEN];  /* Ed25519 key that the peer has proved to have */
    uint8_t ticket[DP_TICKET_LEN]; /* secret: name and psk */
    struct cipher_state tx, rx;    /* secret: once the Noise handshake is over */
};

/* What a message of a mode is made of. */
struct shake_shape {
    bool exists;
    uint8_t lead;     /* bytes in front of the header: the ephemeral key */
    uint8_t name;     /* bytes of the rest in front of the Noise message */
    uint8_t overhead; /* bytes of the rest that are not payload, `name` included */
    uint8_t padding;  /* of the payload, beside what is drawn */
    uint16_t rest_min, rest_max;
};

/* What was read of a payload. `hello` points into it. */
struct shake_payload {
    const uint8_t *key, *hello;
    size_t hello_len;
    struct dp_address seen;
};

/* --- link_shake_wire.c: lengths and headers --- */
const struct shake_shape *shake_shape(uint8_t message, uint8_t mode);
/* header = (mode, rest) masked; `lead` is the ephemeral of a message that begins with one. */
void shake_put_header(const struct link *link, const uint8_t *lead, uint8_t out[SHAKE_HEADER],
                      uint8_t mode, size_t rest);
void shake_get_header(const struct link *link, const uint8_t *lead, const uint8_t in[SHAKE_HEADER],
                      uint8_t *mode, size_t *rest);
/* Note the ephemeral that the current message began with. */
void shake_keep_ephemeral(struct link *link, const uint8_t *lead);

/* --- link_shake_payload.c --- */
/* The payload of the current message; out[PAYLOAD_MAX]. Returns its length. */
size_t shake_put_payload(const struct link *link, uint8_t *out);
/* Errors: DP_E_SIZE. */
int shake_get_payload(const uint8_t *in, size_t len, struct shake_payload *out);
/* Whether the payload's key is the one that the handshake, and who asked for it, stand for.
 * Errors: DP_E_IDENTITY. */
int shake_check_identity(struct shake *shake, bool initiator, const uint8_t key[DP_KEY_LEN]);

/* --- link_shake_ticket.c --- */
/* Tell the node which ticket the first message names. Errors: DP_E_MEMORY. */
int shake_ask_ticket(struct link *link, const uint8_t name[DP_TICKET_NAME_LEN]);

#endif
