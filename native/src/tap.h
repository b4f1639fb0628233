/* Rings in private memory whose records go somewhere else at once: what a replay in this process
 * publishes into. The decoders cannot tell them from real ones, down to the frames that go out in
 * pieces: a full ring asks its `wait`, and here that empties it. */
#ifndef MDSYS_TAP_H
#define MDSYS_TAP_H

#include <stdlib.h>

#include "feed.h"

/* Where the records go. */
struct md_sink {
    struct md_record *records;
    size_t count;
    size_t capacity;
    const uint64_t *symbols; /* bit i: records of symbol i are wanted; NULL: all are */
    uint64_t symbols_size;   /* bits */
    bool open;               /* else nothing is wanted */
    bool failed;             /* there was no memory */
};

struct md_tap {
    struct md_ring_header header; /* first: a writer knows only this */
    struct md_sink *sink;
    uint64_t drained;   /* up to this sequence, exclusive */
    uint64_t published; /* records in all */
    uint64_t left; /* records that the ring really got, of those to come; UINT64_MAX: unknown */
    bool wanted;
};

static inline bool
md_sink_wants(const struct md_sink *sink, const struct md_tap *tap, uint64_t tag) {
    uint32_t symbol_id = (uint32_t)tag;
    return sink->open && tap->wanted &&
           (sink->symbols == NULL || (tag >> 32 & 0xff) == MD_KIND_STATUS ||
            (symbol_id < sink->symbols_size &&
             (sink->symbols[symbol_id / 64] >> (symbol_id % 64) & 1) != 0));
}

static inline bool md_sink_grow(struct md_sink *sink) {
    size_t capacity = sink->capacity == 0 ? 4096 : 2 * sink->capacity;
    struct md_record *records = realloc(sink->records, capacity * sizeof *records);
    if (records == NULL) {
        sink->failed = true;
        return false;
    }
    sink->records = records;
    sink->capacity = capacity;
    return true;
}

/* Pass on what has been published. */
static inline void md_tap_drain(struct md_ring_writer *writer) {
    struct md_tap *tap = (struct md_tap *)(void *)writer->header;
    struct md_sink *sink = tap->sink;
    tap->published += writer->next - tap->drained;
    for (; tap->drained != writer->next; tap->drained++) {
        if (tap->left == 0) { /* its writer was killed before it came so far */
            tap->drained = writer->next;
            break;
        }
        tap->left -= tap->left != UINT64_MAX;
        const struct md_slot *slot = md_ring_slot(writer, tap->drained);
        if (md_sink_wants(sink, tap, slot->word[2]) &&
            (sink->count < sink->capacity || md_sink_grow(sink))) {
            struct md_record *out = &sink->records[sink->count++];
            out->seq = 0;
            memcpy(&out->ts_event, slot->word, sizeof slot->word);
        }
    }
    writer->limit = writer->next + writer->mask + 1 - 2 * MD_CLAIM_AHEAD;
}

/* Between two frames: begin at the front again, where the memory is warm. */
static inline void md_tap_rewind(struct md_ring_writer *writer) {
    md_tap_drain(writer);
    writer->next = 1;
    ((struct md_tap *)(void *)writer->header)->drained = 1;
    writer->limit = writer->mask + 2 - 2 * MD_CLAIM_AHEAD;
}

static inline void md_tap_wait(struct md_ring_writer *writer, uint64_t seq) {
    (void)seq;
    md_tap_drain(writer);
}

/* Make a ring of so many slots, a power of 2 of at least 64. Returns 0, or -1 without memory. */
static inline int
md_tap_create(struct md_ring_writer *writer, uint64_t depth, struct md_sink *sink) {
    struct md_tap *tap = aligned_alloc(64, (sizeof *tap + 63) / 64 * 64);
    struct md_slot *slots = aligned_alloc(64, depth * sizeof *slots);
    if (tap == NULL || slots == NULL) {
        free(tap);
        free(slots);
        return -1;
    }
    memset(tap, 0, sizeof *tap);
    tap->sink = sink;
    tap->drained = 1;
    tap->left = UINT64_MAX;
    tap->wanted = true;
    *writer = (struct md_ring_writer){
        .slots = slots, .mask = depth - 1, .next = 1, .header = &tap->header, .wait = md_tap_wait};
    md_tap_drain(writer); /* sets the limit */
    return 0;
}

static inline void md_tap_destroy(struct md_ring_writer *writer) {
    free(writer->header);
    free(writer->slots);
    writer->header = NULL;
    writer->slots = NULL;
}

#endif
