#include "decode_kite.h"

#include "mdsys/decimal.h"
#include "publish.h"

/* A packet's length is its kind. */
enum kite_size {
    KITE_LTP = 8,
    KITE_INDEX_QUOTE = 28,
    KITE_INDEX_FULL = 32,
    KITE_QUOTE = 44,
    KITE_FULL = 184,
};

/* Where its fields stand. */
enum kite_offset {
    KITE_LAST_PRICE = 4,
    KITE_LAST_SIZE = 8,
    KITE_VOLUME = 16,
    KITE_INDEX_TIME = 28,
    KITE_OPEN_INTEREST = 48,
    KITE_TIME = 60,
    KITE_ROWS = 64,
};

#define KITE_TOKEN_SIZE 4u /* it names the symbol, as it is sent */
#define KITE_ROW_SIZE 12u  /* size 4, price 4, orders 2, padding 2 */
#define KITE_SIDE_ROWS 5u  /* bids first */

struct kite_row {
    int64_t price, size, orders;
};

/* What a packet says, at the symbol's scales. */
struct kite_tick {
    int64_t ts_event;
    int64_t last_price, last_size, volume, open_interest;
    struct kite_row rows[2 * KITE_SIDE_ROWS]; /* size 0: there is no such level */
    bool has_depth;
};

static uint32_t kite_u32(const char *at) {
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return __builtin_bswap32(word);
}

static uint32_t kite_u16(const char *at) {
    uint16_t word;
    memcpy(&word, at, sizeof word);
    return __builtin_bswap16(word);
}

/* Decimals of the prices, by the exchange segment: the token's last byte. */
static unsigned kite_price_decimals(const char *token) {
    switch (token[KITE_TOKEN_SIZE - 1]) {
    case 3: /* CDS */
        return 7;
    case 6: /* BCD */
        return 4;
    default:
        return 2;
    }
}

/* value x 10^-decimals at a scale; false where that is not exact, or does not fit. */
static bool kite_scaled(int64_t value, unsigned decimals, unsigned scale, int64_t *out) {
    if (scale < decimals) {
        int64_t units = (int64_t)md_pow10[decimals - scale];
        *out = value / units;
        return value % units == 0;
    }
    return !__builtin_mul_overflow(value, (int64_t)md_pow10[scale - decimals], out) &&
           *out != MD_ABSENT;
}

static bool
kite_price(const struct md_feed_symbol *symbol, const char *packet, unsigned offset, int64_t *out) {
    int32_t price = (int32_t)kite_u32(packet + offset);
    return kite_scaled(price, kite_price_decimals(packet), symbol->price_scale, out);
}

static bool
kite_size(const struct md_feed_symbol *symbol, const char *packet, unsigned offset, int64_t *out) {
    return kite_scaled(kite_u32(packet + offset), 0, symbol->size_scale, out);
}

/* Whole seconds; 0: it was not sent. */
static int64_t kite_time(const char *packet, unsigned offset) {
    uint32_t seconds = kite_u32(packet + offset);
    return seconds == 0 ? MD_ABSENT : (int64_t)seconds * 1000000000;
}

/* Read what the wanted channels need. False: a value of it cannot be held. */
static bool kite_read(const struct md_feed *feed,
                      const struct md_feed_symbol *symbol,
                      const char *packet,
                      uint32_t size,
                      struct kite_tick *tick) {
    *tick = (struct kite_tick){MD_ABSENT, MD_ABSENT, MD_ABSENT, MD_ABSENT, MD_ABSENT, {{0}}, false};
    bool fits = true;
    if (md_feed_wants(feed, MD_CHANNEL_TICKER)) {
        fits = kite_price(symbol, packet, KITE_LAST_PRICE, &tick->last_price);
        if (size >= KITE_QUOTE) {
            fits &= kite_size(symbol, packet, KITE_LAST_SIZE, &tick->last_size) &&
                    kite_size(symbol, packet, KITE_VOLUME, &tick->volume);
        }
        if (size == KITE_FULL) {
            fits &= kite_size(symbol, packet, KITE_OPEN_INTEREST, &tick->open_interest);
        }
    }
    if (size == KITE_INDEX_FULL) {
        tick->ts_event = kite_time(packet, KITE_INDEX_TIME);
    }
    if (size != KITE_FULL) {
        return fits;
    }
    tick->ts_event = kite_time(packet, KITE_TIME);
    tick->has_depth = true;
    bool wants_book = md_feed_wants(feed, MD_CHANNEL_BOOK);
    unsigned step = wants_book ? 1 : KITE_SIDE_ROWS; /* a quote is the first of each side */
    for (unsigned i = 0;
         (wants_book || md_feed_wants(feed, MD_CHANNEL_QUOTE)) && i < 2 * KITE_SIDE_ROWS;
         i += step) {
        unsigned offset = KITE_ROWS + i * KITE_ROW_SIZE;
        struct kite_row *row = &tick->rows[i];
        if (kite_u32(packet + offset) != 0) {
            fits &= kite_size(symbol, packet, offset, &row->size) &&
                    kite_price(symbol, packet, offset + 4, &row->price);
            row->orders = kite_u16(packet + offset + 8);
        }
    }
    return fits;
}

static void kite_publish_quote(struct md_feed *feed,
                               struct md_feed_symbol *symbol,
                               int64_t ts_recv,
                               const struct kite_tick *tick) {
    const struct kite_row *bid = &tick->rows[0];
    const struct kite_row *ask = &tick->rows[KITE_SIDE_ROWS];
    md_publish_quote(feed,
                     symbol,
                     tick->ts_event,
                     ts_recv,
                     bid->size != 0 ? bid->price : MD_ABSENT,
                     ask->size != 0 ? ask->price : MD_ABSENT,
                     bid->size != 0 ? bid->size : MD_ABSENT,
                     ask->size != 0 ? ask->size : MD_ABSENT,
                     MD_ABSENT);
}

static void kite_publish_book(struct md_feed *feed,
                              struct md_feed_symbol *symbol,
                              const struct md_connection *connection,
                              int64_t ts_recv,
                              const struct kite_tick *tick) {
    struct md_levels levels = md_levels_begin(
        feed, symbol, connection, tick->ts_event, ts_recv, MD_ABSENT, MD_FLAG_SNAPSHOT);
    for (unsigned i = 0; i < 2 * KITE_SIDE_ROWS; i++) {
        const struct kite_row *row = &tick->rows[i];
        if (row->size != 0) {
            unsigned side = i < KITE_SIDE_ROWS ? MD_FLAG_BUY : MD_FLAG_SELL;
            md_levels_put(&levels, side, row->price, row->size, row->orders);
        }
    }
    md_levels_end(&levels);
}

static enum md_frame_result kite_packet(struct md_feed *feed,
                                        const char *packet,
                                        uint32_t size,
                                        int64_t ts_recv,
                                        const struct md_connection *connection) {
    if (size != KITE_LTP && size != KITE_INDEX_QUOTE && size != KITE_INDEX_FULL &&
        size != KITE_QUOTE && size != KITE_FULL) {
        return MD_FRAME_UNKNOWN_EVENT;
    }
    struct md_feed_symbol *symbol = md_feed_find_symbol(feed, packet, KITE_TOKEN_SIZE);
    if (symbol == NULL) {
        return MD_FRAME_UNKNOWN_SYMBOL;
    }
    struct kite_tick tick;
    if (!kite_read(feed, symbol, packet, size, &tick)) {
        md_feed_refuse_value(feed, symbol, connection->number, MD_ABSENT, MD_ABSENT, ts_recv);
        if (tick.has_depth) { /* refused with it: ours is of before */
            md_book_unsync(feed, symbol, connection->number, ts_recv);
        }
        return MD_FRAME_VALUE;
    }
    if (md_feed_wants(feed, MD_CHANNEL_TICKER)) {
        md_publish_ticker(feed,
                          symbol,
                          tick.ts_event,
                          ts_recv,
                          tick.last_price,
                          tick.last_size,
                          tick.volume,
                          tick.open_interest);
    }
    if (tick.has_depth && md_feed_wants(feed, MD_CHANNEL_QUOTE)) {
        kite_publish_quote(feed, symbol, ts_recv, &tick);
    }
    if (tick.has_depth && md_feed_wants(feed, MD_CHANNEL_BOOK)) {
        kite_publish_book(feed, symbol, connection, ts_recv, &tick);
    }
    return MD_FRAME_OK;
}

enum md_frame_result md_decode_kite(struct md_feed *feed,
                                    const char *frame,
                                    size_t size,
                                    int64_t ts_recv,
                                    struct md_connection *connection) {
    if (size > MD_FRAME_SIZE_MAX) {
        return MD_FRAME_TOO_LONG;
    }
    if (size == 1) { /* a heartbeat */
        return MD_FRAME_OK;
    }
    if (size == 0) {
        return MD_FRAME_MALFORMED;
    }
    const char *end = frame + size;
    const char *at = frame + 2;
    for (uint32_t count = kite_u16(frame); count > 0;
         count--) { /* the lengths, all of them first */
        if (end - at < 2 || (size_t)(end - at) - 2 < kite_u16(at)) {
            return MD_FRAME_MALFORMED;
        }
        at += 2 + kite_u16(at);
    }
    if (at != end) {
        return MD_FRAME_MALFORMED;
    }
    enum md_frame_result result = MD_FRAME_OK;
    for (at = frame + 2; at < end; at += 2 + kite_u16(at)) {
        enum md_frame_result own = kite_packet(feed, at + 2, kite_u16(at), ts_recv, connection);
        if (result == MD_FRAME_OK) {
            result = own;
        }
    }
    return result;
}
