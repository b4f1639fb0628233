/* A reader's page: how it stands, for the daemon and for `mdsys stat` to see.
 *
 * A sealed memfd (it can be neither shrunk nor grown) that the daemon makes, lays out and hands to
 * the reader over its control socket. Its reader alone writes it; feeds and supervisor map it
 * read-only, look at few words of it, and believe none: a lossless reader's `next` is held against
 * what it can be, an `asleep` word costs at most a wake-up too many. Identity is what the kernel
 * says of the socket's other end, never what stands here. A reader without a daemon keeps the same
 * page in its own memory, so that there is one way to count.
 *
 *   0          4096 (a page of the daemon's, then the reader's own)
 *   | header | counters, batch | histograms | ring[MD_RING_COUNT_MAX] |
 */
#ifndef MDSYS_READER_PAGE_H
#define MDSYS_READER_PAGE_H

#include "mdsys/atomic.h"
#include "mdsys/counters.h"
#include "mdsys/schema.h"
#include "mdsys/segment.h"

#ifndef __cplusplus
#include <stdalign.h>
#endif

#define MD_READER_COUNT_MAX 64u /* registered at a time, of one instance */
#define MD_READER_NAME_SIZE 32u /* [A-Za-z0-9._-]{1,31} and its NUL */
#define MD_SHARE_ONE 1000000u   /* thresholds are in millionths */
#define MD_CORE_NONE UINT32_MAX

/* What a reader does when it falls behind. Append-only. */
enum md_policy {
    MD_POLICY_DROP_OLDEST = 0,
    MD_POLICY_CONFLATE = 1,
    MD_POLICY_LOSSLESS = 2,
};

/* How a reader waits for the next record. Append-only. */
enum md_wait {
    MD_WAIT_ADAPTIVE = 0, /* spin a little, then park */
    MD_WAIT_SPIN = 1,     /* for who has a core of its own */
    MD_WAIT_PARK = 2,     /* sleep at once */
};

/* One ring as this reader sees it. */
struct md_reader_ring {
    alignas(
        64) uint64_t next; /* the next sequence to read; 0: this reader does not read the ring */
    uint64_t lost;
    uint64_t dropped;
    uint64_t reserved0[5];
    alignas(64) uint64_t asleep; /* the bell that it sleeps on, plus 1; 0: awake */
    uint64_t reserved1[7];
};

static_assert(sizeof(struct md_reader_ring) == 128, "two lines: waited for, and looked at");
static_assert(offsetof(struct md_reader_ring, asleep) == 64, "layout");

struct md_reader_page {
    struct md_segment_header segment; /* index: low half of reader_id */
    /* The daemon's, before it hands the page over: */
    uint64_t reader_id; /* from 1, never again in a daemon's life; 0: not registered */
    char name[MD_READER_NAME_SIZE];
    uint32_t batch_size;     /* defaults of its [consumer] table: records */
    uint32_t max_queue_size; /* records */
    uint32_t threshold;      /* of MD_SHARE_ONE */
    uint32_t adaptive;       /* 0 or 1 */
    uint32_t core;           /* that it shall run on; MD_CORE_NONE: any */
    uint32_t reserved0;
    uint64_t reserved1[488];
    /* The reader's: */
    alignas(64) uint64_t polls; /* goes up at each look for records: whoever lives moves it */
    uint32_t batch;             /* records asked for at a time, now */
    uint32_t batch_min;
    uint32_t batch_max;
    uint32_t core_now; /* where it runs pinned; MD_CORE_NONE: anywhere */
    uint64_t reserved2[5];
#define MD_READER_COUNTER_FIELD(field, type, family, labels, help) uint64_t field;
    MD_READER_COUNTERS(MD_READER_COUNTER_FIELD)
#undef MD_READER_COUNTER_FIELD
#define MD_READER_HISTOGRAM_FIELD(field, type, family, labels, help) struct md_histogram field;
    MD_READER_HISTOGRAMS(MD_READER_HISTOGRAM_FIELD)
#undef MD_READER_HISTOGRAM_FIELD
    struct md_reader_ring ring[MD_RING_COUNT_MAX];
};

static_assert(offsetof(struct md_reader_page, reader_id) == 128, "layout");
static_assert(offsetof(struct md_reader_page, batch_size) == 168, "layout");
static_assert(offsetof(struct md_reader_page, polls) == MD_PAGE_HEADER_SIZE, "the reader's page");

/* Grows with the lists, so that two versions with other counters refuse each other. */
#define MD_SCHEMA_READER                                                                           \
    (UINT64_C(0x0001000000000000) |                                                                \
     (uint64_t)offsetof(struct md_reader_page, recv_to_handler) << 24 |                            \
     sizeof(struct md_reader_page))

static inline enum md_segment_result md_reader_page_verify(const struct md_reader_page *page,
                                                           uint64_t mapped_size) {
    enum md_segment_result result =
        md_segment_verify(&page->segment, mapped_size, MD_SEGMENT_READER, MD_SCHEMA_READER);
    if (result != MD_SEGMENT_OK) {
        return result;
    }
    if (page->segment.size_bytes < sizeof *page || page->reader_id == 0 || page->threshold == 0 ||
        page->threshold > MD_SHARE_ONE || page->batch_size == 0 || page->max_queue_size == 0 ||
        page->name[MD_READER_NAME_SIZE - 1] != 0) {
        return MD_SEGMENT_BAD_GEOMETRY;
    }
    return MD_SEGMENT_OK;
}

#endif
