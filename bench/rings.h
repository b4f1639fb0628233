/* What the benches of rings with several readers share: rings, one known record, and a parent that
 * leads its children through phases.
 *
 *     parent, the writer                children, the readers
 *     what = ..., number + 1   ---->    wake, prepare
 *     waits for all            <----    ready + 1
 *     measures                          read
 *     over = 1                 ---->    count, check
 *     waits for all            <----    finished + 1, sleep until the next number
 *
 * Children sleep between phases on a futex, so that those who have no part in a phase take no core.
 */
#ifndef MDSYS_BENCH_RINGS_H
#define MDSYS_BENCH_RINGS_H

#include "bench.h"

#include "mdsys/bell.h"
#include "mdsys/poll.h"
#include "mdsys/ring.h"
#include "segment.h"

#define BENCH_STOP UINT32_MAX
#define BENCH_HEARTBEAT_NS INT64_C(50000000) /* an idle feed flushes this often */

struct bench_phase {
    alignas(64) uint32_t number; /* futex */
    uint32_t what;               /* BENCH_STOP ends the children */
    uint32_t argument;
    alignas(64) uint32_t over; /* futex, and the stop word of readers that park */
    alignas(64) uint32_t ready;
    alignas(64) uint32_t finished;
};

static inline void bench_futex_wait(const uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, 0, value, NULL, NULL, 0);
}

static inline void bench_await(const uint32_t *word, uint32_t count) {
    uint32_t now;
    while ((now = md_load_acquire_u32(word)) < count) {
        bench_futex_wait(word, now);
    }
}

static inline void bench_add(uint32_t *word) {
    __atomic_add_fetch(word, 1, __ATOMIC_ACQ_REL);
    md_waiter_wake(word);
}

/* Parent: begin a phase and wait until count children are ready. */
static inline void
bench_begin(struct bench_phase *phase, uint32_t what, uint32_t argument, uint32_t count) {
    phase->what = what;
    phase->argument = argument;
    phase->over = phase->ready = phase->finished = 0;
    bench_add(&phase->number);
    bench_await(&phase->ready, count);
}

/* Parent: tell the children that it is over and wait until count of them have finished. */
static inline void bench_end(struct bench_phase *phase, uint32_t count) {
    bench_add(&phase->over);
    bench_await(&phase->finished, count);
}

/* Child: wait for the phase after *seen. Returns false when there is none. */
static inline bool bench_next(struct bench_phase *phase, uint32_t *seen) {
    bench_futex_wait(&phase->number, *seen);
    while (md_load_acquire_u32(&phase->number) == *seen) {
        bench_futex_wait(&phase->number, *seen);
    }
    ++*seen;
    return phase->what != BENCH_STOP;
}

static inline bool bench_over(const struct bench_phase *phase) {
    return md_load_acquire_u32(&phase->over) != 0;
}

/* A ring in memory of md_ring_size(depth) zeroed bytes, as a feed would have it. */
static inline struct md_ring_header *bench_ring(void *memory, uint64_t depth, uint32_t index) {
    struct md_ring_header *header = memory;
    md_ring_create(header, md_ring_size(depth), depth, index, 0);
    for (uint64_t i = 1; i <= MD_CLAIM_AHEAD; i++) {
        ((struct md_slot *)(void *)((char *)memory + header->slots_offset))[i].seq = i - 1;
    }
    return header;
}

/* Publish a quote that bears its sequence, and a stamp. */
static inline void bench_publish(struct md_ring_writer *writer, uint64_t stamp) {
    uint64_t seq = writer->next;
    struct md_slot *slot = md_ring_claim(writer, seq);
    int64_t v = (int64_t)seq;
    md_slot_fill(slot,
                 (int64_t)stamp,
                 (int64_t)stamp,
                 md_record_tag(1, MD_KIND_QUOTE, MD_FLAG_LAST, 8, 8),
                 v,
                 v + 1,
                 v,
                 ~v);
    md_ring_release(writer, 1);
}

/* How many of count records are not what bench_publish made of their sequence. */
static inline uint64_t bench_wrong(const struct md_record *records, uint64_t count) {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < count; i++) {
        int64_t v = (int64_t)records[i].seq;
        wrong += records[i].body.word[0] != v || records[i].body.word[1] != v + 1 ||
                 records[i].body.word[3] != ~v;
    }
    return wrong;
}

#endif
