#include "replay.h"

#include <string.h>

static uint64_t bit_of(uint64_t counter) {
    return UINT64_C(1) << (counter % REPLAY_WORD_BITS);
}

static size_t word_of(uint64_t counter) {
    return (size_t)(counter / REPLAY_WORD_BITS % REPLAY_WORDS);
}

bool replay_is_fresh(const struct replay *replay, uint64_t counter) {
    if (counter == UINT64_MAX)
        return false;
    if (counter >= replay->next)
        return true;
    if (replay->next - counter > DP_REPLAY_WINDOW)
        return false;
    return (replay->words[word_of(counter)] & bit_of(counter)) == 0;
}

/* Clear the words between that of the highest counter so far and that of `counter`, its own too. */
static void move_on(struct replay *replay, uint64_t counter) {
    uint64_t last = replay->next == 0 ? 0 : (replay->next - 1) / REPLAY_WORD_BITS;
    uint64_t words = counter / REPLAY_WORD_BITS - last;
    if (words >= REPLAY_WORDS)
        memset(replay->words, 0, sizeof replay->words);
    else
        for (uint64_t word = 1; word <= words; word++)
            replay->words[(last + word) % REPLAY_WORDS] = 0;
    replay->next = counter + 1;
}

void replay_take(struct replay *replay, uint64_t counter) {
    if (counter >= replay->next)
        move_on(replay, counter);
    replay->words[word_of(counter)] |= bit_of(counter);
}
