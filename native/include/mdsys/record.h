/* The 64-byte record: one cache line, the unit of everything that mdsys publishes.
 *
 *   0      8         16       24         28    29     30           31          32        64
 *   | seq  | ts_event | ts_recv | symbol_id | kind | flags | price_scale | size_scale | body |
 *
 * value = integer * 10^-scale. MD_ABSENT: the venue sent none. Times: ns since the Unix epoch.
 * The Python dtype (mdsys/record/record.py) and the golden bytes (tests/layout) say the same.
 */
#ifndef MDSYS_RECORD_H
#define MDSYS_RECORD_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define MD_RECORD_SIZE 64u
#define MD_ABSENT INT64_MIN
#define MD_SYMBOL_WHOLE_RING 0u /* symbol_id of a status that concerns every symbol of its ring */

/* Numbered once, append-only. */
enum md_kind {
    MD_KIND_TRADE = 1,
    MD_KIND_QUOTE = 2,
    MD_KIND_TICKER = 3,
    MD_KIND_LEVEL = 4,
    MD_KIND_BAR = 5, /* always followed by its MD_KIND_BAR_VOLUME */
    MD_KIND_BAR_VOLUME = 6,
    MD_KIND_STATUS = 7,
};

enum md_flag {
    MD_FLAG_BUY = 1,  /* bits 0-1: side. Of a trade: the aggressor; of a level: bid */
    MD_FLAG_SELL = 2, /* of a level: ask */
    MD_FLAG_SIDE_MASK = 3,
    MD_FLAG_SNAPSHOT = 4,   /* part of a full picture, not a change */
    MD_FLAG_LAST = 8,       /* the frame's last record */
    MD_FLAG_CONFLATED = 16, /* stands for several records */
};

/* What a venue can be asked for, per symbol. Append-only; mdsys.feed.venue.CHANNELS. */
enum md_channel {
    MD_CHANNEL_TRADE = 0,
    MD_CHANNEL_QUOTE = 1,
    MD_CHANNEL_BOOK = 2,
    MD_CHANNEL_TICKER = 3,
    MD_CHANNEL_BAR = 4,
};

#define MD_CHANNEL_COUNT 5u

/* What a status record tells. Append-only. first_lost..last_lost are venue ids where named.
 * Reserved: numbered, but not sent yet. */
enum md_status {
    MD_STATUS_CONNECTION_UP = 1,
    MD_STATUS_CONNECTION_DOWN = 2,
    MD_STATUS_GAP = 3,    /* venue ids first_lost..last_lost never came */
    MD_STATUS_STALE = 4,  /* a stream that should tick is silent: first_lost is the ts_recv of its
                           * last record, last_lost its channel (enum md_channel) */
    MD_STATUS_RESYNC = 5, /* the symbol's book is out of step: void until a snapshot comes */
    MD_STATUS_LAPPED = 6, /* reserved: first_lost..last_lost of the ring overwritten */
    MD_STATUS_FRAME_REFUSED = 7,    /* a frame could not be understood */
    MD_STATUS_VALUE_REFUSED = 8,    /* a value does not fit or would have to be rounded */
    MD_STATUS_FRAME_INCOMPLETE = 9, /* reserved: no frame goes out before its end has been judged */
    MD_STATUS_WRITER_RESTARTED = 10, /* frames it had not ended and books of the ring are void */
    MD_STATUS_SYMBOL_REFUSED = 11,
    MD_STATUS_READER_EJECTED = 12, /* the writer waits no more for reader `connection` */
};

struct md_record {
    uint64_t seq;        /* ring sequence, from 1 */
    int64_t ts_event;    /* venue's event time, else its message time, else MD_ABSENT */
    int64_t ts_recv;     /* when the socket read returned */
    uint32_t symbol_id;  /* index in the symbol directory, from 1 */
    uint8_t kind;        /* enum md_kind */
    uint8_t flags;       /* enum md_flag */
    uint8_t price_scale; /* decimals, in [0, 18] */
    uint8_t size_scale;
    union {
        int64_t word[4];
        struct {
            int64_t price, size, trade_id, conditions;
        } trade;
        struct {
            int64_t bid_price, ask_price, bid_size, ask_size;
        } quote;
        struct {
            int64_t last_price, last_size, volume, open_interest;
        } ticker;
        struct {
            /* size 0: the level is gone. Of no side, price and size absent: the one record of a
             * whole book that has no levels. */
            int64_t price, size, orders, update_id;
        } level;
        struct {
            int64_t open, high, low, close;
        } bar;
        struct {
            int64_t volume, vwap, trade_count, interval_ns;
        } bar_volume;
        struct {
            int64_t what, first_lost, last_lost, connection;
        } status;
    } body;
};

static_assert(sizeof(struct md_record) == MD_RECORD_SIZE, "one record, one cache line");
static_assert(offsetof(struct md_record, seq) == 0, "layout");
static_assert(offsetof(struct md_record, ts_event) == 8, "layout");
static_assert(offsetof(struct md_record, ts_recv) == 16, "layout");
static_assert(offsetof(struct md_record, symbol_id) == 24, "layout");
static_assert(offsetof(struct md_record, kind) == 28, "layout");
static_assert(offsetof(struct md_record, flags) == 29, "layout");
static_assert(offsetof(struct md_record, price_scale) == 30, "layout");
static_assert(offsetof(struct md_record, size_scale) == 31, "layout");
static_assert(offsetof(struct md_record, body) == 32, "layout");

/* Header word 3: what stands in bytes 24..31, as one little-endian 64-bit store. */
static inline uint64_t md_record_tag(
    uint32_t symbol_id, unsigned kind, unsigned flags, unsigned price_scale, unsigned size_scale) {
    return (uint64_t)symbol_id | (uint64_t)kind << 32 | (uint64_t)flags << 40 |
           (uint64_t)price_scale << 48 | (uint64_t)size_scale << 56;
}

#endif
