/* The registered readers of one ring, as its writer sees them: whom to wake, and whom to wait for.
 *
 * Of a reader the writer looks at two words, both in the reader's page, mapped read-only:
 *
 * - `asleep`, once a flush: the doorbell (mdsys/bell.h). Whatever stands there, the worst is a
 *   wake-up too many.
 * - `next`, of a lossless reader, once a turn of the ring: nothing is claimed over what it has not
 *   read. From the moment the writer grants that (struct md_ring_grant), and for a bounded time a
 *   pass, which is what lies between two flushes; then the reader is ejected, which its grant and a
 *   status record say. What stands in `next` counts only where it can be true: not below what it
 *   was, not above what is published.
 *
 *   reader has read                            writer wants to overwrite
 *   A0 next = s + 1       release              A1 next                acquire
 *
 * A0 pairs with A1: what the reader copied it copied before the writer stores there again.
 *
 * One thread's, the writer's.
 */
#ifndef MDSYS_AUDIENCE_H
#define MDSYS_AUDIENCE_H

#include "mdsys/counters.h"
#include "mdsys/reader_page.h"
#include "mdsys/ring.h"

#define MD_LOSSLESS_WAIT_NS INT64_C(1000000) /* the default: for each reader, a pass */

struct md_listener {
    const struct md_reader_ring *place;
    uint64_t reader_id;
    uint64_t next;          /* lossless: the newest `next` that can be true; 0: not granted yet */
    int64_t waited_ns;      /* for it, in this pass */
    int64_t *all_waited_ns; /* the same, over all the rings it shares with us; NULL: only here */
    uint32_t lossless;
    uint32_t grant; /* index in the ring's grants */
};

struct md_ejection {
    uint64_t reader_id;
    uint64_t sequence; /* the first that is not kept for it */
};

struct md_audience {
    struct md_ring_writer *writer;
    struct md_counter_block *counters;
    uint32_t listener_count;
    uint32_t lossless_count;    /* of the listeners, those waited for or waiting to be granted */
    int64_t wait_ns;            /* how long it waits for a reader in a pass */
    uint64_t looked;            /* up to this sequence it has looked for who sleeps */
    uint32_t has_waited;        /* in this pass */
    uint32_t ejection_count;    /* not taken yet */
    uint32_t announced_count;   /* of the ejections, those that a status told */
    uint32_t ring;              /* index among the feed's */
    struct md_capture *capture; /* NULL: nobody records */
    struct md_ejection ejections[MD_READER_COUNT_MAX];
    struct md_listener listeners[MD_READER_COUNT_MAX];
};

/* Nobody listens yet. writer and counters must outlive it; the writer is its from now on. wait_ns:
 * for each lossless reader, in a pass, >= 0; 0: ejected as soon as it is in the way. */
void md_audience_init(struct md_audience *audience,
                      struct md_ring_writer *writer,
                      struct md_counter_block *counters,
                      int64_t wait_ns);

/* Take a reader in. place: mapped until it is removed. Returns 0; -1: there are too many, or it is
 * here. A lossless one is granted at the first flush after it has shown where it is. */
int md_audience_add(struct md_audience *audience,
                    uint64_t reader_id,
                    const struct md_reader_ring *place,
                    int lossless);

/* Wait for a reader that is here no longer than its share, in all rings of this writer together.
 * waited_ns: the reader's, the same for each ring, 0 at first; valid until it is removed. */
void md_audience_share_patience(struct md_audience *audience,
                                uint64_t reader_id,
                                int64_t *waited_ns);

/* Let a reader go, if it is here. */
void md_audience_remove(struct md_audience *audience, uint64_t reader_id);

/* md_ring_flush, and wake who sleeps. */
void md_audience_flush(struct md_audience *audience, int64_t now_ns);

/* Hand out the ejections since the last call. Returns how many; out: MD_READER_COUNT_MAX. */
uint32_t md_audience_take_ejections(struct md_audience *audience, struct md_ejection *out);

#endif
