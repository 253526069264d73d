/* Two nodes of one network that have shaken hands: what tests and fuzzers of packets begin with. */
#ifndef DP2P_PACKET_PAIR_H
#define DP2P_PACKET_PAIR_H

#include <stdlib.h>
#include <string.h>

#include "dp2p_identity.h"
#include "dp2p_packet.h"

struct packet_side {
    uint8_t public_key[DP_KEY_LEN], keys[DP_PACKET_KEYS_LEN], s[DP_KEY_LEN], spk[DP_KEY_LEN];
    dp_handshake *handshake;
    dp_session *session; /* number i + 7 at side i */
};

/* Side 0 is the initiator. */
struct packet_pair {
    struct packet_side side[2];
    dp_sealer *sealer;
};

static inline void packet_require(int ok) {
    if (!ok)
        abort();
}

static inline void packet_pair_keys(struct packet_pair *pair, const char *provider) {
    uint8_t network[DP_KEY_LEN] = {9};
    memset(pair, 0, sizeof *pair);
    packet_require(dp_sealer_new(&pair->sealer, provider) == DP_OK);
    for (int i = 0; i < 2; i++) {
        struct packet_side *side = &pair->side[i];
        uint8_t seed[DP_SEED_LEN] = {(uint8_t)(i + 1)};
        packet_require(dp_identity_public(side->public_key, seed) == DP_OK);
        packet_require(dp_identity_static(side->s, seed) == DP_OK);
        packet_require(dp_identity_static_public(side->spk, side->public_key) == DP_OK);
        packet_require(dp_packet_keys(side->keys, network, side->public_key) == DP_OK);
    }
}

static inline void packet_pair_shake(struct packet_pair *pair) {
    uint8_t message[512], payload[512], hash[DP_HASH_LEN];
    for (int i = 0; i < 2; i++) {
        struct dp_handshake_config config = {
            .pattern = DP_PATTERN_IK,
            .initiator = i == 0,
            .s = pair->side[i].s,
            .rs = i == 0 ? pair->side[1].spk : NULL,
        };
        packet_require(dp_handshake_new(&pair->side[i].handshake, &config) == DP_OK);
    }
    for (int from = 0; from < 2; from++) {
        size_t len, got;
        packet_require(dp_handshake_write(pair->side[from].handshake, message, sizeof message, &len,
                                          NULL, 0) == DP_OK);
        packet_require(dp_handshake_read(pair->side[1 - from].handshake, payload, sizeof payload,
                                         &got, message, len) == DP_OK);
    }
    for (int i = 0; i < 2; i++)
        packet_require(dp_handshake_split(pair->side[i].handshake, hash) == DP_OK);
}

static inline void packet_pair_sessions(struct packet_pair *pair) {
    for (int i = 0; i < 2; i++) {
        struct packet_side *other = &pair->side[1 - i];
        packet_require(dp_session_new(&pair->side[i].session, pair->sealer, pair->side[i].handshake,
                                      other->keys, (uint32_t)(1 - i + 7)) == DP_OK);
    }
}

static inline void packet_pair_free(struct packet_pair *pair) {
    for (int i = 0; i < 2; i++) {
        dp_session_free(pair->side[i].session);
        dp_handshake_free(pair->side[i].handshake);
    }
    dp_sealer_free(pair->sealer);
}

#endif
