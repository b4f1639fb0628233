/* The fast scanner: frames in the very key order, and without the blanks, that Binance sends.
 *
 * It knows where everything stands, so it only compares, reads numbers eight digits at a time and
 * publishes. It takes a frame whole or returns false with nothing published; then the flat scanner
 * decides. So all that is rare is left to that one: refusals, holes in a depth sequence, frames
 * too long for one piece, unknown symbols, odd numbers. What this one takes the flat one takes
 * alike (tests/unit/feed/binance holds the two together). */
#ifndef MDSYS_BINANCE_POSITIONAL_H
#define MDSYS_BINANCE_POSITIONAL_H

#include "binance_publish.h"
#include "mdsys/decimal.h"

struct positional {
    const char *at;
    const char *end;
    const char *last8; /* end - 8: where the last whole word begins; within the frame */
};

/* All of it in one function: what is decided per frame is decided by the compiler. */
#define POSITIONAL_INLINE static inline __attribute__((always_inline))

/* Step over a literal of 2 bytes or more. */
#define TAKE(scan, literal) positional_take(scan, literal, sizeof(literal) - 1)

/* memcmp by words that overlap, since compilers call the function for most sizes. */
#define POSITIONAL_SAME(type, at, literal, size)                                                   \
    for (size_t i = 0; i < (size); i += sizeof(type)) {                                            \
        type word, expected;                                                                       \
        size_t from = i + sizeof(type) <= (size) ? i : (size) - sizeof(type);                      \
        memcpy(&word, (at) + from, sizeof word);                                                   \
        memcpy(&expected, (literal) + from, sizeof expected);                                      \
        differ |= (uint64_t)(word ^ expected);                                                     \
    }

POSITIONAL_INLINE bool positional_take(struct positional *scan, const char *literal, size_t size) {
    uint64_t differ = 0;
    if (scan->end - scan->at < (ptrdiff_t)size) {
        return false;
    }
    if (size >= 8) {
        POSITIONAL_SAME(uint64_t, scan->at, literal, size)
    } else if (size >= 4) {
        POSITIONAL_SAME(uint32_t, scan->at, literal, size)
    } else {
        POSITIONAL_SAME(uint16_t, scan->at, literal, size)
    }
    if (differ != 0) {
        return false;
    }
    scan->at += size;
    return true;
}

/* Step to the quote that ends a string. False when a byte comes first that needs a closer look:
 * an escape, anything below '"' or above DEL, or the end of the frame. */
POSITIONAL_INLINE bool positional_text(struct positional *scan) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (; scan->at < scan->end; scan->at += 8) {
        uint64_t word = md_load8(scan->at, scan->last8);
        uint64_t escape = word ^ ones * '\\';
        /* The high bit of each byte that stops us. A borrow can only set one above a true hit,
         * and only the lowest counts. */
        uint64_t hits = (((word - ones * ('"' + 1)) & ~word) | ((escape - ones) & ~escape) | word) &
                        ones * 0x80;
        if (hits != 0) {
            scan->at += (unsigned)__builtin_ctzll(hits) / 8;
            return scan->at < scan->end && *scan->at == '"';
        }
    }
    return false;
}

/* Read an integer of up to 15 digits. */
POSITIONAL_INLINE bool positional_uint(struct positional *scan, uint64_t *out) {
    unsigned count;
    uint64_t word = md_load8(scan->at, scan->last8);
    if ((char)word == '0') {
        return false;
    }
    *out = md_digits8(word, &count);
    scan->at += count;
    if (count == 8) {
        uint64_t more = md_digits8(md_load8(scan->at, scan->last8), &count);
        *out = *out * md_pow10[count] + more;
        scan->at += count;
        return count < 8;
    }
    return count > 0;
}

/* Read a time in ms, 13 digits, from 2001 to 2255; the flat scanner knows the others. Two words
 * hold it, with three digits in both. */
POSITIONAL_INLINE bool positional_time(struct positional *scan, int64_t *ts_event) {
    uint64_t first = md_minus_zeros(md_load8(scan->at, scan->last8));
    uint64_t rest = md_minus_zeros(md_load8(scan->at + 5, scan->last8));
    uint64_t ms = md_digits_value(first) * 100000 + md_digits_value(rest >> 24 << 24);
    unsigned char leading = (unsigned char)first;
    scan->at += 13;
    *ts_event = (int64_t)(ms * 1000000);
    return (md_no_digits(first) | md_no_digits(rest)) == 0 && leading - 1U < 8;
}

/* Step over such a time. */
POSITIONAL_INLINE bool positional_skip_time(struct positional *scan) {
    int64_t unused;
    return positional_time(scan, &unused);
}

/* The text is unusual for a number, or has more decimals than the scale: the general way. */
static __attribute__((noinline)) const char *
positional_odd_decimal(const char *first, const char *end, unsigned scale, int64_t *out) {
    size_t room = (size_t)(end - first);
    size_t size_max = BINANCE_TEXT_SIZE_MAX + 1; /* with the quote */
    const char *quote = memchr(first, '"', room < size_max ? room : size_max);
    bool ok = quote != NULL &&
              md_decimal_parse(first, (size_t)(quote - first), scale, out) == MD_DECIMAL_OK;
    return ok ? quote : NULL;
}

POSITIONAL_INLINE bool positional_decimal(struct positional *scan, unsigned scale, int64_t *out) {
    const char *first = scan->at;
    scan->at = md_decimal_scan(first, scan->last8, scale, out);
    if (__builtin_expect(scan->at == NULL, 0)) {
        scan->at = positional_odd_decimal(first, scan->end, scale, out);
    }
    return scan->at != NULL;
}

POSITIONAL_INLINE bool
positional_price(struct positional *scan, const struct md_feed_symbol *symbol, int64_t *out) {
    return positional_decimal(scan, symbol->price_scale, out);
}

POSITIONAL_INLINE bool
positional_size(struct positional *scan, const struct md_feed_symbol *symbol, int64_t *out) {
    return positional_decimal(scan, symbol->size_scale, out);
}

POSITIONAL_INLINE struct md_feed_symbol *positional_symbol(struct positional *scan,
                                                           struct md_feed *feed) {
    const char *first = scan->at;
    if (!positional_text(scan)) {
        return NULL;
    }
    return md_feed_find_symbol(feed, first, (size_t)(scan->at - first));
}

POSITIONAL_INLINE bool positional_end(struct positional *scan, bool wrapped) {
    size_t size = wrapped ? 2 : 1;
    return (size_t)(scan->end - scan->at) == size && scan->at[0] == '}' && scan->end[-1] == '}';
}

/* "e":"trade","E": is behind us. Spot E s t p q T m M; USD-M E T s t p q X m. */
POSITIONAL_INLINE bool
positional_trade(const struct binance_context *context, struct positional *scan, bool wrapped) {
    int64_t ts_event = MD_ABSENT, price, size;
    uint64_t trade_id;
    if (!positional_skip_time(scan) ||
        (context->futures && !(TAKE(scan, ",\"T\":") && positional_time(scan, &ts_event)))) {
        return false;
    }
    if (!TAKE(scan, ",\"s\":\"")) {
        return false;
    }
    const struct md_feed_symbol *symbol = positional_symbol(scan, context->feed);
    if (symbol == NULL || !TAKE(scan, "\",\"t\":") || !positional_uint(scan, &trade_id) ||
        !TAKE(scan, ",\"p\":\"") || !positional_price(scan, symbol, &price) ||
        !TAKE(scan, "\",\"q\":\"") || !positional_size(scan, symbol, &size)) {
        return false;
    }
    if (context->futures ? !TAKE(scan, "\",\"X\":\"MARKET\"")
                         : !(TAKE(scan, "\",\"T\":") && positional_time(scan, &ts_event))) {
        return false;
    }
    bool buyer_is_maker = TAKE(scan, ",\"m\":true");
    if ((!buyer_is_maker && !TAKE(scan, ",\"m\":false")) ||
        (!context->futures && !TAKE(scan, ",\"M\":true")) || !positional_end(scan, wrapped)) {
        return false;
    }
    binance_publish_trade(
        context, symbol, trade_id, ts_event, price, size, buyer_is_maker, BINANCE_MARKET);
    return true;
}

/* "u": is behind us. Spot u s b B a A; USD-M the same, then T E. */
POSITIONAL_INLINE bool
positional_quote(const struct binance_context *context, struct positional *scan, bool wrapped) {
    int64_t bid_price, bid_size, ask_price, ask_size;
    int64_t ts_event = MD_ABSENT;
    uint64_t update_id;
    if (!positional_uint(scan, &update_id) || !TAKE(scan, ",\"s\":\"")) {
        return false;
    }
    const struct md_feed_symbol *symbol = positional_symbol(scan, context->feed);
    if (symbol == NULL || !TAKE(scan, "\",\"b\":\"") ||
        !positional_price(scan, symbol, &bid_price) || !TAKE(scan, "\",\"B\":\"") ||
        !positional_size(scan, symbol, &bid_size) || !TAKE(scan, "\",\"a\":\"") ||
        !positional_price(scan, symbol, &ask_price) || !TAKE(scan, "\",\"A\":\"") ||
        !positional_size(scan, symbol, &ask_size) || *scan->at++ != '"') {
        return false;
    }
    if (context->futures && (!TAKE(scan, ",\"T\":") || !positional_time(scan, &ts_event) ||
                             !TAKE(scan, ",\"E\":") || !positional_skip_time(scan))) {
        return false;
    }
    if (!positional_end(scan, wrapped)) {
        return false;
    }
    binance_publish_quote(
        context, symbol, update_id, ts_event, bid_price, ask_price, bid_size, ask_size);
    return true;
}

/* One side of the book, "[" behind us, up to and with its "]". */
POSITIONAL_INLINE bool positional_levels(struct positional *scan,
                                         const struct md_feed_symbol *symbol,
                                         struct binance_levels *levels,
                                         unsigned flags) {
    if (scan->at < scan->end && *scan->at == ']') {
        scan->at++;
        return true;
    }
    do {
        int64_t price, size;
        if (levels->pending == levels->pending_max || !TAKE(scan, "[\"") ||
            !positional_price(scan, symbol, &price) || !TAKE(scan, "\",\"") ||
            !positional_size(scan, symbol, &size) || !TAKE(scan, "\"]")) {
            return false;
        }
        binance_levels_put(levels, flags, price, size);
    } while (scan->at < scan->end && *scan->at++ == ',');
    return scan->at[-1] == ']';
}

/* "e":"depthUpdate","E": is behind us. Spot E s U u b a; USD-M E T s U u pu b a. The slots are
 * claimed as the rows are read; without the release at the end nobody sees them. */
POSITIONAL_INLINE bool
positional_depth(const struct binance_context *context, struct positional *scan, bool wrapped) {
    int64_t ts_event = MD_ABSENT;
    uint64_t first, latest;
    if (!positional_time(scan, &ts_event) ||
        (context->futures && !(TAKE(scan, ",\"T\":") && positional_time(scan, &ts_event))) ||
        !TAKE(scan, ",\"s\":\"")) {
        return false;
    }
    const struct md_feed_symbol *symbol = positional_symbol(scan, context->feed);
    if (symbol == NULL || !TAKE(scan, "\",\"U\":") || !positional_uint(scan, &first) ||
        !TAKE(scan, ",\"u\":") || !positional_uint(scan, &latest) || first > latest) {
        return false;
    }
    if (context->futures) {
        if (!TAKE(scan, ",\"pu\":") || !positional_uint(scan, &first)) {
            return false;
        }
        first++; /* pu was the last id that this frame does not cover */
    }
    uint64_t *last = &symbol->cell->venue_book_id;
    if (*last != 0 && first != *last + 1) {
        return false; /* a hole has to go into the ring before the levels */
    }
    struct binance_levels levels = binance_levels_begin(context, symbol, ts_event, latest);
    if (!TAKE(scan, ",\"b\":[") || !positional_levels(scan, symbol, &levels, MD_FLAG_BUY)) {
        return false;
    }
    uint64_t bid_count = levels.pending;
    if (!TAKE(scan, ",\"a\":[") || !positional_levels(scan, symbol, &levels, MD_FLAG_SELL) ||
        !positional_end(scan, wrapped)) {
        return false;
    }
    if (levels.pending != 0) {
        unsigned flags = levels.pending == bid_count ? MD_FLAG_BUY : MD_FLAG_SELL;
        uint64_t seq = levels.ring->next + levels.pending - 1;
        md_slot_put(&levels.ring->slots[seq & levels.ring->mask],
                    2,
                    levels.tag | (uint64_t)(flags | MD_FLAG_LAST) << 40);
        binance_levels_release(&levels, context->feed);
    }
    md_feed_note_sequence(last, latest);
    return true;
}

POSITIONAL_INLINE bool
positional_decode(const struct binance_context *context, const char *frame, size_t size) {
    if (size < 16) {
        return false;
    }
    struct positional scan = {.at = frame, .end = frame + size, .last8 = frame + size - 8};
    bool wrapped = TAKE(&scan, "{\"stream\":\"");
    if (wrapped) {
        if (!positional_text(&scan) || !TAKE(&scan, "\",\"data\":{")) {
            return false;
        }
    } else if (*scan.at++ != '{') {
        return false;
    }
    if (!context->futures && TAKE(&scan, "\"u\":")) {
        return positional_quote(context, &scan, wrapped);
    }
    if (!TAKE(&scan, "\"e\":\"")) {
        return false;
    }
    if (TAKE(&scan, "trade\",\"E\":")) {
        return positional_trade(context, &scan, wrapped);
    }
    if (context->futures && TAKE(&scan, "bookTicker\",\"u\":")) {
        return positional_quote(context, &scan, wrapped);
    }
    return TAKE(&scan, "depthUpdate\",\"E\":") && positional_depth(context, &scan, wrapped);
}

#endif
