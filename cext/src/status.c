#include <stddef.h>

#include "dp2p_base.h"

/* Indexed by -status. */
static const char *const NAMES[] = {
    [-DP_OK] = "ok",
    [-DP_E_ARGUMENT] = "argument",
    [-DP_E_MEMORY] = "memory",
    [-DP_E_STATE] = "state",
    [-DP_E_SIZE] = "size",
    [-DP_E_AUTH] = "auth",
    [-DP_E_KEY] = "key",
    [-DP_E_NONCE] = "nonce",
    [-DP_E_IDENTITY] = "identity",
    [-DP_E_FRAME] = "frame",
    [-DP_E_SEGMENT] = "segment",
    [-DP_E_CHANNEL] = "channel",
    [-DP_E_CREDIT] = "credit",
    [-DP_E_DATAGRAM] = "datagram",
    [-DP_E_REKEY] = "rekey",
    [-DP_E_TIMEOUT] = "timeout",
    [-DP_E_LIMIT] = "limit",
    [-DP_E_IO] = "io",
    [-DP_E_EOF] = "eof",
    [-DP_E_CLOSED] = "closed",
    [-DP_E_BATCH] = "batch",
    [-DP_E_PROVIDER] = "provider",
};

enum { NAME_COUNT = sizeof NAMES / sizeof NAMES[0] };

const char *dp_status_name(int status) {
    if (status > 0 || status <= -NAME_COUNT || NAMES[-status] == NULL)
        return "unknown";
    return NAMES[-status];
}
