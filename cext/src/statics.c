#include "statics.h"

#include <string.h>

int statics_get(struct statics *statics, uint8_t out[DP_KEY_LEN], const uint8_t key[DP_KEY_LEN]) {
    uint8_t at = key[0];
    if (!statics->places[at].used || memcmp(statics->places[at].key, key, DP_KEY_LEN) != 0) {
        uint8_t static_public[DP_KEY_LEN];
        int rc = dp_identity_static_public(static_public, key);
        if (rc != DP_OK)
            return rc;
        statics->places[at].used = true;
        memcpy(statics->places[at].key, key, DP_KEY_LEN);
        memcpy(statics->places[at].static_public, static_public, DP_KEY_LEN);
    }
    memcpy(out, statics->places[at].static_public, DP_KEY_LEN);
    return DP_OK;
}
