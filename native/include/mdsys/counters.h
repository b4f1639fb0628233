/* The daemon's own numbers, in shared memory: one block a feed, written by that feed alone, and
 * those of the supervisor.
 *
 *   0        4096
 *   | header | block[feed_count] | connection[256 * feed_count] | supervisor | life[feed_count] |
 *
 * What stands in them is listed in schema.h. A counter is one relaxed load and store of a line its
 * only writer owns.
 */
#ifndef MDSYS_COUNTERS_H
#define MDSYS_COUNTERS_H

#include "mdsys/atomic.h"
#include "mdsys/record.h"
#include "mdsys/schema.h"
#include "mdsys/segment.h"

/* Log-linear: exact below 32, then 16 buckets per power of two up to 2^40 ns (18 minutes), so a
 * bucket's middle is within 3.2% of whatever fell into it. Beyond: the last bucket. */
#define MD_HISTOGRAM_LINEAR 32u
#define MD_HISTOGRAM_STEPS 16u
#define MD_HISTOGRAM_OCTAVE_MIN 5u
#define MD_HISTOGRAM_OCTAVE_MAX 40u
#define MD_HISTOGRAM_BUCKETS                                                                       \
    (MD_HISTOGRAM_LINEAR + MD_HISTOGRAM_STEPS * (MD_HISTOGRAM_OCTAVE_MAX - MD_HISTOGRAM_OCTAVE_MIN))

struct md_histogram {
    uint64_t count;
    int64_t sum;
    int64_t min; /* meaningless while count is 0 */
    int64_t max;
    uint64_t positive[MD_HISTOGRAM_BUCKETS]; /* values >= 0 */
    uint64_t negative[MD_HISTOGRAM_BUCKETS]; /* by magnitude */
};

struct md_counter_block {
#define MD_COUNTER_FIELD(field, type, family, labels, help) uint64_t field;
#define MD_HISTOGRAM_FIELD(field, type, family, labels, help) struct md_histogram field;
    MD_COUNTERS(MD_COUNTER_FIELD)
    MD_HISTOGRAMS(MD_HISTOGRAM_FIELD)
};

/* Written by the supervisor alone; zeroed by each. */
struct md_supervisor_block {
    MD_SYSTEM_NUMBERS(MD_COUNTER_FIELD)
    MD_SUBSCRIPTION_NUMBERS(MD_COUNTER_FIELD)
    MD_SYSTEM_HISTOGRAMS(MD_HISTOGRAM_FIELD)
};

/* What the supervisor knows of one feed, through all its processes; zeroed by each supervisor. */
struct md_life_block {
    MD_LIFE_NUMBERS(MD_COUNTER_FIELD)
    uint64_t reserved0[4];
};
#undef MD_COUNTER_FIELD
#undef MD_HISTOGRAM_FIELD

static_assert(sizeof(struct md_life_block) == 64, "one cache line");

/* What a connection is at. Append-only; mdsys.counters.connections.STATES. */
enum md_connection_state {
    MD_CONNECTION_FREE = 0, /* the place is nobody's */
    MD_CONNECTION_CONNECTING = 1,
    MD_CONNECTION_OPEN = 2,    /* the handshake is done */
    MD_CONNECTION_READY = 3,   /* everything asked for is answered */
    MD_CONNECTION_WAITING = 4, /* lost, to be dialled again */
    MD_CONNECTION_DENIED = 5,  /* the venue refuses us: an operator must act */
};

#define MD_CONNECTION_COUNT_MAX 256u /* of one feed */
#define MD_CONNECTION_VENUE_SIZE 24u

/* One connection through all its sockets. offset_ns: ts_event - ts_recv of the newest record that
 * is no status, bar or snapshot: the venue's clock ahead of ours, less the way; MD_ABSENT: never
 * seen. venue: in front of its symbols' names, cut; NUL behind it. */
#define MD_CONNECTION_FIELDS(X)                                                                    \
    X(uint32_t, number) /* as in status records */                                                 \
    X(uint32_t, state)  /* enum md_connection_state */                                             \
    X(int64_t, since_ns)                                                                           \
    X(int64_t, last_frame_ns) /* anything, PINGs and heartbeats too */                             \
    X(int64_t, last_data_ns)  /* a frame that held records */                                      \
    X(uint64_t, frames)                                                                            \
    X(uint64_t, bytes)                                                                             \
    X(uint64_t, records)                                                                           \
    X(uint64_t, opens)                                                                             \
    X(int64_t, offset_ns)                                                                          \
    X(char, venue[MD_CONNECTION_VENUE_SIZE])                                                       \
    X(uint64_t, version) /* odd while the place changes hands, or its connection its state */      \
    X(uint64_t, reserved0[3])

/* Two lines, written by its feed alone. */
struct md_connection_block {
#define MD_CONNECTION_FIELD(type, field) type field;
    MD_CONNECTION_FIELDS(MD_CONNECTION_FIELD)
#undef MD_CONNECTION_FIELD
};

static_assert(sizeof(struct md_connection_block) == 128, "two cache lines");
static_assert(offsetof(struct md_connection_block, venue) % 8 == 0, "stored by words");

struct md_counters_header {
    struct md_segment_header segment;
    uint64_t blocks_offset;
    uint32_t block_stride;
    uint32_t block_count;
    uint64_t connections_offset; /* MD_CONNECTION_COUNT_MAX places a feed, feed after feed */
    uint32_t connection_stride;
    uint32_t connection_count;
    uint64_t supervisor_offset;
    uint64_t lives_offset; /* one of each feed */
    uint32_t life_stride;
    uint32_t reserved0;
    uint64_t reserved1;
};

static_assert(sizeof(struct md_counters_header) == 192, "three cache lines");

/* FNV-1a, from what comes before. */
static inline uint64_t md_schema_hash(uint64_t hash, const char *text) {
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x00000100000001b3);
    }
    return hash;
}

/* Of every field's name, in the order in which they lie there: two versions with other numbers
 * refuse each other, also where the blocks are as long. */
static inline uint64_t md_counters_schema(void) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ sizeof(struct md_histogram);
#define MD_NAME(field, type, family, labels, help) #field " "
    hash = md_schema_hash(hash, MD_COUNTERS(MD_NAME) "| " MD_HISTOGRAMS(MD_NAME) "/ ");
    hash = md_schema_hash(hash, MD_SYSTEM_NUMBERS(MD_NAME) MD_SUBSCRIPTION_NUMBERS(MD_NAME));
    hash = md_schema_hash(hash, "| " MD_SYSTEM_HISTOGRAMS(MD_NAME) "/ ");
    hash = md_schema_hash(hash, MD_LIFE_NUMBERS(MD_NAME) "/ ");
#undef MD_NAME
#define MD_NAME(type, field) #type " " #field " "
    return md_schema_hash(hash, MD_CONNECTION_FIELDS(MD_NAME));
#undef MD_NAME
}

#define MD_SCHEMA_COUNTERS md_counters_schema()

static inline enum md_segment_result md_counters_verify(const struct md_counters_header *counters,
                                                        uint64_t mapped_size) {
    enum md_segment_result result =
        md_segment_verify(&counters->segment, mapped_size, MD_SEGMENT_COUNTERS, MD_SCHEMA_COUNTERS);
    if (result != MD_SEGMENT_OK) {
        return result;
    }
    if (counters->block_stride < sizeof(struct md_counter_block) ||
        !md_segment_fits(&counters->segment,
                         counters->blocks_offset,
                         counters->block_stride,
                         counters->block_count) ||
        counters->connection_stride < sizeof(struct md_connection_block) ||
        counters->connection_count / MD_CONNECTION_COUNT_MAX != counters->block_count ||
        !md_segment_fits(&counters->segment,
                         counters->connections_offset,
                         counters->connection_stride,
                         counters->connection_count) ||
        !md_segment_fits(&counters->segment,
                         counters->supervisor_offset,
                         sizeof(struct md_supervisor_block),
                         1) ||
        counters->life_stride < sizeof(struct md_life_block) ||
        !md_segment_fits(&counters->segment,
                         counters->lives_offset,
                         counters->life_stride,
                         counters->block_count)) {
        return MD_SEGMENT_BAD_GEOMETRY;
    }
    return MD_SEGMENT_OK;
}

/* index: in [0, connection_count). */
static inline struct md_connection_block *
md_counters_connection(const struct md_counters_header *counters, uint32_t index) {
    const char *at = (const char *)counters + counters->connections_offset;
    return (struct md_connection_block *)(void *)(at + (size_t)index * counters->connection_stride);
}

/* ---- a connection's place ------------------------------------------------------------------ */

/* Its feed begins to change whose the place is, or the state. The version is odd already where a
 * feed was killed in between. */
static inline void md_connection_begin(struct md_connection_block *block) {
    md_store_relaxed_u64(&block->version, md_load_relaxed_u64(&block->version) | 1); /* C5 */
    md_fence_release();                                                              /* C6 */
}

static inline void md_connection_end(struct md_connection_block *block) {
    md_store_release_u64(&block->version, md_load_relaxed_u64(&block->version) + 1); /* C8 */
}

/* Give it to a connection that has done nothing yet. */
static inline void md_connection_take(struct md_connection_block *block, uint32_t number) {
    uint64_t *words = (uint64_t *)(void *)block;
    md_connection_begin(block);
    for (size_t i = 0; i < offsetof(struct md_connection_block, version) / 8; i++) {
        md_store_relaxed_u64(&words[i], 0); /* C7 */
    }
    md_store_relaxed_i64(&block->offset_ns, MD_ABSENT);
    md_store_relaxed_u32(&block->number, number);
    md_connection_end(block);
}

/* size: in [0, MD_CONNECTION_VENUE_SIZE). */
static inline void
md_connection_name(struct md_connection_block *block, const char *venue, size_t size) {
    uint64_t words[MD_CONNECTION_VENUE_SIZE / 8] = {0, 0, 0};
    __builtin_memcpy(words, venue, size);
    md_connection_begin(block);
    for (size_t i = 0; i < sizeof words / 8; i++) {
        md_store_relaxed_u64((uint64_t *)(void *)block->venue + i, words[i]); /* C7 */
    }
    md_connection_end(block);
}

/* state: enum md_connection_state; MD_CONNECTION_FREE gives the place back. */
static inline void
md_connection_set(struct md_connection_block *block, uint32_t state, int64_t now_ns) {
    md_connection_begin(block);
    md_store_relaxed_i64(&block->since_ns, now_ns); /* C7 */
    md_store_relaxed_u32(&block->state, state);
    md_connection_end(block);
}

#define MD_CONNECTION_TRIES 16u

/* Copy a place as it stands: of one connection in one state, the counts of moments close by. 0: it
 * is nobody's, or was being changed all the while. */
static inline int md_connection_load(const struct md_connection_block *block,
                                     struct md_connection_block *out) {
    const uint64_t *from = (const uint64_t *)(const void *)block;
    for (unsigned tries = 0; tries < MD_CONNECTION_TRIES; tries++) {
        uint64_t version = md_load_acquire_u64(&block->version); /* D5 */
        if (version & 1) {
            md_pause();
            continue;
        }
        for (size_t i = 0; i < sizeof *block / 8; i++) {
            md_word_copy((char *)out + i * 8, &from[i]); /* D6 */
        }
        md_fence_acquire();                                    /* D7 */
        if (md_load_relaxed_u64(&block->version) == version) { /* D8 */
            return out->state != MD_CONNECTION_FREE;
        }
    }
    return 0;
}

/* ---- numbers ------------------------------------------------------------------------------- */

/* Only the block's own writer may. */
static inline void md_count(uint64_t *counter, uint64_t by) {
    md_store_relaxed_u64(counter, md_load_relaxed_u64(counter) + by);
}

/* The bucket of a magnitude, in [0, MD_HISTOGRAM_BUCKETS). */
static inline unsigned md_histogram_bucket(uint64_t magnitude) {
    if (magnitude < MD_HISTOGRAM_LINEAR) {
        return (unsigned)magnitude;
    }
    unsigned octave = 63u - (unsigned)__builtin_clzll(magnitude); /* >= MD_HISTOGRAM_OCTAVE_MIN */
    if (octave >= MD_HISTOGRAM_OCTAVE_MAX) {
        return MD_HISTOGRAM_BUCKETS - 1;
    }
    unsigned step = (unsigned)(magnitude >> (octave - 4)) & (MD_HISTOGRAM_STEPS - 1);
    return MD_HISTOGRAM_LINEAR + (octave - MD_HISTOGRAM_OCTAVE_MIN) * MD_HISTOGRAM_STEPS + step;
}

/* The same value, count times. */
static inline void md_histogram_record(struct md_histogram *histogram, int64_t ns, uint64_t count) {
    uint64_t magnitude = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    uint64_t *buckets = ns < 0 ? histogram->negative : histogram->positive;
    if (histogram->count == 0 || ns < histogram->min) {
        md_store_relaxed_i64(&histogram->min, ns);
    }
    if (histogram->count == 0 || ns > histogram->max) {
        md_store_relaxed_i64(&histogram->max, ns);
    }
    md_store_relaxed_i64(&histogram->sum,
                         (int64_t)((uint64_t)histogram->sum + (uint64_t)ns * count));
    md_count(&buckets[md_histogram_bucket(magnitude)], count);
    md_count(&histogram->count, count);
}

#endif
