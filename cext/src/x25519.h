/* X25519 public keys (RFC 7748), faster than by its ladder. */
#ifndef DP2P_X25519_H
#define DP2P_X25519_H

#include "dp2p_base.h"

/* out = X25519(scalar, 9), which is what crypto_scalarmult_base gives. `scalar` is secret. */
void x25519_base(uint8_t out[32], const uint8_t scalar[32]);

#endif
