/* HandshakeState of the Noise Protocol Framework, section 5.3, for 25519_ChaChaPoly_BLAKE2b. */
#ifndef DP2P_HANDSHAKE_H
#define DP2P_HANDSHAKE_H

#include "cipher.h"
#include "patterns.h"
#include "symmetric.h"

struct handshake_config {
    enum dp_pattern pattern;
    bool initiator;
    struct aead *aead;
    const uint8_t *prologue;
    size_t prologue_len;
    const uint8_t *s;    /* X25519 static private key, or NULL when the pattern has none; secret */
    const uint8_t *spk;  /* its public key, which saves deriving it; NULL = derive */
    const uint8_t *rs;   /* the peer's X25519 static public key when known beforehand, or NULL */
    const uint8_t *re;   /* for XXfallback's responder: from the first message, which it refused */
    const uint8_t *psk;  /* pre-shared key for psk patterns, or NULL; secret */
    dp_random_fn random; /* makes the ephemeral private key */
    void *random_context;
};

struct handshake {
    struct symmetric_state symmetric;
    struct aead *aead; /* borrowed */
    dp_random_fn random;
    void *random_context;
    enum dp_pattern pattern;
    bool initiator;
    uint8_t message;       /* index of the next message in the pattern */
    uint8_t s[DP_KEY_LEN]; /* secret */
    uint8_t spk[DP_KEY_LEN];
    uint8_t e[DP_KEY_LEN]; /* secret */
    uint8_t epk[DP_KEY_LEN];
    uint8_t rs[DP_KEY_LEN];
    uint8_t re[DP_KEY_LEN];
    uint8_t psk[DP_KEY_LEN]; /* secret */
    bool has_s, has_e, has_rs, has_re, has_psk;
};

/* Initialize(). A static key that the pattern has no use for is not kept. XXfallback can be started
 * by a responder that did not even try the first message; others get there by handshake_fallback.
 * Errors: DP_E_ARGUMENT for a missing key, and for XXfallback's initiator. */
int handshake_start(struct handshake *hs, const struct handshake_config *config);

/* Turn an IK or NNpsk0 handshake, whose first message was sent or received, into XXfallback: what
 * was the initiator's ephemeral key becomes a pre-message, and the *responder* writes the next
 * message (XXfallback's first). `initiator` keeps meaning who opened the connection. Of `config`
 * the pattern, initiator, rs and psk are ignored. The responder passes the first 32 bytes of the
 * refused first message as `re`, or NULL when that message was read but its payload refused. The
 * initiator passes NULL. Commits only on success.
 * Errors: DP_E_STATE (another pattern, too early or too late), DP_E_ARGUMENT. */
int handshake_fallback(struct handshake *hs, const struct handshake_config *config,
                       const uint8_t *re);

/* WriteMessage: out = the next message carrying `payload`. Commits only on success; what a failed
 * call wrote to `out` is wiped. `out` must not overlap `payload`.
 * Errors: DP_E_STATE when it is not our turn, DP_E_SIZE when out_cap is too small or the message
 * would exceed 65535 bytes, DP_E_KEY. */
int handshake_write(struct handshake *hs, uint8_t *out, size_t out_cap, size_t *out_len,
                    const uint8_t *payload, size_t payload_len);

/* ReadMessage: out = the payload of `message`. Commits only on success: a handshake that refused a
 * message is as it was before it, whole (rs and re included). `out` needs
 * message_len - handshake_overhead() bytes, must not overlap `message`, and is wiped on DP_E_AUTH.
 * Errors: DP_E_STATE, DP_E_SIZE (truncated, or out_cap too small), DP_E_AUTH, DP_E_KEY (low order). */
int handshake_read(struct handshake *hs, uint8_t *out, size_t out_cap, size_t *out_len,
                   const uint8_t *message, size_t message_len);

/* Bytes that the next message adds to its payload; 0 when there is none. */
size_t handshake_overhead(const struct handshake *hs);
bool handshake_finished(const struct handshake *hs);
bool handshake_our_turn(const struct handshake *hs);

/* Split(): `tx` and `rx` as seen from this side; `hash` is the channel binding h, `secret` (or NULL)
 * what a later session can be keyed with. Then wipe `hs`. Errors: DP_E_STATE before the last message. */
int handshake_split(struct handshake *hs, struct cipher_state *tx, struct cipher_state *rx,
                    uint8_t hash[DP_HASH_LEN], uint8_t secret[DP_KEY_LEN]);

void handshake_wipe(struct handshake *hs);

#endif
