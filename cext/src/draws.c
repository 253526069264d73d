#include "draws.h"

#include <sodium.h>
#include <string.h>

/* From a fresh seed by ChaCha20, as the operating system would do it, but without its cost for every
 * block: a first message has some hundred bytes of padding. */
void draws_begin(struct draws *draws, size_t len) {
    uint8_t seed[randombytes_SEEDBYTES]; /* secret: wiped below */
    draws_end(draws);
    randombytes_buf(seed, sizeof seed);
    randombytes_buf_deterministic(draws->bytes + DRAWS_MAX - len, len, seed);
    sodium_memzero(seed, sizeof seed);
    draws->left = len;
}

void draws_take(void *context, uint8_t *out, size_t len) {
    struct draws *draws = context;
    if (len > draws->left) {
        randombytes_buf(out, len);
        return;
    }
    uint8_t *at = draws->bytes + DRAWS_MAX - draws->left;
    memcpy(out, at, len);
    sodium_memzero(at, len);
    draws->left -= len;
}

void draws_end(struct draws *draws) {
    sodium_memzero(draws->bytes + DRAWS_MAX - draws->left, draws->left);
    draws->left = 0;
}
