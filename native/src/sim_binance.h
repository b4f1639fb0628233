/* A simulated Binance market: random-walk books in, WebSocket frames out.
 *
 *   seed, names ──▶ md_sim_advance ──▶ one block of events ──▶ md_sim_render, once per client ──▶
 * bytes
 *
 * The walk never looks at who is subscribed: event number i is the same for every client and for
 * every subscription, and a client is shown those it asked for. So ids are contiguous per symbol as
 * long as a client stays subscribed, and jump by what it missed when it was not, as at the venue.
 * The same seed, time, rate, mix and number of symbols give the same bytes, however the calls are
 * cut into blocks.
 *
 * Each symbol keeps a true book of MD_SIM_LEVELS a side. A bookTicker shows its top; a depth frame
 * holds every level touched since the frame before it, and a symbol's first one the whole book. So
 * a book rebuilt from depth frames alone equals a bookTicker of the same update id.
 *
 * One thread uses one market. Nothing here allocates after md_sim_create or calls the kernel. */
#ifndef MDSYS_SIM_BINANCE_H
#define MDSYS_SIM_BINANCE_H

#include <stddef.h>
#include <stdint.h>

enum {
    MD_SIM_LEVELS = 20,            /* of each side of a book */
    MD_SIM_BLOCK_EVENTS = 1024,    /* most events of one block */
    MD_SIM_SYMBOLS_MAX = 1 << 20,  /* 400 MB of books */
    MD_SIM_NAME_SIZE_MAX = 50,     /* of a symbol: BINANCE_USDM:<symbol> fits 63 bytes */
    MD_SIM_EVENT_SIZE_MAX = 65536, /* no event renders to more, with every stream wanted */
};

enum md_sim_venue { MD_SIM_SPOT = 0, MD_SIM_USDM = 1, MD_SIM_COINM = 2 };

enum md_sim_kind { MD_SIM_TRADE = 0, MD_SIM_QUOTE = 1, MD_SIM_DEPTH = 2, MD_SIM_KIND_COUNT = 3 };

/* What a client wants of one symbol: one byte of these bits. The depth streams differ in name only:
 * all of them get each depth event. */
enum md_sim_stream {
    MD_SIM_STREAM_TRADE = 1,
    MD_SIM_STREAM_QUOTE = 2,
    MD_SIM_STREAM_DEPTH =
        4, /* and up: @depth, @depth@100ms, @depth@250ms, @depth@500ms, @depth@0ms */
    MD_SIM_STREAM_DEPTH_100MS = 8,
    MD_SIM_STREAM_DEPTH_250MS = 16,
    MD_SIM_STREAM_DEPTH_500MS = 32,
    MD_SIM_STREAM_DEPTH_0MS = 64,
};

enum md_sim_form {
    MD_SIM_RAW = 0,
    MD_SIM_COMBINED = 1,     /* {"stream":..,"data":..} */
    MD_SIM_MICROSECONDS = 2, /* times in µs instead of ms, as spot's timeUnit=MICROSECOND */
};

struct md_sim_config {
    uint64_t seed;
    uint64_t rate;                          /* events per second of market time, in [1, 10^9] */
    uint32_t symbol_count;                  /* in [1, MD_SIM_SYMBOLS_MAX] */
    uint8_t venue;                          /* of md_sim_venue */
    uint8_t mix_percent[MD_SIM_KIND_COUNT]; /* by md_sim_kind; 100 in all */
};

/* A price in ticks and what rests there in lots; 0: nothing. */
struct md_sim_level {
    uint32_t price;
    uint32_t lots;
};

struct md_sim_event {
    int64_t time_ns;
    uint64_t id; /* trade id, or update id */
    uint64_t first_id;
    uint64_t previous_id;
    uint32_t symbol;
    uint8_t kind;
    uint8_t buyer_is_maker;
    uint8_t bid_count;
    uint8_t ask_count;
    struct md_sim_level bid; /* of a quote; a trade's price and size */
    struct md_sim_level ask;
    uint32_t level_first; /* of a depth: its bids, then its asks, see md_sim_levels */
    uint32_t unused;
};

/* A symbol's true book as it is now, each side's best level first. */
struct md_sim_book {
    uint64_t update_id; /* the last that it holds */
    struct md_sim_level bids[MD_SIM_LEVELS];
    struct md_sim_level asks[MD_SIM_LEVELS];
};

/* Frames rendered, and the records a decoder makes of them (a depth frame: one per level). */
struct md_sim_counts {
    uint64_t frames[MD_SIM_KIND_COUNT];
    uint64_t records[MD_SIM_KIND_COUNT];
};

struct md_sim_market;

/* Returns NULL when there is no memory. Symbols have no names yet. */
struct md_sim_market *md_sim_create(const struct md_sim_config *config);

void md_sim_destroy(struct md_sim_market *market);

/* Names symbol `index`: `size` bytes in [1, MD_SIM_NAME_SIZE_MAX], plain ASCII that JSON needs not
 * escape. Names do not influence the walk. */
void md_sim_set_name(struct md_sim_market *market, uint32_t index, const char *name, size_t size);

/* Sets the time of the next event, in ns since the epoch: event i of those that follow happens
 * i / rate seconds later. Milliseconds of it have 13 digits. */
void md_sim_set_time(struct md_sim_market *market, int64_t time_ns);

/* Moves the clock: what is to come happens `by_ns` later, or earlier. */
void md_sim_shift_time(struct md_sim_market *market, int64_t by_ns);

/* The time of the next event. */
int64_t md_sim_time(const struct md_sim_market *market);

/* Decimals of symbol `index`: a tick is 10^-price, a lot 10^-size. */
void md_sim_decimals(const struct md_sim_market *market,
                     uint32_t index,
                     uint8_t *price,
                     uint8_t *size);

/* Replaces the block by the next `count` events, in [0, MD_SIM_BLOCK_EVENTS]. */
void md_sim_advance(struct md_sim_market *market, size_t count);

/* Goes on, an event at a time and at most `count` of them, until one whose kind is wanted: bit
 * 1 << kind of its symbol's byte. That event is the block then, and what md_sim_read_book says is
 * the book just after it. Returns it, or NULL when none of the `count` was wanted. */
const struct md_sim_event *
md_sim_next(struct md_sim_market *market, const uint8_t *wanted, uint64_t count);

/* The levels of an event of the block. */
const struct md_sim_level *md_sim_levels(const struct md_sim_market *market,
                                         const struct md_sim_event *event);

/* Reads the true book of symbol `index` after the last event. */
void md_sim_read_book(const struct md_sim_market *market, uint32_t index, struct md_sim_book *book);

/* Events so far: the number of the next one. */
uint64_t md_sim_event_count(const struct md_sim_market *market);

/* Writes the block's events from `*cursor` on as WebSocket text frames (unmasked, FIN), those that
 * `wanted` (a byte of md_sim_stream bits per symbol) asks for, until the block or the room ends,
 * and moves the cursor behind the last event written.
 *
 * Returns the bytes written, in [0, capacity]. `capacity` is at least MD_SIM_EVENT_SIZE_MAX; while
 * the cursor is below the block's size there is more. `form` is an or of md_sim_form. */
size_t md_sim_render(const struct md_sim_market *market,
                     const uint8_t *wanted,
                     unsigned form,
                     size_t *cursor,
                     char *out,
                     size_t capacity,
                     struct md_sim_counts *counts);

/* Events in the block. */
size_t md_sim_block_count(const struct md_sim_market *market);

#endif
