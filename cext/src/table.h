/* Handles for objects that Python and applications name by number.
 *
 * A handle is generation (32 bits) and index (32 bits); a stale one finds nothing. The short form has
 * 12 and 20 bits, for records. Freed indices wait in line, so short handles come back late too. */
#ifndef DP2P_TABLE_H
#define DP2P_TABLE_H

#include "dp2p.h"

struct table_slot {
    void *object;        /* NULL when free */
    uint32_t generation; /* of the object, or of the next one */
    uint32_t next_free;
};

struct table {
    struct table_slot *slots;
    uint32_t capacity; /* slots allocated */
    uint32_t used;     /* slots ever used */
    uint32_t limit;    /* objects at most */
    uint32_t count;
    uint32_t free_head, free_tail; /* valid when free_count > 0 */
    uint32_t free_count;
};

void table_init(struct table *table, uint32_t limit);
void table_free(struct table *table);
/* Errors: DP_E_LIMIT, DP_E_MEMORY. */
int table_add(struct table *table, void *object, uint64_t *handle);
void *table_get(const struct table *table, uint64_t handle);
void *table_get_short(const struct table *table, uint32_t handle);
void table_remove(struct table *table, uint64_t handle);
uint32_t table_short(uint64_t handle);

#endif
