/* Packets of discovery and the sessions that seal them (docs/spec/discovery.md, 1 to 3). UDP carries
 * them, so they come in any order, twice, changed, or not at all, and each stands for itself.
 */
#ifndef DP2P_PACKET_H
#define DP2P_PACKET_H

#include "dp2p_base.h"
#include "dp2p_noise.h"

/* cdef:begin */

enum dp_packet_kind {
    DP_PACKET_FIRST = 1,  /* message 1 of a handshake, with or without a cookie */
    DP_PACKET_SECOND = 2, /* message 2 */
    DP_PACKET_SEALED = 3  /* all that follows */
};

enum {
    DP_PACKET_MAX = 1280,
    DP_PACKET_NONCE_LEN = 12,      /* random bytes in front of every packet */
    DP_PACKET_FIRST_MIN = 300,     /* a message 1 is never smaller, */
    DP_PACKET_ANSWER_MAX = 299,    /* and what answers it is never as large */
    DP_PACKET_FIRST_OVERHEAD = 45, /* beside the Noise message */
    DP_PACKET_SECOND_OVERHEAD = 17,
    DP_PACKET_SEALED_PAYLOAD = 25,  /* where the sealed part begins */
    DP_PACKET_SEALED_OVERHEAD = 43, /* beside body and padding */
    DP_PACKET_RETRY_OVERHEAD = 44,  /* beside padding */
    DP_PACKET_BODY_MAX = 1237,
    DP_PACKET_KEYS_LEN = 64,
    DP_COOKIE_LEN = 16,
    DP_REPLAY_WINDOW = 2048 /* packets that may be late */
};

/* out = what masks packets to the owner of an Ed25519 key in a network: 32 bytes to mask with and 32
 * to check a message 1 with. Secret to who knows neither the network nor the key. */
int dp_packet_keys(uint8_t out[64], const uint8_t network_key[32], const uint8_t public_key[32]);

/* What a packet's header says; `payload` is where the Noise message or the sealed part begins. */
struct dp_packet {
    int kind;           /* enum dp_packet_kind */
    uint32_t index;     /* SECOND, SEALED: the session, by the number that its receiver gave it */
    uint64_t counter;   /* SEALED */
    uint8_t cookie[16]; /* FIRST; zero without one */
    size_t payload, payload_len;
};

/* Unmask a packet in place, by the receiver's own keys. What is no packet for the owner of `keys` is
 * left unreadable. Errors: DP_E_SIZE, DP_E_FRAME (no packet of ours), DP_E_AUTH (a message 1 that was
 * changed or made without knowing the keys). */
int dp_packet_parse(struct dp_packet *out, const uint8_t keys[64], uint8_t *packet, size_t len);

/* The packets of a handshake, around a Noise message, to the owner of `keys`. Errors: DP_E_SIZE, also
 * when the packet would break the bounds that its kind has. */
int dp_packet_first(uint8_t *out, size_t out_cap, const uint8_t keys[64], const uint8_t nonce[12],
                    const uint8_t cookie[16], const uint8_t *noise, size_t noise_len);
int dp_packet_second(uint8_t *out, size_t out_cap, const uint8_t keys[64], const uint8_t nonce[12],
                     uint32_t index, const uint8_t *noise, size_t noise_len);

/* A cookie for who sent message 1 with the ephemeral key `e` to the owner of `keys`; nobody else can
 * make or read it who did not see that message. `padding`: zero bytes behind the cookie. Errors:
 * DP_E_SIZE; for opening also DP_E_AUTH. */
int dp_packet_retry(uint8_t *out, size_t out_cap, const uint8_t keys[64], const uint8_t e[32],
                    const uint8_t nonce[12], const uint8_t cookie[16], size_t padding);
int dp_packet_retry_open(uint8_t cookie[16], const uint8_t keys[64], const uint8_t e[32],
                         const uint8_t *packet, size_t len);

/* The state that sessions share. Outlives them; not shared between threads. */
typedef struct dp_sealer dp_sealer;

/* `provider`: as in dp_aead_seal. Errors: DP_E_PROVIDER, DP_E_MEMORY. */
int dp_sealer_new(dp_sealer **out, const char *provider);
void dp_sealer_free(dp_sealer *sealer);

/* One session: a key and a counter to send with, a key and a window against repetition to receive
 * with. */
typedef struct dp_session dp_session;

/* Take the keys out of a handshake that was split. `keys`: those of the other side, which it gave
 * the session the number `index`. Errors: DP_E_STATE, DP_E_MEMORY. */
int dp_session_new(dp_session **out, dp_sealer *sealer, dp_handshake *split, const uint8_t keys[64],
                   uint32_t index);

/* Wipes; NULL is allowed. */
void dp_session_free(dp_session *session);

/* The packet with `body` and `padding` zero bytes behind it; it has body_len + padding +
 * DP_PACKET_SEALED_OVERHEAD bytes. Errors: DP_E_SIZE; DP_E_NONCE when the session is used up. */
int dp_session_seal(dp_session *session, uint8_t *out, size_t out_cap, const uint8_t nonce[12],
                    const uint8_t *body, size_t body_len, size_t padding);

/* Open a packet of kind SEALED, which dp_packet_parse has unmasked, in place. Errors: DP_E_NONCE (it
 * came before, or is too old to tell, or is beyond the last counter), DP_E_AUTH, DP_E_FRAME (it is
 * genuine but says more than it holds; it counts as received). After DP_E_NONCE and DP_E_AUTH the
 * session is as it was. */
int dp_session_open(dp_session *session, const struct dp_packet *header, uint8_t *packet,
                    size_t len, size_t *body, size_t *body_len);

/* cdef:end */
#endif
