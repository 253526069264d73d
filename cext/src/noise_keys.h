/* What a finished handshake leaves to its transport, for code that never sees the handshake itself. */
#ifndef DP2P_NOISE_KEYS_H
#define DP2P_NOISE_KEYS_H

#include "cipher.h"
#include "dp2p_noise.h"

/* Move the transport keys, both secret, out of a handshake that was split; it can then seal and open
 * nothing more. Errors: DP_E_STATE before the split, and when they were taken already. */
int noise_take_keys(dp_handshake *split, struct cipher_state *tx, struct cipher_state *rx);

#endif
