/* Status codes, sizes and the random source that every part of the extension shares.
 *
 * Regions between "cdef:begin" and "cdef:end" are also read by cext/build.py as cffi
 * declarations, so they hold plain declarations only.
 */
#ifndef DP2P_BASE_H
#define DP2P_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* cdef:begin */

/* Every function that can fail returns DP_OK or one of the negative codes. A function that
 * fails leaves its outputs and its state as they were, unless its comment says otherwise. */
enum dp_status {
    DP_OK = 0,
    DP_E_ARGUMENT = -1, /* the caller broke the contract of the call */
    DP_E_MEMORY = -2,   /* allocation failed */
    DP_E_STATE = -3,    /* the call does not fit the object's state */
    DP_E_SIZE = -4,     /* a length is out of bounds, or a buffer is too small */
    DP_E_AUTH = -5,     /* an authentication tag did not verify */
    DP_E_KEY = -6,      /* a public key is invalid or of low order */
    DP_E_NONCE = -7,    /* a nonce would repeat */
    DP_E_IDENTITY = -8, /* the peer's identity key is not the one its handshake proved,
                             or not the one that was asked for */
    DP_E_FRAME = -9,    /* a frame is malformed */
    DP_E_SEGMENT = -10, /* a segment is malformed or unknown */
    DP_E_CHANNEL = -11, /* a segment or batch names a channel that does not exist */
    DP_E_CREDIT = -12,  /* more was sent than the receiver had granted */
    DP_E_DATAGRAM =
        -13,          /* a datagram exceeds its declared size or types, or its pieces do not fit */
    DP_E_REKEY = -14, /* the peer used one key for longer than allowed */
    DP_E_TIMEOUT = -15, /* a deadline passed */
    DP_E_LIMIT = -16,   /* a cap of this node is reached */
    DP_E_IO = -17,      /* the operating system refused; errno says why */
    DP_E_EOF = -18,     /* the peer closed the connection */
    DP_E_CLOSED = -19,  /* the peer closed with a reason of its own */
    DP_E_BATCH = -20,   /* an application's batch is malformed */
    DP_E_PROVIDER = -21 /* this AEAD provider was not built in */
};

enum {
    DP_KEY_LEN = 32,    /* X25519, Ed25519 public, cipher and pre-shared keys */
    DP_SEED_LEN = 32,   /* Ed25519 seed */
    DP_TAG_LEN = 16,    /* Poly1305 */
    DP_HASH_LEN = 64,   /* BLAKE2b */
    DP_NODE_ID_LEN = 32 /* BLAKE2b-256 of the Ed25519 public key */
};

/* Fills `out` with `len` bytes. Injected, so that tests and simulations are repeatable. */
typedef void (*dp_random_fn)(void *context, uint8_t *out, size_t len);

/* The name of a status code in lower case ("auth", "credit"), for logs; never NULL. */
const char *dp_status_name(int status);

/* cdef:end */
#endif
