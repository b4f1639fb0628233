/* What the fuzzers have in common: checks that no build leaves out, and a feed on private memory.
 *
 * Input is one byte that chooses, then a frame. It lies in memory of its very size, so
 * AddressSanitizer sees any byte that is read beside it. Include this before a decoder's .c: then
 * what that claims is checked too. RIG_DEPTH is the ring's. */
#ifndef MDSYS_FUZZ_RIG_H
#define MDSYS_FUZZ_RIG_H

#include <stdio.h>
#include <stdlib.h>

#include "feed.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "violated: %s\n", #condition);                                         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A frame may claim a quarter of the ring at once, no more: readers behind it are not lapped. */
static inline struct md_slot *checked_claim(struct md_ring_writer *writer, uint64_t seq) {
    CHECK(seq >= writer->next && seq - writer->next < (writer->mask + 1) / 4);
    return md_ring_claim(writer, seq);
}
#define md_ring_claim checked_claim

#define RIG_SYMBOLS_MAX 3u

struct rig {
    struct md_slot slots[RIG_DEPTH];
    struct md_ring_header header;
    struct md_ring_writer ring;
    struct md_counter_block counters;
    struct md_cell cells[RIG_SYMBOLS_MAX];
    struct md_connection connection;
    struct md_feed feed;
    uint32_t symbol_count;
};

static void rig_open(struct rig *rig) {
    memset(rig, 0, sizeof *rig);
    rig->ring = (struct md_ring_writer){.slots = rig->slots,
                                        .mask = RIG_DEPTH - 1,
                                        .next = 1,
                                        .limit = MD_NO_LIMIT,
                                        .header = &rig->header};
    rig->connection = (struct md_connection){.number = 3, .socket = 1};
    CHECK(md_feed_init(&rig->feed, &rig->ring, 1, &rig->counters, RIG_SYMBOLS_MAX) == 0);
}

/* Symbols are numbered from 1 on, their cells from 0 on. */
static void rig_add(
    struct rig *rig, const char *name, size_t name_size, uint8_t price_scale, uint8_t size_scale) {
    uint32_t i = rig->symbol_count++;
    CHECK(i < RIG_SYMBOLS_MAX);
    CHECK(md_feed_add_symbol(
              &rig->feed, name, name_size, i + 1, 0, price_scale, size_scale, &rig->cells[i]) == 0);
}

/* Records in the ring. */
static inline uint64_t rig_count(const struct rig *rig) {
    return rig->ring.next - 1;
}

/* Whether the last record of all ends a frame. */
static inline bool rig_ends_frame(const struct rig *rig) {
    const struct md_slot *last = &rig->slots[rig_count(rig) & (RIG_DEPTH - 1)];
    return last->seq == rig_count(rig) && (last->word[2] >> 40 & MD_FLAG_LAST) != 0;
}

/* A copy whose end is where readable memory ends. */
static char *exact_copy(const uint8_t *data, size_t size) {
    char *copy = malloc(size);
    CHECK(copy != NULL || size == 0);
    if (size != 0) { /* data may be NULL then */
        memcpy(copy, data, size);
    }
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
