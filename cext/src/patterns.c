#include "patterns.h"

#include <stddef.h>

#define E              TOKEN_E
#define S              TOKEN_S
#define EE             TOKEN_EE
#define ES             TOKEN_ES
#define SE             TOKEN_SE
#define SS             TOKEN_SS
#define PSK            TOKEN_PSK
#define END            TOKEN_END
#define PROTOCOL(name) "Noise_" name "_25519_ChaChaPoly_BLAKE2b"

/* clang-format off */
static const struct pattern PATTERNS[DP_PATTERN_COUNT] = {
    [DP_PATTERN_XX] = {
        .name = "XX", .protocol = PROTOCOL("XX"), .message_count = 3,
        .messages = { { E, END },              /* -> e            */
                      { E, EE, S, ES, END },   /* <- e, ee, s, es */
                      { S, SE, END } },        /* -> s, se        */
    },
    [DP_PATTERN_IK] = {
        .name = "IK", .protocol = PROTOCOL("IK"), .message_count = 2,
        .falls_back = true,
        .pre_responder = S,                    /* <- s            */
        .messages = { { E, ES, S, SS, END },   /* -> e, es, s, ss */
                      { E, EE, SE, END } },    /* <- e, ee, se    */
    },
    [DP_PATTERN_NNPSK0] = {
        .name = "NNpsk0", .protocol = PROTOCOL("NNpsk0"), .message_count = 2,
        .falls_back = true, .psk = true,
        .messages = { { PSK, E, END },         /* -> psk, e       */
                      { E, EE, END } },        /* <- e, ee        */
    },
    [DP_PATTERN_XXFALLBACK] = {
        .name = "XXfallback", .protocol = PROTOCOL("XXfallback"), .message_count = 2,
        .pre_initiator = E,                    /* -> e            */
        .responder_first = true,
        .messages = { { E, EE, S, ES, END },   /* <- e, ee, s, es */
                      { S, SE, END } },        /* -> s, se        */
    },
};
/* clang-format on */

const struct pattern *pattern_get(int pattern) {
    return pattern >= 0 && pattern < DP_PATTERN_COUNT ? &PATTERNS[pattern] : NULL;
}

bool pattern_writes(const struct pattern *pattern, bool initiator, uint8_t message) {
    bool initiators = (message % 2 == 0) != pattern->responder_first;
    return initiators == initiator;
}

const char *dp_pattern_name(int pattern) {
    const struct pattern *found = pattern_get(pattern);
    return found ? found->name : NULL;
}
