/* A sliding window over counters that come in any order: each is accepted once, and none that is older
 * than the window. A ring of bits, as RFC 6479 has it: moving on clears whole words and shifts nothing. */
#ifndef DP2P_REPLAY_H
#define DP2P_REPLAY_H

#include <stdbool.h>

#include "dp2p_packet.h"

/* One word more than the window, so that the oldest counters never share a word with the newest. */
enum { REPLAY_WORD_BITS = 64, REPLAY_WORDS = DP_REPLAY_WINDOW / REPLAY_WORD_BITS + 1 };

/* All zero is a window that has seen nothing. */
struct replay {
    uint64_t next; /* one more than the highest counter that was taken */
    uint64_t words[REPLAY_WORDS];
};

/* Whether `counter` is neither taken nor too old. UINT64_MAX never is fresh. */
bool replay_is_fresh(const struct replay *replay, uint64_t counter);

/* Take `counter`, which must be fresh. */
void replay_take(struct replay *replay, uint64_t counter);

#endif
