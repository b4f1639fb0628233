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
    const char *last8; /* where the frame's last whole word begins */
    bool futures;
};

/* All of it in one function: what is decided per frame is decided by the compiler. */
#define POSITIONAL_INLINE static inline __attribute__((always_inline))

/* Whether size bytes are left. What always has one width is compared and read without a look at the
 * end; each stretch of such begins with this, or with ROOM and an example of the stretch. */
POSITIONAL_INLINE bool positional_room(const struct positional *scan, ptrdiff_t size) {
    return scan->end - scan->at >= size;
}

#define ROOM(scan, example) positional_room(scan, sizeof(example) - 1)

POSITIONAL_INLINE uint64_t positional_load8(const char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

POSITIONAL_INLINE uint32_t positional_load4(const char *at) {
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Compare by words that overlap, since compilers call memcmp for most sizes. */
POSITIONAL_INLINE bool positional_same(const char *at, const char *literal, size_t size) {
    size_t i = 0;
    for (; size >= 8 && i < size; i += 8) {
        size_t from = i + 8 <= size ? i : size - 8;
        if (positional_load8(at + from) != positional_load8(literal + from)) {
            return false;
        }
    }
    for (; size >= 4 && i < size; i += 4) {
        size_t from = i + 4 <= size ? i : size - 4;
        if (positional_load4(at + from) != positional_load4(literal + from)) {
            return false;
        }
    }
    for (; i < size; i++) {
        if (at[i] != literal[i]) {
            return false;
        }
    }
    return true;
}

POSITIONAL_INLINE bool positional_next(struct positional *scan, const char *literal, size_t size) {
    if (!positional_same(scan->at, literal, size)) {
        return false;
    }
    scan->at += size;
    return true;
}

/* Step over a literal: NEXT where there is room, TAKE anywhere. */
#define NEXT(scan, literal) positional_next(scan, literal, sizeof(literal) - 1)
#define TAKE(scan, literal) (ROOM(scan, literal) && NEXT(scan, literal))

/* Where in 16 bytes the first is that ends a string or needs a closer look: quote, escape,
 * controls, what is beyond ASCII; blank and '!' too, so that one comparison does. 16: there is
 * none. */
POSITIONAL_INLINE unsigned positional_stop(const char *at) {
#ifdef MD_DECIMAL_SSE2
    __m128i text = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i plain = _mm_cmpgt_epi8(text, _mm_set1_epi8('"'));
    __m128i escape = _mm_cmpeq_epi8(text, _mm_set1_epi8('\\'));
    return (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(_mm_andnot_si128(escape, plain)));
#else
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (unsigned i = 0; i < 16; i += 8) {
        uint64_t word = positional_load8(at + i);
        uint64_t escape = word ^ ones * '\\';
        /* The high bit of each such byte. A borrow can only set one above a true hit, and only the
         * lowest counts. */
        uint64_t hits = (((word - ones * ('"' + 1)) & ~word) | ((escape - ones) & ~escape) | word) &
                        ones * 0x80;
        if (hits != 0) {
            return i + (unsigned)__builtin_ctzll(hits) / 8;
        }
    }
    return 16;
#endif
}

/* Step to the quote that ends a string. False when a byte comes first that needs a closer look, or
 * the frame's end draws near: no string of ours ends in the last 16 bytes. */
POSITIONAL_INLINE bool positional_text(struct positional *scan) {
    for (; positional_room(scan, 16); scan->at += 16) {
        unsigned stop = positional_stop(scan->at);
        if (stop < 16) {
            scan->at += stop;
            return *scan->at == '"';
        }
    }
    return false;
}

/* Read an integer of up to 15 digits. 16 bytes of room. */
POSITIONAL_INLINE bool positional_uint(struct positional *scan, uint64_t *out) {
    if (*scan->at == '0') {
        return false;
    }
    unsigned count;
    uint64_t first = md_minus_zeros(positional_load8(scan->at));
    if (__builtin_expect(md_no_digits(first) != 0, 0)) {
        *out = md_digits8(positional_load8(scan->at), &count);
        scan->at += count;
        return count != 0;
    }
    uint64_t second = md_minus_zeros(positional_load8(scan->at + 8));
    uint64_t no_digits = md_no_digits(second);
    if (no_digits == 0) {
        return false;
    }
    unsigned bits = md_digit_bits(no_digits);
    uint64_t values = md_digits_values(first, second << 8 << (56 - bits)); /* right-aligned */
    *out = (uint32_t)values * md_pow10[bits / 8] + (values >> 32);
    scan->at += 8 + bits / 8;
    return true;
}

/* The same, with a literal before it. */
#define UINT(scan, literal, out)                                                                   \
    (positional_room(scan, sizeof(literal) - 1 + 16) && NEXT(scan, literal) &&                     \
     positional_uint(scan, out))

/* Read a time in ms, 13 digits, from 2001 to 2255; the flat scanner knows the others. Two words
 * hold it, with three digits in both. */
POSITIONAL_INLINE bool positional_time(struct positional *scan, int64_t *ts_event) {
    uint64_t first = md_minus_zeros(positional_load8(scan->at));
    uint64_t rest = md_minus_zeros(positional_load8(scan->at + 5));
    uint64_t values = md_digits_values(first, rest >> 24 << 24);
    unsigned char leading = (unsigned char)first;
    scan->at += 13;
    *ts_event = (int64_t)(((uint32_t)values * UINT64_C(100000) + (values >> 32)) * 1000000);
    return (md_no_digits(first) | md_no_digits(rest)) == 0 && leading - 1U < 8;
}

/* Step over such a time. */
POSITIONAL_INLINE bool positional_skip_time(struct positional *scan) {
    int64_t unused;
    return positional_time(scan, &unused);
}

/* The number has other decimals than expected, or something unusual: the general ways. */
static __attribute__((noinline)) const char *positional_odd_decimal(
    const char *first, const char *end, unsigned scale, uint8_t *decimals, int64_t *out) {
    const char *quote = md_decimal_scan(first, end - 8, scale, out);
    if (quote != NULL) {
        const char *point = memchr(first, '.', (size_t)(quote - first));
        *decimals = point == NULL ? 0 : (uint8_t)(quote - point - 1);
        return quote;
    }
    size_t room = (size_t)(end - first);
    size_t size_max = BINANCE_TEXT_SIZE_MAX + 1; /* with the quote */
    quote = memchr(first, '"', room < size_max ? room : size_max);
    bool ok = quote != NULL &&
              md_decimal_parse(first, (size_t)(quote - first), scale, out) == MD_DECIMAL_OK;
    return ok ? quote : NULL;
}

/* Read a price or size. Spot writes eight decimals; USD-M as many as the instrument's tick has, so
 * as many as the last time. */
POSITIONAL_INLINE bool positional_decimal(struct positional *scan,
                                          const char *last8, /* as in md_decimal_scan_known */
                                          unsigned scale,
                                          uint8_t *decimals,
                                          int64_t *out) {
    const char *first = scan->at;
    unsigned expected = scan->futures ? *decimals : 8;
    scan->at = md_decimal_scan_known(first, last8, scale, expected, out);
    if (__builtin_expect(scan->at == NULL, 0)) {
        scan->at = positional_odd_decimal(first, scan->last8 + 8, scale, decimals, out);
    }
    return scan->at != NULL;
}

/* Read a symbol's price or size, with a literal before it. */
#define DECIMAL(scan, literal, symbol, which, out)                                                 \
    (positional_room(scan, sizeof(literal) - 1 + MD_DECIMAL_ROOM) && NEXT(scan, literal) &&        \
     positional_decimal(scan, NULL, symbol->which##_scale, &symbol->which##_decimals, out))

/* The same up to the end of the frame. */
#define LAST_DECIMAL(scan, literal, symbol, which, out)                                            \
    (TAKE(scan, literal) &&                                                                        \
     positional_decimal(                                                                           \
         scan, (scan)->last8, symbol->which##_scale, &symbol->which##_decimals, out))

POSITIONAL_INLINE struct md_feed_symbol *positional_symbol(struct positional *scan,
                                                           struct md_feed *feed) {
    static const uint64_t keep[4] = {UINT64_MAX, UINT64_MAX, 0, 0};
    const char *first = scan->at;
    if (!positional_text(scan)) {
        return NULL;
    }
    size_t size = (size_t)(scan->at - first);
    if (__builtin_expect(size - 1 >= MD_SHORT_NAME_SIZE_MAX, 0)) {
        return md_feed_find_symbol(feed, first, size);
    }
    struct md_short_name name, mask; /* positional_text has seen that there are 16 bytes */
    memcpy(&name, first, sizeof name);
    memcpy(&mask, (const char *)keep + sizeof mask - size, sizeof mask);
    name.low &= mask.low;
    name.high &= mask.high;
    return md_feed_find_short(feed, name, size);
}

/* Step over the pair that follows a symbol of coin-M, up to its closing quote: ","ps":"BTCUSD */
POSITIONAL_INLINE bool positional_pair(const struct binance_context *context,
                                       struct positional *scan) {
    return !context->coinm || (TAKE(scan, "\",\"ps\":\"") && positional_text(scan));
}

POSITIONAL_INLINE bool positional_end(struct positional *scan) {
    return scan->end - scan->at == 1 && *scan->at == '}';
}

/* Step over ,"m":true or ,"m":false; 10 bytes of room. Without a branch on which it is: that is a
 * toss of a coin. */
POSITIONAL_INLINE bool positional_maker(struct positional *scan, bool *buyer_is_maker) {
    bool maker = scan->at[5] == 't';
    uint64_t begin = positional_load8(maker ? ",\"m\":tru" : ",\"m\":fal");
    uint32_t end = positional_load4(maker ? "true" : "alse");
    bool same = positional_load8(scan->at) == begin;
    scan->at += 10 - maker;
    *buyer_is_maker = maker;
    return same && positional_load4(scan->at - 4) == end;
}

/* "e":"trade","E": is behind us. Spot E s t p q T m M; USD-M E T s t p q X m. */
POSITIONAL_INLINE bool positional_trade(const struct binance_context *context,
                                        struct positional *scan) {
    int64_t ts_event = MD_ABSENT, price, size;
    uint64_t trade_id;
    bool buyer_is_maker;
    if (!ROOM(scan, "0123456789012,\"T\":0123456789012,\"s\":\"") || !positional_skip_time(scan) ||
        (context->futures && !(NEXT(scan, ",\"T\":") && positional_time(scan, &ts_event))) ||
        !NEXT(scan, ",\"s\":\"")) {
        return false;
    }
    struct md_feed_symbol *symbol = positional_symbol(scan, context->feed);
    if (symbol == NULL || !UINT(scan, "\",\"t\":", &trade_id) ||
        !DECIMAL(scan, ",\"p\":\"", symbol, price, &price) ||
        !DECIMAL(scan, "\",\"q\":\"", symbol, size, &size)) {
        return false;
    }
    if (context->futures) {
        if (!ROOM(scan, "\",\"X\":\"MARKET\",\"m\":true}") || !NEXT(scan, "\",\"X\":\"MARKET\"") ||
            !positional_maker(scan, &buyer_is_maker)) {
            return false;
        }
    } else if (!ROOM(scan, "\",\"T\":0123456789012,\"m\":true,\"M\":true}") ||
               !NEXT(scan, "\",\"T\":") || !positional_time(scan, &ts_event) ||
               !positional_maker(scan, &buyer_is_maker) || !NEXT(scan, ",\"M\":true")) {
        return false;
    }
    if (!positional_end(scan)) {
        return false;
    }
    binance_publish_trade(
        context, symbol, trade_id, ts_event, price, size, buyer_is_maker, BINANCE_MARKET);
    return true;
}

/* "u": is behind us. Spot u s b B a A; USD-M the same, then T E; coin-M u e s ps b B a A T E. */
POSITIONAL_INLINE bool positional_quote(const struct binance_context *context,
                                        struct positional *scan) {
    int64_t bid_price, bid_size, ask_price, ask_size;
    int64_t ts_event = MD_ABSENT;
    uint64_t update_id;
    if (!UINT(scan, "\"u\":", &update_id) ||
        !(context->coinm ? TAKE(scan, ",\"e\":\"bookTicker\",\"s\":\"")
                         : TAKE(scan, ",\"s\":\""))) {
        return false;
    }
    struct md_feed_symbol *symbol = positional_symbol(scan, context->feed);
    if (symbol == NULL || !positional_pair(context, scan) ||
        !DECIMAL(scan, "\",\"b\":\"", symbol, price, &bid_price) ||
        !DECIMAL(scan, "\",\"B\":\"", symbol, size, &bid_size) ||
        !DECIMAL(scan, "\",\"a\":\"", symbol, price, &ask_price)) {
        return false;
    }
    if (context->futures) {
        if (!DECIMAL(scan, "\",\"A\":\"", symbol, size, &ask_size) ||
            !ROOM(scan, "\",\"T\":0123456789012,\"E\":0123456789012") || !NEXT(scan, "\",\"T\":") ||
            !positional_time(scan, &ts_event) || !NEXT(scan, ",\"E\":") ||
            !positional_skip_time(scan)) {
            return false;
        }
    } else if (!LAST_DECIMAL(scan, "\",\"A\":\"", symbol, size, &ask_size)) {
        return false;
    } else {
        scan->at++; /* the quote */
    }
    if (!positional_end(scan)) {
        return false;
    }
    binance_publish_quote(
        context, symbol, update_id, ts_event, bid_price, ask_price, bid_size, ask_size);
    return true;
}

/* One side of the book, "[" behind us, up to and with its "]". */
POSITIONAL_INLINE bool positional_levels(struct positional *scan,
                                         struct md_feed_symbol *symbol,
                                         struct md_levels *levels,
                                         unsigned flags) {
    if (scan->at < scan->end && *scan->at == ']') {
        scan->at++;
        return true;
    }
    do {
        int64_t price, size;
        if (levels->pending == levels->pending_max ||
            !LAST_DECIMAL(scan, "[\"", symbol, price, &price) ||
            !LAST_DECIMAL(scan, "\",\"", symbol, size, &size) || !TAKE(scan, "\"]") || size < 0) {
            return false;
        }
        binance_levels_put(levels, flags, price, size);
    } while (scan->at < scan->end && *scan->at++ == ',');
    return scan->at[-1] == ']';
}

/* A function of its own: a book is long, and the registers of the short frames are dear. So it
 * takes a copy: a scan whose address is known elsewhere lives in memory.
 *
 * "e":"depthUpdate","E": is behind us. Spot E s U u b a; USD-M E T s U u pu b a; coin-M has ps
 * behind s. The slots are
 * claimed as the rows are read; without the release at the end nobody sees them. */
static __attribute__((noinline, flatten)) bool
positional_depth(const struct binance_context *context, struct positional from) {
    struct positional *scan = &from;
    int64_t ts_event = MD_ABSENT;
    uint64_t first, latest;
    if (!ROOM(scan, "0123456789012,\"T\":0123456789012,\"s\":\"") ||
        !positional_time(scan, &ts_event) ||
        (context->futures && !(NEXT(scan, ",\"T\":") && positional_time(scan, &ts_event))) ||
        !NEXT(scan, ",\"s\":\"")) {
        return false;
    }
    struct md_feed_symbol *symbol = positional_symbol(scan, context->feed);
    if (symbol == NULL || !positional_pair(context, scan) || !UINT(scan, "\",\"U\":", &first) ||
        !UINT(scan, ",\"u\":", &latest) || first > latest) {
        return false;
    }
    if (context->futures) {
        if (!UINT(scan, ",\"pu\":", &first)) {
            return false;
        }
        if (first >= latest) {
            return false;
        }
        first++; /* pu was the last id that this frame does not cover */
    }
    uint64_t *last = &symbol->cell->venue_book_id;
    if (*last != 0 && first != *last + 1) {
        return false; /* a hole has to go into the ring before the levels */
    }
    struct md_levels levels = binance_levels_begin(context, symbol, ts_event, first, latest);
    if (!TAKE(scan, ",\"b\":[") || !positional_levels(scan, symbol, &levels, MD_FLAG_BUY)) {
        return false;
    }
    if (!TAKE(scan, ",\"a\":[") || !positional_levels(scan, symbol, &levels, MD_FLAG_SELL) ||
        !positional_end(scan)) {
        return false;
    }
    md_levels_end(&levels);
    md_feed_note_sequence(last, latest);
    return true;
}

POSITIONAL_INLINE bool
positional_decode(const struct binance_context *context, const char *frame, size_t size) {
    if (size < 64) { /* nothing of ours is that short, or next to nothing */
        return false;
    }
    struct positional scan = {
        .at = frame, .end = frame + size, .last8 = frame + size - 8, .futures = context->futures};
    if (NEXT(&scan, "{\"stream\":\"")) {
        scan.end--; /* the wrapper's brace */
        if (*scan.end != '}' || !positional_text(&scan) || !TAKE(&scan, "\",\"data\":") ||
            !ROOM(&scan, "{\"e\":\"depthUpdate\",\"E\":")) {
            return false;
        }
    }
    if ((!context->futures || context->coinm) && positional_same(scan.at, "{\"u\":", 5)) {
        scan.at++;
        return positional_quote(context, &scan);
    }
    if (NEXT(&scan, "{\"e\":\"trade\",\"E\":")) {
        return positional_trade(context, &scan);
    }
    if (context->futures && !context->coinm && NEXT(&scan, "{\"e\":\"bookTicker\",")) {
        return positional_quote(context, &scan);
    }
    return NEXT(&scan, "{\"e\":\"depthUpdate\",\"E\":") && positional_depth(context, scan);
}

#endif
