/* The random bytes of one message, from one call of the operating system instead of one for each
 * draw: peers see some of them, as padding, and one of them is an ephemeral key. They live only as long
 * as the call that writes the message, so that after a fork no two processes have the same. */
#ifndef DP2P_DRAWS_H
#define DP2P_DRAWS_H

#include "dp2p_base.h"

enum { DRAWS_MAX = 1024 };

struct draws {
    uint8_t bytes[DRAWS_MAX]; /* secret: each wiped when it is taken; those left are at the end */
    size_t left;
};

/* Have `len` random bytes ready, at most DRAWS_MAX. */
void draws_begin(struct draws *draws, size_t len);
/* A dp_random_fn whose context is a struct draws. What is not ready comes from the operating system. */
void draws_take(void *context, uint8_t *out, size_t len);
/* Wipe what was not taken. */
void draws_end(struct draws *draws);

#endif
