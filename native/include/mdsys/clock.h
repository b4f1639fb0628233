/* The two clocks: ns of CLOCK_REALTIME since the epoch, as in records, and of CLOCK_MONOTONIC. */
#ifndef MDSYS_CLOCK_H
#define MDSYS_CLOCK_H

#include <stdint.h>
#include <time.h>

#ifndef CLOCK_MONOTONIC
#error "needs POSIX.1-2008: compile with -std=gnu17 or -D_POSIX_C_SOURCE=200809L"
#endif

static inline int64_t md_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t md_realtime_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
