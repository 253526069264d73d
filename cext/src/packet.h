/* What the files of packets share: the place of a header's fields, and the mask over them. */
#ifndef DP2P_PACKET_INTERNAL_H
#define DP2P_PACKET_INTERNAL_H

#include "dp2p_packet.h"

enum { PACKET_HEADER = DP_PACKET_NONCE_LEN + 1 }; /* behind nonce and kind */

/* Mask, or unmask, `len` bytes behind the nonce of `packet`, in place. */
void packet_mask(uint8_t *packet, size_t len, const uint8_t keys[DP_PACKET_KEYS_LEN]);

#endif
