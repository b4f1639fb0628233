/* A handler in C: counts records by kind. state: 32 64-bit words. For tests/consumer_program.py. */
#include "mdsys/consumer.h"

uint64_t count_kinds(const struct md_record *records, uint64_t count, void *state);

uint64_t count_kinds(const struct md_record *records, uint64_t count, void *state) {
    uint64_t *counts = (uint64_t *)state;
    for (uint64_t i = 0; i < count; i++) {
        counts[records[i].kind & 31]++;
    }
    return count;
}
