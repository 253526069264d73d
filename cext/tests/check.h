/* CHECK(condition): print where it failed and leave with status 1. A test's main() runs its cases
 * and ends with `return check_report();`. */
#ifndef DP2P_CHECK_H
#define DP2P_CHECK_H

#include <stdio.h>
#include <stdlib.h>

static unsigned long check_count;

static inline void check_that(int ok, const char *condition, const char *file, int line) {
    check_count++;
    if (ok)
        return;
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, condition);
    exit(1);
}

static inline int check_report(void) {
    printf("%lu checks passed\n", check_count);
    return 0;
}

#define CHECK(condition) check_that((condition) ? 1 : 0, #condition, __FILE__, __LINE__)

/* Inside a table loop: says which row failed. */
#define CHECK_ROW(row, condition)                             \
    do {                                                      \
        int check_ok = (condition) ? 1 : 0;                   \
        if (!check_ok)                                        \
            fprintf(stderr, "row %d: ", (int)(row));          \
        check_that(check_ok, #condition, __FILE__, __LINE__); \
    } while (0)

#endif
