/* The daemon's own numbers, in shared memory: one block a feed, written by that feed alone.
 *
 * Segment mdsys.INSTANCE.counters: header 4096 | block[feed_count]. This file is the schema: the
 * lists below make the C offsets, and Python reads the same lists through _native.counter_schema().
 * A counter is one relaxed load and store of a line its only writer owns.
 */
#ifndef MDSYS_COUNTERS_H
#define MDSYS_COUNTERS_H

#include "mdsys/atomic.h"
#include "mdsys/segment.h"

/* X(name, help). Append-only within an ABI version. */
#define MD_COUNTERS(X)                                                                             \
    X(bytes, "payload bytes received")                                                             \
    X(frames, "data frames received")                                                              \
    X(frames_control, "answers to our requests and other messages that are no market data")        \
    X(frames_malformed, "frames refused: not the venue's JSON")                                    \
    X(frames_unknown_event, "frames refused: an event this version does not know")                 \
    X(frames_unknown_symbol, "frames refused: a symbol nobody subscribed")                         \
    X(frames_value_refused, "frames refused: a value does not fit or would have to be rounded")    \
    X(frames_too_long, "frames refused: over the size bound")                                      \
    X(frames_binary, "frames refused: binary where text is due")                                   \
    X(frames_protocol, "connections closed by us for breaking RFC 6455")                           \
    X(records, "records published, statuses included")                                             \
    X(trades, "trade records published")                                                           \
    X(quotes, "quote records published")                                                           \
    X(levels, "level records published")                                                           \
    X(statuses, "status records published")                                                        \
    X(tickers, "ticker records published")                                                         \
    X(bars, "bars published, two records each")                                                    \
    X(book_snapshots, "whole books that came, by stream or by REST")                               \
    X(book_resyncs, "books that fell out of step and wait for a snapshot")                         \
    X(book_checksums, "books whose checksum was held against the venue's")                         \
    X(book_mismatches, "of these, those that differed")                                            \
    X(capture_frames, "frames copied for the recorder")                                            \
    X(capture_lost_frames, "frames that the recorder's ring had no room for")                      \
    X(capture_lost_bytes, "their bytes")                                                           \
    X(gaps, "holes in a venue's sequence, each announced by a gap status")                         \
    X(gap_ids, "venue ids that the holes held")                                                    \
    X(reordered, "records that came late: their venue id fills a hole, or lies below the last")    \
    X(duplicates, "records dropped because their venue id was published already")                  \
    X(pings, "pings answered")                                                                     \
    X(connects, "connections established")                                                         \
    X(connect_failures, "attempts to connect that failed")                                         \
    X(disconnects, "connections lost or closed")                                                   \
    X(connections, "connections up now")                                                           \
    X(subscriptions_confirmed, "streams the venue confirmed on the connections that are up")       \
    X(subscriptions_refused, "streams the venue refused")                                          \
    X(subscriptions_requested, "streams asked for on the connections that are up")                 \
    X(log_suppressed, "log lines not written because there were too many")                         \
    X(bells, "times a sleeping reader was woken")                                                  \
    X(lossless_waits, "times the writer waited for a lossless reader")                             \
    X(lossless_wait_ns, "ns that it waited")                                                       \
    X(readers_ejected, "lossless readers the writer waits for no more")

/* X(name, help), each a signed histogram of ns. */
#define MD_HISTOGRAMS(X)                                                                           \
    X(recv_to_ring, "socket read to the release of the buffer's last record, once per record")     \
    X(event_to_recv,                                                                               \
      "venue's event time to our socket read, negative when its clock is ahead; of "               \
      "each read's last record")

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
#define MD_COUNTER_FIELD(name, help) uint64_t name;
    MD_COUNTERS(MD_COUNTER_FIELD)
#undef MD_COUNTER_FIELD
#define MD_HISTOGRAM_FIELD(name, help) struct md_histogram name;
    MD_HISTOGRAMS(MD_HISTOGRAM_FIELD)
#undef MD_HISTOGRAM_FIELD
};

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

/* One connection through all its sockets; two lines, written by its feed alone. */
struct md_connection_block {
    uint32_t number; /* as in status records */
    uint32_t state;  /* enum md_connection_state */
    int64_t since_ns;
    int64_t last_frame_ns; /* anything, PINGs and heartbeats too */
    int64_t last_data_ns;  /* a frame that held records */
    uint64_t frames;
    uint64_t bytes;
    uint64_t records;
    uint64_t opens;
    int64_t offset_ns; /* ts_event - ts_recv of the newest record: the venue's clock ahead of ours,
                        * less the way; MD_ABSENT: never seen */
    uint64_t reserved0[7];
};

static_assert(sizeof(struct md_connection_block) == 128, "two cache lines");

struct md_counters_header {
    struct md_segment_header segment;
    uint64_t blocks_offset;
    uint32_t block_stride;
    uint32_t block_count;
    uint64_t connections_offset; /* MD_CONNECTION_COUNT_MAX places a feed, feed after feed */
    uint32_t connection_stride;
    uint32_t connection_count;
    uint64_t reserved0[4];
};

static_assert(sizeof(struct md_counters_header) == 192, "three cache lines");

/* Grows with the lists, so that two versions with other counters refuse each other. */
#define MD_SCHEMA_COUNTERS (UINT64_C(0x0001000000000000) | sizeof(struct md_counter_block))

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
                         counters->connection_count)) {
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

/* Only the block's own feed may. */
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
