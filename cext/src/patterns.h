/* Handshake patterns as data: Noise sections 7, 9 and 10. */
#ifndef DP2P_PATTERNS_H
#define DP2P_PATTERNS_H

#include "dp2p_noise.h"

enum token { TOKEN_END = 0, TOKEN_E, TOKEN_S, TOKEN_EE, TOKEN_ES, TOKEN_SE, TOKEN_SS, TOKEN_PSK };

enum { PATTERN_MESSAGES = 3, PATTERN_TOKENS = 5 };

struct pattern {
    const char *name;
    const char *protocol; /* protocol_name of section 8 */
    uint8_t
        pre_initiator; /* what the responder knows beforehand: TOKEN_E, _S, or _END for nothing */
    uint8_t pre_responder; /* likewise, what the initiator knows */
    bool psk;              /* a psk handshake: e is mixed into the key too (section 9.2) */
    bool responder_first;  /* the responder writes messages[0] (section 10.2) */
    bool falls_back;       /* its first message may be answered by XXfallback */
    uint8_t message_count;
    uint8_t messages[PATTERN_MESSAGES][PATTERN_TOKENS]; /* each ends with TOKEN_END */
};

/* NULL when there is none. */
const struct pattern *pattern_get(int pattern);

/* Whether `initiator`'s side writes message number `message`. */
bool pattern_writes(const struct pattern *pattern, bool initiator, uint8_t message);

#endif
