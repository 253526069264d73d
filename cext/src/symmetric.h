/* SymmetricState of the Noise Protocol Framework, section 5.2, with BLAKE2b. */
#ifndef DP2P_SYMMETRIC_H
#define DP2P_SYMMETRIC_H

#include "cipher.h"

/* HKDF (Noise 4.3; RFC 5869), of which each output is made when it is asked for. */
struct hkdf {
    uint8_t temp[DP_HASH_LEN]; /* secret: the key of all outputs */
    uint8_t last[DP_HASH_LEN]; /* secret: the latest output */
    uint8_t count;             /* of outputs so far */
};

/* MixKey and MixKeyAndHash end with a cipher key that often nobody uses, because the next of them
 * follows at once. So it is left in `due`, as its next output, until a cipher operation needs it. */
struct symmetric_state {
    struct cipher_state cipher; /* secret; outdated while a key is due */
    struct hkdf due;            /* secret; of no meaning while no key is due */
    bool key_due;
    uint8_t ck[DP_HASH_LEN]; /* secret */
    uint8_t h[DP_HASH_LEN];
};

/* InitializeSymmetric(protocol_name). */
void symmetric_init(struct symmetric_state *ss, const char *protocol_name);

void symmetric_mix_hash(struct symmetric_state *ss, const uint8_t *data, size_t len);
void symmetric_mix_key(struct symmetric_state *ss, const uint8_t ikm[DP_KEY_LEN]);
void symmetric_mix_key_and_hash(struct symmetric_state *ss, const uint8_t ikm[DP_KEY_LEN]);

bool symmetric_has_key(const struct symmetric_state *ss);
/* Bytes that the next encryption adds: a tag, or nothing while there is no key. */
size_t symmetric_tag_len(const struct symmetric_state *ss);

/* EncryptAndHash and DecryptAndHash: out[len + tag] and out[len - tag]. `out` may equal `in`.
 * Errors: as cipher_seal and cipher_open; then the state is as it was. */
int symmetric_seal(struct symmetric_state *ss, struct aead *aead, uint8_t *out, const uint8_t *in,
                   size_t len);
int symmetric_open(struct symmetric_state *ss, struct aead *aead, uint8_t *out, const uint8_t *in,
                   size_t len);

/* Split(): c1 is for what the initiator sends, c2 for what the responder sends. `secret`, when not
 * NULL, gets one output more of the same HKDF, from which a later handshake can be keyed. */
void symmetric_split(const struct symmetric_state *ss, struct cipher_state *c1,
                     struct cipher_state *c2, uint8_t secret[DP_KEY_LEN]);

#endif
