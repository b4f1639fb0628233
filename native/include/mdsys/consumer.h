/* A consumer: reads, waits, sizes its batches and calls handlers, all in one native loop.
 *
 *     struct md_consumer consumer = {0};
 *     ... poller, batch, handlers ...           (native/examples/consumer.c)
 *     for (;;) {
 *         switch (md_consumer_run(&consumer, until_ns)) { ... }
 *     }
 *
 * The batch grows with the lag and is one record when caught up: a read that got all it asked for
 * doubles what is asked for next, a read that did not is at the ring's end, and the next record
 * goes to its handler alone. So low rates never pay for high ones.
 */
#ifndef MDSYS_CONSUMER_H
#define MDSYS_CONSUMER_H

#include "mdsys/bell.h"
#include "mdsys/poll.h"

#define MD_BATCH_MAX 262144u
#define MD_BUSY_COUNT 4096u         /* records, and the clock is looked at, */
#define MD_BUSY_NS INT64_C(1000000) /* or as soon as a batch took so long */
#define MD_PRESSED_FACTOR 8u        /* past the threshold batches may be so many times larger */

/* Handle records[0..count), count >= 1. Returns how many were handled: count, or fewer when
 * records[returned] could not be. (A Numba cfunc whose function raised returns 0: its first.) */
typedef uint64_t (*md_handler_fn)(const struct md_record *records, uint64_t count, void *state);

/* Who gets which records. Statuses go to every handler whose symbols they touch, whatever kinds. */
struct md_handler {
    md_handler_fn call; /* NULL: a handler outside of this loop, see MD_CONSUMER_BATCH */
    void *state;
    uint32_t kinds; /* bit k: enum md_kind k; 0: all */
    uint32_t reserved;
    const uint64_t *wanted; /* bitmap over symbol ids; NULL: all that the poller wants */
    uint64_t wanted_count;
    struct md_record *picked; /* room for a batch, where kinds or wanted pick */
};

/* Append-only. */
enum md_consumer_result {
    MD_CONSUMER_TIME = 0,   /* until_ns has come */
    MD_CONSUMER_BATCH = 1,  /* batch[0..count) for handlers outside; then md_consumer_done */
    MD_CONSUMER_STOP = 2,   /* the stop word is set */
    MD_CONSUMER_FAILED = 3, /* a handler could not handle `failed`; run again to go on behind it */
    MD_CONSUMER_NEWS = 4,   /* lapped, jumped or pressed since told: see the page's counters */
};

struct md_consumer {
    struct md_poller poller;
    struct md_waiter waiter;
    uint32_t wait;      /* enum md_wait */
    uint32_t adaptive;  /* 0: batch_max always */
    uint32_t batch_min; /* in [1, batch_max] */
    uint32_t batch_max;
    uint32_t batch_pressed; /* when past the threshold, in [batch_max, batch_room] */
    uint32_t batch_room;    /* of batch, and the most that conflation may make of a backlog */
    uint32_t batch_now;
    struct md_record *batch;
    struct md_handler *handlers;
    uint32_t handler_count;
    uint32_t outside; /* whether a handler lives outside */
    uint64_t count;   /* records in batch that are not handled by all yet */
    uint32_t handler; /* the one that has its turn */
    uint32_t failed_handler;
    uint64_t at; /* how many of its records it has handled */
    struct md_record failed;
    uint64_t told;        /* of news */
    struct md_pace pace;  /* of who spins on one ring */
    uint32_t until_timed; /* batches until one is timed */
    int64_t called_ns;    /* when the handlers of a timed batch were called, CLOCK_MONOTONIC; 0 */
};

/* batch: room for batch_room records, 64-byte aligned. The poller must be ready. Past the threshold
 * a batch may be MD_PRESSED_FACTOR times batch_max, as far as there is room. */
static inline void
md_consumer_begin(struct md_consumer *consumer, uint32_t batch_max, uint32_t batch_room) {
    uint64_t pressed = (uint64_t)batch_max * MD_PRESSED_FACTOR;
    consumer->batch_room = batch_room;
    consumer->batch_pressed = pressed < batch_room ? (uint32_t)pressed : batch_room;
    struct md_reader_page *page = consumer->poller.page;
    consumer->batch_min = consumer->adaptive ? 1 : batch_max;
    consumer->batch_max = batch_max;
    consumer->batch_now = consumer->batch_min;
    md_store_relaxed_u32(&page->batch, consumer->batch_now);
    md_store_relaxed_u32(&page->batch_min, consumer->batch_min);
    md_store_relaxed_u32(&page->batch_max, batch_max);
}

static inline void md_consumer_adapt(struct md_consumer *consumer, uint64_t got) {
    uint32_t now = consumer->batch_now;
    uint32_t next = consumer->batch_min;
    if (got == now || consumer->poller.pressed_count != 0) { /* a lap cuts reads short */
        uint32_t most =
            consumer->poller.pressed_count != 0 ? consumer->batch_pressed : consumer->batch_max;
        next = now < most / 2 ? 2 * now : most;
        if (md_poller_conflates(&consumer->poller)) {
            next = consumer->batch_room; /* only what one batch holds is merged */
        }
    }
    if (next != now) {
        consumer->batch_now = next;
        md_store_relaxed_u32(&consumer->poller.page->batch, next);
    }
}

static inline int md_handler_picks(const struct md_handler *handler) {
    return handler->kinds != 0 || handler->wanted != NULL;
}

/* Copy what a handler wants of records into its room. Returns how many. */
static inline uint64_t
md_handler_pick(const struct md_handler *handler, const struct md_record *records, uint64_t count) {
    uint32_t kinds = handler->kinds != 0 ? handler->kinds | 1u << MD_KIND_STATUS : UINT32_MAX;
    uint64_t n = 0;
    for (uint64_t i = 0; i < count; i++) {
        const struct md_record *record = &records[i];
        if ((kinds >> (record->kind & 31) & 1) != 0 &&
            (handler->wanted == NULL ||
             md_bitmap_has(handler->wanted, handler->wanted_count, record->symbol_id))) {
            handler->picked[n++] = *record;
        }
    }
    return n;
}

/* Hand the batch to the native handlers, going on where a failure interrupted. Returns 0 on
 * another. */
static inline int md_consumer_dispatch(struct md_consumer *consumer) {
    for (; consumer->handler < consumer->handler_count; consumer->handler++, consumer->at = 0) {
        const struct md_handler *handler = &consumer->handlers[consumer->handler];
        if (handler->call == NULL) {
            continue;
        }
        const struct md_record *records = consumer->batch;
        uint64_t count = consumer->count;
        if (md_handler_picks(handler)) {
            count = md_handler_pick(handler, records, count);
            records = handler->picked;
        }
        if (consumer->at >= count) {
            continue;
        }
        uint64_t left = count - consumer->at;
        uint64_t done = handler->call(records + consumer->at, left, handler->state);
        if (__builtin_expect(done < left, 0)) {
            consumer->failed = records[consumer->at + done];
            consumer->failed_handler = consumer->handler;
            consumer->at += done + 1;
            md_count(&consumer->poller.page->handler_errors, 1);
            return 0;
        }
    }
    return 1;
}

/* The batch was had by all. */
static inline void md_consumer_done(struct md_consumer *consumer) {
    if (__builtin_expect(consumer->called_ns != 0, 0)) {
        md_histogram_record(
            &consumer->poller.page->handler, md_monotonic_ns() - consumer->called_ns, 1);
        consumer->called_ns = 0;
    }
    consumer->count = 0;
    consumer->handler = 0;
    consumer->at = 0;
}

/* Whether the time that the venue gave it is that of its sending: a bar bears its beginning's, a
 * snapshot that of a change long ago. */
static inline int md_tells_its_way(const struct md_record *record) {
    return record->kind != MD_KIND_STATUS && record->kind != MD_KIND_BAR &&
           record->kind != MD_KIND_BAR_VOLUME && !(record->flags & MD_FLAG_SNAPSHOT);
}

/* How old the batch is as its handlers get it. Records of one socket read share their times, so
 * they are counted together. Returns the time, CLOCK_REALTIME. */
static inline int64_t md_consumer_stamp(struct md_consumer *consumer) {
    struct md_reader_page *page = consumer->poller.page;
    int64_t now = md_realtime_ns();
    const struct md_record *records = consumer->batch;
    uint64_t first = 0;
    for (uint64_t i = 1; i <= consumer->count; i++) {
        if (i < consumer->count && records[i].ts_recv == records[first].ts_recv &&
            records[i].ts_event == records[first].ts_event) {
            continue;
        }
        int64_t age;
        if (!__builtin_sub_overflow(now, records[first].ts_recv, &age)) { /* MD_ABSENT does */
            md_histogram_record(&page->recv_to_handler, age, i - first);
        }
        if (md_tells_its_way(&records[first]) &&
            !__builtin_sub_overflow(now, records[first].ts_event, &age)) {
            md_histogram_record(&page->event_to_handler, age, i - first);
        }
        first = i;
    }
    if (consumer->until_timed != 0) {
        consumer->until_timed--;
    } else {
        consumer->until_timed = MD_HANDLER_EVERY - 1;
        consumer->called_ns = md_monotonic_ns();
    }
    return now;
}

static inline uint64_t md_consumer_news(const struct md_consumer *consumer) {
    const struct md_reader_page *page = consumer->poller.page;
    return page->laps + page->jumps + page->pressed;
}

/* Nothing came: wait by the strategy, not beyond until_ns (CLOCK_MONOTONIC). Returns whether the
 * caller should look at its clock. */
static inline int64_t
md_consumer_idle(struct md_consumer *consumer, int64_t idle_since_ns, int64_t until_ns) {
    for (unsigned i = 0; i < MD_SPINS_PER_CLOCK && consumer->wait != MD_WAIT_PARK; i++) {
        if (md_poller_ready(&consumer->poller)) {
            return idle_since_ns;
        }
        md_pause();
    }
    int64_t now = md_monotonic_ns();
    if (idle_since_ns == 0) {
        idle_since_ns = now;
    }
    if (now < until_ns && (consumer->wait == MD_WAIT_PARK || (consumer->wait == MD_WAIT_ADAPTIVE &&
                                                              now - idle_since_ns >= MD_SPIN_NS))) {
        md_park(&consumer->poller, &consumer->waiter, until_ns - now);
    }
    return now >= until_ns ? -1 : idle_since_ns;
}

/* Run until something is to be told. until_ns: CLOCK_MONOTONIC; how often the caller wants to look
 * after itself, and no more often than each batch. */
static inline enum md_consumer_result md_consumer_run(struct md_consumer *consumer,
                                                      int64_t until_ns) {
    int64_t idle_since_ns = 0;
    int64_t stamped_ns = 0;
    unsigned busy = 0;
    unsigned empty = 0;
    for (;;) {
        if (consumer->count != 0) {
            if (!md_consumer_dispatch(consumer)) {
                return MD_CONSUMER_FAILED;
            }
            if (consumer->outside) {
                return MD_CONSUMER_BATCH; /* and again, until md_consumer_done */
            }
            busy += (unsigned)consumer->count;
            md_consumer_done(consumer);
            if (busy >= MD_BUSY_COUNT) {
                busy = 0;
                if (md_monotonic_ns() >= until_ns) {
                    return MD_CONSUMER_TIME;
                }
            }
        }
        if (md_waiter_stopped(&consumer->waiter)) {
            return MD_CONSUMER_STOP;
        }
        if (md_consumer_news(consumer) != consumer->told) {
            consumer->told = md_consumer_news(consumer);
            return MD_CONSUMER_NEWS;
        }
        uint64_t n = md_poller_read(&consumer->poller, consumer->batch, consumer->batch_now);
        if (consumer->wait == MD_WAIT_SPIN && consumer->poller.source_count == 1) {
            md_reader_pace(&consumer->poller.sources[0].reader, &consumer->pace, n);
        }
        if (consumer->adaptive || consumer->poller.pressed_count != 0 ||
            consumer->batch_now > consumer->batch_max) {
            md_consumer_adapt(consumer, n);
        }
        consumer->count = n;
        if (n != 0) {
            idle_since_ns = 0;
            empty = 0;
            consumer->waiter.nap_ns = 0;
            int64_t now = md_consumer_stamp(consumer);
            if (now - stamped_ns >= MD_BUSY_NS) {
                busy = MD_BUSY_COUNT;
            }
            stamped_ns = now;
            continue;
        }
        if (++empty == MD_SPINS_PER_CLOCK) { /* a busy ring may have nothing for us for ever */
            empty = 0;
            if (md_monotonic_ns() >= until_ns) {
                return MD_CONSUMER_TIME;
            }
        }
        idle_since_ns = md_consumer_idle(consumer, idle_since_ns, until_ns);
        if (idle_since_ns < 0) {
            return MD_CONSUMER_TIME;
        }
    }
}

#endif
