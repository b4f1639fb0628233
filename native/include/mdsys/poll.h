/* Reading several rings at once, with a filter: what a consumer's loop calls. */
#ifndef MDSYS_POLL_H
#define MDSYS_POLL_H

#include "mdsys/ring.h"

/* A consumer's view of its rings. One thread's. */
struct md_poller {
    struct md_ring_reader *readers;
    uint32_t reader_count; /* in [1, MD_RING_COUNT_MAX] */
    uint32_t turn; /* the reader that comes first at the next poll, so that all are served */
    const uint64_t *wanted; /* bitmap over symbol ids; NULL: everything */
    uint64_t wanted_count;  /* bits in it */
    uint64_t received;      /* handed out */
    uint64_t filtered;      /* read and not wanted */
};

/* The price of a filter: one bit. A status passes when it concerns the whole ring or a wanted
 * symbol, so that no reader misses what it must know. */
static inline int md_poller_wants(const struct md_poller *poller, uint32_t symbol_id) {
    return symbol_id == MD_SYMBOL_WHOLE_RING ||
           (symbol_id < poller->wanted_count &&
            (poller->wanted[symbol_id / 64] >> (symbol_id % 64) & 1) != 0);
}

/* Keep what is wanted of count records, in place and in order. Returns how many are left. */
static inline uint64_t
md_poller_filter(const struct md_poller *poller, struct md_record *records, uint64_t count) {
    uint64_t kept = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (md_poller_wants(poller, records[i].symbol_id)) {
            if (kept != i) {
                records[kept] = records[i];
            }
            kept++;
        }
    }
    return kept;
}

/* Copy up to count new records of all rings into out; a ring's own order is kept, rings follow one
 * another. Returns how many, in [0, count]; 0: nothing new that is wanted, after at most a whole
 * ring of what is not. Of its rings, since their readers began: received + filtered + lost ==
 * published. */
static inline uint64_t
md_poller_read(struct md_poller *poller, struct md_record *out, uint64_t count) {
    uint64_t n = 0;
    uint32_t turn = poller->turn;
    for (uint32_t i = 0; i < poller->reader_count && n < count; i++) {
        struct md_ring_reader *reader = &poller->readers[turn];
        turn = turn + 1 == poller->reader_count ? 0 : turn + 1;
        uint64_t passed_over = 0;
        while (n < count && passed_over <= reader->mask) {
            uint64_t got = md_reader_read(reader, out + n, count - n);
            if (got == 0) {
                break;
            }
            if (poller->wanted == NULL) {
                n += got;
                break;
            }
            uint64_t kept = md_poller_filter(poller, out + n, got);
            poller->filtered += got - kept;
            passed_over += got - kept;
            n += kept;
        }
    }
    poller->turn = turn;
    poller->received += n;
    return n;
}

#endif
