/* Two sides of a handshake, joined in memory, with repeatable keys. For the Noise tests and the
 * handshake's fuzz target. */
#ifndef DP2P_NOISE_PAIR_H
#define DP2P_NOISE_PAIR_H

#include <sodium.h>
#include <string.h>

#include "handshake.h"

/* Index of a side: who opened the connection, and who accepted it. */
enum { INITIATOR = 0, RESPONDER = 1 };

struct noise_side {
    struct handshake hs;
    struct handshake_config config;
    uint64_t drawn; /* the repeatable random source's counter */
    uint8_t s[DP_KEY_LEN], spk[DP_KEY_LEN];
};

struct noise_pair {
    struct noise_side side[2];
    uint8_t psk[DP_KEY_LEN];
};

static inline void noise_pair_random(void *context, uint8_t *out, size_t len) {
    struct noise_side *side = context;
    uint8_t seed[randombytes_SEEDBYTES] = {0};
    side->drawn++;
    memcpy(seed, &side->drawn, sizeof side->drawn);
    seed[31] = side->config.initiator;
    randombytes_buf_deterministic(out, len, seed);
}

/* Keys and configurations of both sides; nothing is started. */
static inline void noise_pair_keys(struct noise_pair *pair, enum dp_pattern pattern,
                                   struct aead *aead) {
    memset(pair, 0, sizeof *pair);
    memset(pair->psk, 0x33, sizeof pair->psk);
    for (int i = 0; i < 2; i++) {
        struct noise_side *side = &pair->side[i];
        memset(side->s, 0x11 + i, sizeof side->s);
        crypto_scalarmult_base(side->spk, side->s);
        side->config = (struct handshake_config){
            .pattern = pattern,
            .initiator = i == INITIATOR,
            .aead = aead,
            .prologue = (const uint8_t *)"prologue",
            .prologue_len = 8,
            .s = side->s,
            .spk = side->spk,
            .rs = i == INITIATOR ? pair->side[RESPONDER].spk : NULL,
            .psk = pair->psk,
            .random = noise_pair_random,
            .random_context = side,
        };
    }
}

/* Start both sides; false when one refuses. */
static inline bool noise_pair_start(struct noise_pair *pair) {
    for (int i = 0; i < 2; i++)
        if (handshake_start(&pair->side[i].hs, &pair->side[i].config) != DP_OK)
            return false;
    return true;
}

/* Whose turn it is. */
static inline int noise_pair_writer(const struct noise_pair *pair) {
    return handshake_our_turn(&pair->side[INITIATOR].hs) ? INITIATOR : RESPONDER;
}

#endif
