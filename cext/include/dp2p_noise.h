/* Noise handshakes and the AEAD as a small opaque API, for vectors, for differential tests and for
 * callers that need a handshake without a link. The link itself uses src/handshake.h.
 */
#ifndef DP2P_NOISE_H
#define DP2P_NOISE_H

#include "dp2p_base.h"

/* cdef:begin */

/* Handshake patterns of the suite 25519_ChaChaPoly_BLAKE2b (src/patterns.c). */
enum dp_pattern {
    DP_PATTERN_XX = 0,
    DP_PATTERN_IK = 1,
    DP_PATTERN_NNPSK0 = 2,
    DP_PATTERN_XXFALLBACK = 3, /* reached by dp_handshake_fallback only */
    DP_PATTERN_COUNT = 4
};

/* "XX", "IK", "NNpsk0", "XXfallback"; NULL for anything else. */
const char *dp_pattern_name(int pattern);

/* One handshake and, once it is split, its transport ciphers. Not shared between threads. */
typedef struct dp_handshake dp_handshake;

/* Every pointer is read during the call only. Keys are 32 bytes; NULL where the pattern has none. */
struct dp_handshake_config {
    int pattern; /* enum dp_pattern */
    bool initiator;
    const char *provider; /* AEAD, as in dp_aead_seal */
    const uint8_t *prologue;
    size_t prologue_len;
    const uint8_t *s;   /* own X25519 private key; secret */
    const uint8_t *spk; /* its public key, which saves deriving it; NULL = derive */
    const uint8_t *rs;  /* the peer's X25519 public key, when known beforehand */
    const uint8_t *psk; /* secret */
    const uint8_t *e;   /* ephemeral private key for vectors; NULL = random; secret */
};

/* Errors: DP_E_ARGUMENT (a key that the pattern needs is missing, unknown pattern), DP_E_MEMORY,
 * DP_E_PROVIDER. */
int dp_handshake_new(dp_handshake **out, const struct dp_handshake_config *config);

/* Wipes; NULL is allowed. */
void dp_handshake_free(dp_handshake *handshake);

/* The responder refused the first message of IK or NNpsk0: both sides go on with XXfallback, whose
 * first message the responder writes. `config` gives prologue, s and, for vectors, e; its pattern,
 * provider, rs and psk are ignored and `initiator` stays what it was. The responder passes the
 * first 32 bytes of the refused message as `re`; the initiator passes NULL.
 * Errors: DP_E_STATE, DP_E_ARGUMENT. */
int dp_handshake_fallback(dp_handshake *handshake, const struct dp_handshake_config *config,
                          const uint8_t *re);

/* The next message with `payload`, and the payload of the next message; as handshake_write and
 * handshake_read. `out` must not overlap the input. Errors: DP_E_STATE, DP_E_SIZE, DP_E_AUTH,
 * DP_E_KEY. */
int dp_handshake_write(dp_handshake *handshake, uint8_t *out, size_t out_cap, size_t *out_len,
                       const uint8_t *payload, size_t payload_len);
int dp_handshake_read(dp_handshake *handshake, uint8_t *out, size_t out_cap, size_t *out_len,
                      const uint8_t *message, size_t message_len);

/* Bytes that the next message adds to its payload; 0 when there is no next message. */
size_t dp_handshake_overhead(const dp_handshake *handshake);
bool dp_handshake_finished(const dp_handshake *handshake);
bool dp_handshake_our_turn(const dp_handshake *handshake);

/* The peer's static public key. DP_E_STATE while it is unknown. */
int dp_handshake_remote_static(const dp_handshake *handshake, uint8_t out[32]);

/* Split(). The ciphers stay inside; `hash` is the channel binding.
 * Errors: DP_E_STATE before the last message, and when it was split already. */
int dp_handshake_split(dp_handshake *handshake, uint8_t hash[64]);

/* Transport messages with empty associated data, after the split: out[len + 16] and out[len - 16].
 * `out` may equal `in`. A refused message moves no nonce. Errors: DP_E_STATE, DP_E_SIZE, DP_E_AUTH,
 * DP_E_NONCE. */
int dp_handshake_seal(dp_handshake *handshake, uint8_t *out, size_t out_cap, const uint8_t *in,
                      size_t len);
int dp_handshake_open(dp_handshake *handshake, uint8_t *out, size_t out_cap, const uint8_t *in,
                      size_t len);

/* Rekey of the sending and of the receiving cipher (Noise 11.3). DP_E_STATE before the split. */
int dp_handshake_rekey_tx(dp_handshake *handshake);
int dp_handshake_rekey_rx(dp_handshake *handshake);

/* The provider that "auto" or NULL takes. */
const char *dp_aead_default(void);

/* The name of built-in provider number `index`, fastest first; NULL past the last. */
const char *dp_aead_provider(size_t index);

/* One-shot ChaCha20-Poly1305: out[len + 16] and out[len - 16], as aead_seal and aead_open.
 * `provider`: a name, or NULL or "auto". Errors: DP_E_PROVIDER, DP_E_MEMORY, DP_E_SIZE, DP_E_AUTH. */
int dp_aead_seal(const char *provider, const uint8_t key[32], uint64_t nonce, const uint8_t *ad,
                 size_t ad_len, uint8_t *out, size_t out_cap, const uint8_t *in, size_t len);
int dp_aead_open(const char *provider, const uint8_t key[32], uint64_t nonce, const uint8_t *ad,
                 size_t ad_len, uint8_t *out, size_t out_cap, const uint8_t *in, size_t len);

/* cdef:end */
#endif
