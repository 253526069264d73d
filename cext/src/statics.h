/* X25519 keys of peers dialled lately: converting an Ed25519 key costs as much as a DH. */
#ifndef DP2P_STATICS_H
#define DP2P_STATICS_H

#include "dp2p_identity.h"

enum { STATICS = 256 };

/* Each key has one place, by its first byte; who comes later takes it. */
struct statics {
    struct {
        bool used;
        uint8_t key[DP_KEY_LEN], static_public[DP_KEY_LEN];
    } places[STATICS];
};

/* As dp_identity_static_public. */
int statics_get(struct statics *statics, uint8_t out[DP_KEY_LEN], const uint8_t key[DP_KEY_LEN]);

#endif
