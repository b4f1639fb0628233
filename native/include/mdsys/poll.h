/* Reading several rings at once: filter, policy and counts. What every reader is made of.
 *
 * Of its rings together, since it began and up to its cursors:
 *
 *     received + filtered + conflated + dropped + lost == published
 *
 * A reader is behind by lag = published - read. It looks at the lag only after a read that took all
 * it asked for, since who reads to the end is not behind, and the writer's cursor is a line that
 * the writer keeps dirty. The first time the lag is past the ring's threshold, or the reader was
 * lapped, it is `pressed`: ask for more at a time. The second time in a row its policy acts.
 */
#ifndef MDSYS_POLL_H
#define MDSYS_POLL_H

#include <string.h>

#include "mdsys/clock.h"
#include "mdsys/conflate.h"
#include "mdsys/reader_page.h"
#include "mdsys/ring.h"

#define MD_NEVER_PRESSED UINT64_MAX
#define MD_CONFLATE_CHUNK 64u

/* One ring of a poller. */
struct md_source {
    struct md_ring_reader reader;
    struct md_reader_ring *place; /* in the page: what we show of it */
    uint64_t lag_max;             /* pressed from this lag on, >= 1; MD_NEVER_PRESSED: never */
    uint32_t pressed;             /* how many full reads in a row left a lag of at least that */
    uint32_t ring;                /* its number */
};

/* A reader's view of its rings. One thread's. */
struct md_poller {
    struct md_source *sources;
    uint32_t source_count; /* in [0, MD_RING_COUNT_MAX] */
    uint32_t turn; /* the source that comes first at the next poll, so that all are served */
    uint32_t pressed_count;           /* of the sources, those that are pressed */
    uint32_t policy;                  /* enum md_policy */
    const uint64_t *wanted;           /* bitmap over symbol ids; NULL: everything */
    uint64_t wanted_count;            /* bits in it */
    struct md_conflation *conflation; /* of MD_POLICY_CONFLATE */
    struct md_reader_page *page;      /* counts here; zeroed memory of our own, or the daemon's */
    uint32_t until_timed;             /* reads until one is timed */
};

/* A source that begins with the record after the newest.
 *
 * queue_max: most records that may wait, threshold: of MD_SHARE_ONE, in [1, MD_SHARE_ONE]: pressed
 * from that share of queue_max, or of the ring where that is less, on. queue_max 0: never. */
static inline void md_source_init(struct md_source *source,
                                  const struct md_ring_header *header,
                                  struct md_reader_page *page,
                                  uint64_t queue_max,
                                  uint32_t threshold) {
    uint32_t ring = header->segment.index % MD_RING_COUNT_MAX;
    source->reader = md_reader_init(header);
    source->place = &page->ring[ring];
    source->ring = ring;
    source->pressed = 0;
    source->lag_max = MD_NEVER_PRESSED;
    if (queue_max != 0) {
        uint64_t queue = queue_max < header->depth ? queue_max : header->depth;
        uint64_t lag = (uint64_t)((double)queue * threshold / MD_SHARE_ONE);
        source->lag_max = lag > 1 ? lag : 1;
    }
    md_store_relaxed_u64(&source->place->lost, 0);
    md_store_relaxed_u64(&source->place->dropped, 0);
    md_store_release_u64(&source->place->next, source->reader.next); /* A0: pairs with A1 */
}

/* Go on counting in another page, with the counts so far: a new daemon has given us one. */
static inline void md_poller_move(struct md_poller *poller, struct md_reader_page *page) {
    struct md_reader_page *old = poller->page;
    size_t begin = offsetof(struct md_reader_page, polls);
    memcpy((char *)page + begin,
           (const char *)old + begin,
           offsetof(struct md_reader_page, ring) - begin);
    poller->page = page;
    for (uint32_t i = 0; i < poller->source_count; i++) {
        struct md_source *source = &poller->sources[i];
        struct md_reader_ring *place = &page->ring[source->ring];
        md_store_relaxed_u64(&place->lost, source->place->lost);
        md_store_relaxed_u64(&place->dropped, source->place->dropped);
        md_store_release_u64(&place->next, source->reader.next); /* A0: pairs with A1 */
        source->place = place;
    }
}

/* Nobody need wait for this reader any more. */
static inline void md_poller_leave(struct md_poller *poller) {
    for (uint32_t i = 0; i < poller->source_count; i++) {
        md_store_release_u64(&poller->sources[i].place->next, 0); /* A0: pairs with A1 */
    }
}

/* Records published and not yet read, as of the writer's last flush. */
static inline uint64_t md_source_lag(const struct md_source *source) {
    uint64_t cursor = md_load_acquire_u64(&source->reader.header->cursor);
    return cursor + 1 > source->reader.next ? cursor + 1 - source->reader.next : 0;
}

/* Whether a ring has something that was not read. */
static inline int md_source_ready(const struct md_source *source) {
    const struct md_ring_reader *reader = &source->reader;
    return md_load_acquire_u64(&reader->slots[reader->next & reader->mask].seq) >= reader->next;
}

/* Whether any of the rings has. */
static inline int md_poller_ready(const struct md_poller *poller) {
    for (uint32_t i = 0; i < poller->source_count; i++) {
        if (md_source_ready(&poller->sources[i])) {
            return 1;
        }
    }
    return 0;
}

/* The price of a filter: one bit. A status passes when it concerns the whole ring or a wanted
 * symbol, so that no reader misses what it must know. */
static inline int md_bitmap_has(const uint64_t *wanted, uint64_t wanted_count, uint32_t symbol_id) {
    return symbol_id == MD_SYMBOL_WHOLE_RING ||
           (symbol_id < wanted_count && (wanted[symbol_id / 64] >> (symbol_id % 64) & 1) != 0);
}

/* Keep what is wanted of count records, in place and in order. Returns how many are left. */
static inline uint64_t
md_poller_filter(const struct md_poller *poller, struct md_record *records, uint64_t count) {
    uint64_t kept = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (md_bitmap_has(poller->wanted, poller->wanted_count, records[i].symbol_id)) {
            if (kept != i) {
                records[kept] = records[i];
            }
            kept++;
        }
    }
    md_count(&poller->page->filtered, count - kept);
    return kept;
}

/* Show what a lap has cost. */
static inline void md_source_count_lost(struct md_poller *poller, struct md_source *source) {
    uint64_t lost = source->reader.lost - source->place->lost;
    md_count(&source->place->lost, lost);
    md_count(&poller->page->lost, lost);
    md_count(&poller->page->laps, 1);
}

/* One read of one ring, filtered. Returns how many records; *taken: how many were read. */
static inline uint64_t md_source_take(struct md_poller *poller,
                                      struct md_source *source,
                                      struct md_record *out,
                                      uint64_t count,
                                      uint64_t *taken) {
    uint64_t got = md_reader_read(&source->reader, out, count);
    if (__builtin_expect(source->reader.lost != source->place->lost, 0)) {
        md_source_count_lost(poller, source);
    }
    md_store_release_u64(&source->place->next, source->reader.next); /* A0: pairs with A1 */
    *taken = got;
    return got == 0 || poller->wanted == NULL ? got : md_poller_filter(poller, out, got);
}

static inline void md_source_release(struct md_poller *poller, struct md_source *source) {
    if (source->pressed != 0) {
        source->pressed = 0;
        poller->pressed_count--;
    }
}

/* After a read that took all it asked for, or was lapped: are we behind, and what then? Whoever was
 * lapped was behind, however little the lag is since. */
static inline void
md_source_relieve(struct md_poller *poller, struct md_source *source, int lapped) {
    uint64_t lag = md_source_lag(source);
    if (lag < source->lag_max && !lapped) {
        md_source_release(poller, source);
        return;
    }
    if (source->pressed == 0) {
        poller->pressed_count++;
        md_count(&poller->page->pressed, 1);
    }
    if (source->pressed < 2) {
        source->pressed++;
    }
    if (source->pressed == 2 && poller->policy == MD_POLICY_DROP_OLDEST) {
        uint64_t keep = source->lag_max / 2;
        if (lag > keep) {
            uint64_t skipped = md_reader_jump(&source->reader, source->reader.next + lag - keep);
            md_count(&source->place->dropped, skipped);
            md_count(&poller->page->dropped, skipped);
            md_count(&poller->page->jumps, 1);
            source->reader.dropped += skipped;
            md_store_release_u64(&source->place->next, source->reader.next); /* A0: as above */
        }
        md_source_release(poller, source);
    }
}

/* Whether the next read of some ring merges. */
static inline int md_poller_conflates(const struct md_poller *poller) {
    if (poller->policy == MD_POLICY_CONFLATE && poller->pressed_count != 0) {
        for (uint32_t i = 0; i < poller->source_count; i++) {
            if (poller->sources[i].pressed == 2) {
                return 1;
            }
        }
    }
    return 0;
}

/* Read up to the head as it is now and merge. Returns how many records came of it. */
static inline uint64_t md_source_conflate(struct md_poller *poller,
                                          struct md_source *source,
                                          struct md_record *out,
                                          uint64_t count) {
    struct md_record chunk[MD_CONFLATE_CHUNK];
    uint64_t lag = md_source_lag(source);
    uint64_t lost_before = source->reader.lost;
    uint64_t n = 0;
    md_conflation_close(poller->conflation);
    while (lag != 0 && n < count) {
        uint64_t want = lag < MD_CONFLATE_CHUNK ? lag : MD_CONFLATE_CHUNK;
        want = want < count - n ? want : count - n;
        uint64_t lost = source->reader.lost;
        uint64_t taken;
        uint64_t kept = md_source_take(poller, source, chunk, want, &taken);
        if (taken == 0) {
            break;
        }
        if (lost != source->reader.lost) { /* a hole is no bridge */
            md_conflation_close(poller->conflation);
        }
        uint64_t read = taken + source->reader.lost - lost;
        lag = read < lag ? lag - read : 0;
        uint64_t after = md_conflate(poller->conflation, out, n, chunk, kept);
        md_count(&poller->page->conflated, n + kept - after);
        n = after;
    }
    if (source->reader.lost == lost_before && md_source_lag(source) < source->lag_max / 2 + 1) {
        md_source_release(poller, source);
    }
    return n;
}

/* Read one ring, at most count wanted records. */
static inline uint64_t md_source_read(struct md_poller *poller,
                                      struct md_source *source,
                                      struct md_record *out,
                                      uint64_t count) {
    uint64_t n = 0;
    if (__builtin_expect(source->pressed == 2 && poller->policy == MD_POLICY_CONFLATE, 0)) {
        n = md_source_conflate(poller, source, out, count);
    } else {
        uint64_t passed_over = 0; /* a whole ring of what nobody wants is enough for one look */
        uint64_t lost_before = source->reader.lost;
        uint64_t asked, taken;
        do {
            asked = count - n;
            uint64_t kept = md_source_take(poller, source, out + n, asked, &taken);
            passed_over += taken - kept;
            n += kept;
        } while (taken == asked && n < count && passed_over <= source->reader.mask);
        int lapped = source->reader.lost != lost_before;
        if (taken == asked || __builtin_expect(lapped, 0)) {
            if (source->lag_max != MD_NEVER_PRESSED) {
                md_source_relieve(poller, source, lapped);
            }
        } else if (__builtin_expect(source->pressed != 0, 0)) {
            md_source_release(poller, source);
        }
    }
    return n;
}

/* How old the newest record is that was just read; of one read in MD_READ_EVERY, since a look at
 * the clock costs more than a short read. */
static inline void md_poller_time(struct md_poller *poller, const struct md_record *newest) {
    int64_t age;
    if (poller->until_timed != 0) {
        poller->until_timed--;
        return;
    }
    poller->until_timed = MD_READ_EVERY - 1;
    if (!__builtin_sub_overflow(md_realtime_ns(), newest->ts_recv, &age)) { /* MD_ABSENT does */
        md_histogram_record(&poller->page->recv_to_read, age, 1);
    }
}

/* Copy up to count new records of all rings into out; a ring's own order is kept, rings follow one
 * another and take turns in being first. Returns how many, in [0, count]; 0: nothing new that is
 * wanted, after at most a whole ring of what is not. */
static inline uint64_t
md_poller_read(struct md_poller *poller, struct md_record *out, uint64_t count) {
    struct md_reader_page *page = poller->page;
    md_count(&page->polls, 1);
    uint64_t n = 0;
    uint32_t turn = poller->turn;
    for (uint32_t i = 0; i < poller->source_count && n < count; i++) {
        struct md_source *source = &poller->sources[turn];
        turn = turn + 1 == poller->source_count ? 0 : turn + 1;
        if (md_source_ready(source) || source->pressed != 0) { /* most of many rings are silent */
            n += md_source_read(poller, source, out + n, count - n);
        }
    }
    poller->turn = turn;
    if (n != 0) {
        md_count(&page->received, n);
        md_poller_time(poller, &out[n - 1]);
    }
    return n;
}

#endif
