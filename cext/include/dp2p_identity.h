/* The node's Ed25519 key and what is derived from it (docs/spec/wire.md, "Identity"). */
#ifndef DP2P_IDENTITY_H
#define DP2P_IDENTITY_H

#include "dp2p_base.h"

/* cdef:begin */

/* Call once before anything else; DP_E_STATE when libsodium cannot start. */
int dp_init(void);

/* public_key = the Ed25519 public key of `seed` (secret). */
int dp_identity_public(uint8_t public_key[32], const uint8_t seed[32]);

/* The X25519 private key that belongs to an Ed25519 seed; `out` is secret. */
int dp_identity_static(uint8_t out[32], const uint8_t seed[32]);

/* The X25519 public key of an Ed25519 public key. DP_E_KEY when it is no valid point of the main
 * subgroup. */
int dp_identity_static_public(uint8_t out[32], const uint8_t public_key[32]);

/* Whether `static_public` is the X25519 public key that belongs to an Ed25519 public key: one field
 * equation instead of a conversion. Says nothing of the key's order; a key and its negative match
 * alike. Public values: not constant time. */
bool dp_identity_matches(const uint8_t public_key[32], const uint8_t static_public[32]);

/* out = BLAKE2b-256(public_key). */
int dp_node_id(uint8_t out[32], const uint8_t public_key[32]);

/* BLAKE2b with a digest of out_len bytes (16 to 64), optionally keyed (key_len 0 to 64). */
int dp_blake2b(uint8_t *out, size_t out_len, const uint8_t *in, size_t in_len, const uint8_t *key,
               size_t key_len);

/* Ed25519 detached signatures over `message`; verification fails with DP_E_AUTH. */
int dp_sign(uint8_t signature[64], const uint8_t *message, size_t message_len,
            const uint8_t seed[32]);
int dp_verify(const uint8_t signature[64], const uint8_t *message, size_t message_len,
              const uint8_t public_key[32]);

/* Cryptographic random bytes from the operating system. */
void dp_random_bytes(uint8_t *out, size_t len);

/* Overwrite `len` bytes in a way that the compiler may not remove. */
void dp_wipe(uint8_t *bytes, size_t len);

/* cdef:end */
#endif
