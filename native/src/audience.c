#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* the system calls of mdsys/bell.h */
#endif
#include "audience.h"

#include "capture.h"

#include <sched.h>
#include <string.h>

#include "mdsys/bell.h"

#define SPINS_PER_YIELD 256u

static_assert(MD_READER_COUNT_MAX <= 64, "a bit each");

/* Slots between a lossless reader and the writer that stay free, for whoever succeeds a killed
 * writer: it must say so, and publish what had reached only a cell, before it knows of any reader.
 */
static uint64_t slack(const struct md_ring_writer *writer) {
    return MD_CLAIM_AHEAD + (writer->mask + 1) / 16;
}

/* The first sequence that would overwrite what a reader at next has not read. */
static uint64_t limit_of(const struct md_ring_writer *writer, uint64_t next) {
    return next + writer->mask + 1 - slack(writer);
}

/* Wait for this one no more; a promise it had ends with what it has read. */
static void release(struct md_audience *audience, struct md_listener *listener) {
    if (listener->next != 0) {
        struct md_ring_grant *grant = &audience->writer->header->grants[listener->grant];
        md_store_release_u64(&grant->ejected, listener->next); /* G3: pairs with G4 */
        md_fence_release();                                    /* before anything is overwritten */
    }
    listener->next = 0;
    if (listener->lossless) {
        listener->lossless = 0;
        audience->lossless_count--;
    }
}

static void update_limit(struct md_audience *audience) {
    struct md_ring_writer *writer = audience->writer;
    uint64_t limit = MD_NO_LIMIT;
    for (uint32_t i = 0; i < audience->listener_count; i++) {
        struct md_listener *listener = &audience->listeners[i];
        if (listener->next == 0) {
            continue;
        }
        uint64_t next = md_load_acquire_u64(&listener->place->next); /* A1: pairs with A0 */
        if (next == 0) { /* it leaves: waiting for it, we would not hear of that */
            release(audience, listener);
            continue;
        }
        if (next > listener->next && next <= writer->next) {
            listener->next = next;
        }
        uint64_t own = limit_of(writer, listener->next);
        limit = own < limit ? own : limit;
    }
    writer->limit = limit;
}

static void eject(struct md_audience *audience, struct md_listener *listener) {
    if (audience->ejection_count < MD_READER_COUNT_MAX) {
        audience->ejections[audience->ejection_count++] =
            (struct md_ejection){listener->reader_id, listener->next};
    }
    md_count(&audience->counters->readers_ejected, 1);
    release(audience, listener);
}

/* Promise a lossless reader that it will lose nothing from here on, if there is room for another.
 */
static void grant(struct md_audience *audience, struct md_listener *listener) {
    struct md_ring_writer *writer = audience->writer;
    uint64_t next = md_load_acquire_u64(&listener->place->next);
    if (next == 0) {
        return; /* it has not begun */
    }
    for (uint32_t i = 0; i < MD_GRANT_COUNT; i++) {
        struct md_ring_grant *free = &writer->header->grants[i];
        if (free->reader_id == 0) {
            /* What it says may not be, or be too far back: a frame that was given up may have
             * claimed a quarter of the ring ahead. */
            uint64_t claimed_max = writer->next + (writer->mask + 1) / 4;
            int sound = next <= writer->next && claimed_max <= limit_of(writer, next);
            listener->next = sound ? next : writer->next;
            listener->grant = i;
            /* Whoever is being lapped goes on half a ring behind the newest record, so it may pass
             * over what is kept for it: promise what lies behind that. */
            uint64_t from = sound ? next : writer->next + (writer->mask + 1) / 2;
            md_store_release_u64(&free->from, from); /* after it was nobody's */
            md_store_release_u64(&free->ejected, 0);
            md_store_release_u64(&free->reader_id, listener->reader_id); /* G1: pairs with G2 */
            return;
        }
    }
    release(audience, listener); /* never granted: its registration times out */
}

static void grant_all(struct md_audience *audience) {
    uint32_t pending_count = 0;
    for (uint32_t i = 0; i < audience->listener_count; i++) {
        struct md_listener *listener = &audience->listeners[i];
        if (listener->lossless && listener->next == 0) {
            grant(audience, listener);
            pending_count++;
        }
    }
    if (pending_count != 0) { /* else leave `next` alone: its reader is writing that line */
        update_limit(audience);
    }
}

static void ring_bell(struct md_audience *audience) {
    struct md_ring_header *header = audience->writer->header;
    uint32_t bell = header->bell;
    audience->looked = audience->writer->next;
    md_fence_seq_cst(); /* B2: pairs with P3 */
    for (uint32_t i = 0; i < audience->listener_count; i++) {
        uint64_t asleep = md_load_relaxed_u64(&audience->listeners[i].place->asleep); /* B3 */
        if (asleep == (uint64_t)bell + 1) {
            md_store_relaxed_i64(&header->rung_ns, md_realtime_ns());
            md_store_release_u32(&header->bell, bell + 1);                            /* B4 */
            syscall(SYS_futex, &header->bell, MD_FUTEX_WAKE, INT_MAX, NULL, NULL, 0); /* B5 */
            md_count(&audience->counters->bells, 1);
            return;
        }
    }
}

static int64_t *waited_of(struct md_listener *listener) {
    return listener->all_waited_ns != NULL ? listener->all_waited_ns : &listener->waited_ns;
}

/* Who is in the way of seq, a bit for each listener. Who has had its share of this pass is waited
 * for no more, and is none of them. */
static uint64_t in_the_way(struct md_audience *audience, uint64_t seq) {
    uint64_t who = 0;
    for (uint32_t i = 0; i < audience->listener_count; i++) {
        struct md_listener *listener = &audience->listeners[i];
        if (listener->next != 0 && seq >= limit_of(audience->writer, listener->next)) {
            if (*waited_of(listener) >= audience->wait_ns) {
                eject(audience, listener);
            } else {
                who |= UINT64_C(1) << i;
            }
        }
    }
    return who;
}

/* These have been waited for another ns. */
static void charge(struct md_audience *audience, uint64_t who, int64_t ns) {
    for (uint32_t i = 0; i < audience->listener_count; i++) {
        if (who >> i & 1) {
            *waited_of(&audience->listeners[i]) += ns;
        }
    }
}

/* struct md_ring_writer.wait: a lossless reader has not read what seq would overwrite. */
static void wait_for_readers(struct md_ring_writer *writer, uint64_t seq) {
    struct md_audience *audience = writer->audience;
    update_limit(audience);
    if (seq < writer->limit) {
        return;
    }
    md_count(&audience->counters->lossless_waits, 1);
    md_store_release_u64(&writer->header->cursor, writer->next - 1);
    ring_bell(audience); /* or it would sleep, and we wait */
    audience->has_waited = 1;
    int64_t start_ns = md_monotonic_ns();
    int64_t now_ns = start_ns;
    int yields = 0;
    uint64_t waited_for;
    while ((waited_for = in_the_way(audience, seq)) != 0) {
        if (yields) {
            sched_yield(); /* a reader may want this very core */
        } else {
            for (unsigned i = 0; i < SPINS_PER_YIELD && seq >= writer->limit; i++) {
                md_pause();
                update_limit(audience);
            }
        }
        yields = !yields;
        int64_t then_ns = now_ns;
        now_ns = md_monotonic_ns();
        charge(audience, waited_for, now_ns - then_ns); /* also who has moved meanwhile */
        update_limit(audience);                         /* before anybody is ejected */
    }
    update_limit(audience);
    md_count(&audience->counters->lossless_wait_ns, (uint64_t)(now_ns - start_ns));
}

void md_audience_init(struct md_audience *audience,
                      struct md_ring_writer *writer,
                      struct md_counter_block *counters,
                      int64_t wait_ns) {
    memset(audience, 0, sizeof *audience);
    audience->wait_ns = wait_ns;
    audience->writer = writer;
    audience->counters = counters;
    writer->audience = audience;
    writer->wait = wait_for_readers;
    writer->limit = MD_NO_LIMIT;
}

int md_audience_add(struct md_audience *audience,
                    uint64_t reader_id,
                    const struct md_reader_ring *place,
                    int lossless) {
    if (audience->listener_count == MD_READER_COUNT_MAX || reader_id == 0) {
        return -1;
    }
    for (uint32_t i = 0; i < audience->listener_count; i++) {
        if (audience->listeners[i].reader_id == reader_id) {
            return -1;
        }
    }
    audience->listeners[audience->listener_count++] = (struct md_listener){
        .place = place,
        .reader_id = reader_id,
        .lossless = lossless != 0,
    };
    audience->lossless_count += lossless != 0;
    ring_bell(audience); /* it may have gone to sleep before we knew it */
    return 0;
}

void md_audience_share_patience(struct md_audience *audience,
                                uint64_t reader_id,
                                int64_t *waited_ns) {
    for (uint32_t i = 0; i < audience->listener_count; i++) {
        if (audience->listeners[i].reader_id == reader_id) {
            audience->listeners[i].all_waited_ns = waited_ns;
        }
    }
}

void md_audience_remove(struct md_audience *audience, uint64_t reader_id) {
    for (uint32_t i = 0; i < audience->listener_count; i++) {
        struct md_listener *listener = &audience->listeners[i];
        if (listener->reader_id == reader_id) {
            release(audience, listener);
            struct md_ring_grant *grants = audience->writer->header->grants;
            for (uint32_t k = 0; k < MD_GRANT_COUNT; k++) { /* ejected or not */
                if (grants[k].reader_id == reader_id) {
                    md_store_release_u64(&grants[k].reader_id, 0);
                }
            }
            *listener = audience->listeners[--audience->listener_count];
            update_limit(audience);
            return;
        }
    }
}

static void announce(struct md_audience *audience, int64_t now_ns) {
    struct md_ring_writer *writer = audience->writer;
    while (audience->announced_count < audience->ejection_count) {
        const struct md_ejection *ejection = &audience->ejections[audience->announced_count++];
        struct md_slot *slot = md_ring_claim(writer, writer->next);
        md_slot_fill(slot,
                     now_ns,
                     now_ns,
                     md_record_tag(MD_SYMBOL_WHOLE_RING, MD_KIND_STATUS, MD_FLAG_LAST, 0, 0),
                     MD_STATUS_READER_EJECTED,
                     (int64_t)ejection->sequence,
                     MD_ABSENT,
                     (int64_t)ejection->reader_id);
        if (audience->capture != NULL) { /* before it is published: md_feed_publish_status */
            const struct md_record record = {
                .ts_event = now_ns,
                .ts_recv = now_ns,
                .symbol_id = MD_SYMBOL_WHOLE_RING,
                .kind = MD_KIND_STATUS,
                .flags = MD_FLAG_LAST,
                .body.status = {MD_STATUS_READER_EJECTED,
                                (int64_t)ejection->sequence,
                                MD_ABSENT,
                                (int64_t)ejection->reader_id},
            };
            md_capture_put(audience->capture,
                           MD_CAPTURE_RECORD,
                           &record,
                           sizeof record,
                           now_ns,
                           audience->ring,
                           0);
        }
        md_ring_release(writer, 1);
        md_count(&audience->counters->records, 1);
        md_count(&audience->counters->statuses, 1);
    }
}

void md_audience_flush(struct md_audience *audience, int64_t now_ns) {
    announce(audience, now_ns);
    md_ring_flush(audience->writer, now_ns); /* B1 */
    if (audience->has_waited) {
        audience->has_waited = 0;
        for (uint32_t i = 0; i < audience->listener_count; i++) {
            *waited_of(&audience->listeners[i]) = 0;
        }
    }
    if (audience->listener_count != 0) {
        if (audience->lossless_count != 0) {
            grant_all(audience);
        }
        if (audience->looked != audience->writer->next) { /* else nobody sleeps over anything */
            ring_bell(audience);
        }
    }
}

uint32_t md_audience_take_ejections(struct md_audience *audience, struct md_ejection *out) {
    uint32_t count = audience->announced_count; /* what no status has told yet stays */
    memcpy(out, audience->ejections, count * sizeof *out);
    audience->ejection_count -= count;
    memmove(audience->ejections,
            audience->ejections + count,
            audience->ejection_count * sizeof *audience->ejections);
    audience->announced_count = 0;
    return count;
}
