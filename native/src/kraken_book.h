/* Kraken's books: of the depth subscribed to, and checked against the venue's CRC32.
 *
 * docs.kraken.com, "Book Checksum" (v1 and v2), read 2026-11: after each update the book is cut to
 * its depth, since no removals come for levels that others have pushed out; then a CRC32 over the
 * ten best asks and the ten best bids must equal the frame's. We tell readers of the levels that
 * fall out, as removals in a frame of their own, so that they need not know the depth. */
#ifndef MDSYS_KRAKEN_BOOK_H
#define MDSYS_KRAKEN_BOOK_H

#include "kraken_publish.h"

#define KRAKEN_DEPTH_MAX 1000u     /* levels of a side; no frame has more */
#define KRAKEN_CHECKSUM_LEVELS 10u /* of a side */

/* One row of a side as it is written. */
struct kraken_row {
    struct md_json_value price, size; /* numbers without a sign */
    int64_t ts_event;                 /* MD_ABSENT: rows bear no time */
};

/* Take one row. False: it is not as it must be, or no JSON. */
typedef bool (*kraken_row_fn)(struct md_json *json, struct kraken_row *row);

enum { KRAKEN_KEPT_COUNT = 24 }; /* of a side: enough for all but deep snapshots */

/* One side's changes, walked through to check them and, beyond KRAKEN_KEPT_COUNT, once more to
 * publish them: so a frame that goes out in pieces cannot fail half-way. */
struct kraken_side {
    struct md_json_value rows;           /* an array of JSON, or MD_JSON_NONE */
    const struct md_feed_symbol *symbol; /* by whose scales it has been checked */
    kraken_row_fn take;
    uint32_t count;
    unsigned price_decimals, size_decimals; /* the most that are shown */
    bool fits;                              /* every value does */
    int64_t ts_event;                       /* the newest of the rows', or MD_ABSENT */
    int64_t kept[KRAKEN_KEPT_COUNT][2];
};

static inline unsigned kraken_more(unsigned a, unsigned b) {
    return a > b ? a : b;
}

/* Check one row that has been taken. symbol: NULL when it is unknown; then nothing is said of
 * whether the values fit. */
static inline void kraken_check_row(const struct kraken_context *context,
                                    struct kraken_side *side,
                                    const struct md_feed_symbol *symbol,
                                    const struct kraken_row *row) {
    int64_t value[2];
    unsigned price_decimals, size_decimals;
    if (symbol == NULL) {
        return;
    }
    side->fits &=
        kraken_fixed_shown(context, &row->price, symbol->price_scale, &value[0], &price_decimals) &&
        kraken_fixed_shown(context, &row->size, symbol->size_scale, &value[1], &size_decimals);
    if (!side->fits) {
        return;
    }
    side->price_decimals = kraken_more(side->price_decimals, price_decimals);
    side->size_decimals = kraken_more(side->size_decimals, size_decimals);
    side->ts_event = row->ts_event > side->ts_event ? row->ts_event : side->ts_event;
    if (side->count <= KRAKEN_KEPT_COUNT) {
        memcpy(side->kept[side->count - 1], value, sizeof value);
    }
}

/* Take a side's rows and check them as far as can be without publishing; `at` is on the array's
 * first byte. False: it is no JSON, a row is not as it must be, or they are too many. */
static inline bool kraken_take_side(const struct kraken_context *context,
                                    struct kraken_side *side,
                                    struct md_json *json,
                                    kraken_row_fn take,
                                    const struct md_feed_symbol *symbol) {
    struct kraken_row row;
    side->rows = (struct md_json_value){.text = json->at, .type = MD_JSON_ARRAY};
    side->symbol = symbol;
    side->take = take;
    side->count = 0;
    side->price_decimals = side->size_decimals = 0;
    side->fits = true;
    side->ts_event = MD_ABSENT;
    json->at++;
    json->depth++;
    if (!md_json_take(json, ']')) {
        do {
            if (++side->count > KRAKEN_DEPTH_MAX || !take(json, &row)) {
                return false;
            }
            kraken_check_row(context, side, symbol, &row);
        } while (md_json_take(json, ','));
        if (!md_json_take(json, ']')) {
            return false;
        }
    }
    json->depth--;
    side->rows.size = (size_t)(json->at - side->rows.text);
    return true;
}

/* The same of a value that is JSON; MD_JSON_NONE: no changes. */
static bool kraken_check_side(const struct kraken_context *context,
                              struct kraken_side *side,
                              const struct md_json_value *rows,
                              kraken_row_fn take,
                              const struct md_feed_symbol *symbol) {
    static const struct md_json_value none = {.text = "[]", .size = 2, .type = MD_JSON_ARRAY};
    const struct md_json_value *array = rows->type == MD_JSON_NONE ? &none : rows;
    struct md_json json = {.at = array->text, .end = array->text + array->size};
    return array->type == MD_JSON_ARRAY && kraken_take_side(context, side, &json, take, symbol);
}

static void kraken_put_side(const struct kraken_context *context,
                            struct md_levels *levels,
                            unsigned flags,
                            struct kraken_side *side) {
    const struct md_feed_symbol *symbol = levels->symbol;
    struct md_json json = {.at = side->rows.text + 1, .end = side->rows.text + side->rows.size};
    struct kraken_row row;
    int64_t price, size;
    for (uint32_t i = 0; i < side->count; i++) {
        if (side->count <= KRAKEN_KEPT_COUNT) {
            md_levels_put(levels, flags, side->kept[i][0], side->kept[i][1], MD_ABSENT);
            continue;
        }
        side->take(&json, &row); /* once more */
        md_json_take(&json, ',');
        kraken_fixed(context, &row.price, symbol->price_scale, &price);
        kraken_fixed(context, &row.size, symbol->size_scale, &size);
        md_levels_put(levels, flags, price, size, MD_ABSENT);
    }
}

/* The depth that was asked for, by a snapshot of so many levels: the least that Kraken offers. */
static uint32_t kraken_depth_of(uint32_t count) {
    static const uint32_t offered[] = {10, 25, 100, 500, KRAKEN_DEPTH_MAX};
    uint32_t i = 0;
    while (offered[i] < count) { /* ends: count is at most KRAKEN_DEPTH_MAX */
        i++;
    }
    return offered[i];
}

/* ---- the checksum --------------------------------------------------------------------------- */

static uint32_t kraken_crc_table[8][256]; /* [n][b]: of byte b with n zero bytes behind it */

__attribute__((constructor)) static void kraken_crc_fill(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? UINT32_C(0xEDB88320) : 0);
        }
        kraken_crc_table[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (unsigned n = 1; n < 8; n++) {
            uint32_t before = kraken_crc_table[n - 1][byte];
            kraken_crc_table[n][byte] = before >> 8 ^ kraken_crc_table[0][before & 0xFF];
        }
    }
}

/* CRC-32 as of zlib, eight bytes at a time. */
static uint32_t kraken_crc(const char *text, size_t size) {
    uint64_t crc = UINT32_MAX;
    for (; size >= 8; text += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        word ^= crc;
        crc = 0;
#pragma GCC unroll 8
        for (unsigned n = 0; n < 8; n++) {
            crc ^= kraken_crc_table[7 - n][word >> (8 * n) & 0xFF];
        }
    }
    for (; size > 0; text++, size--) {
        crc = crc >> 8 ^ kraken_crc_table[0][(crc ^ (unsigned char)*text) & 0xFF];
    }
    return (uint32_t)~crc;
}

/* Eight digits as characters' values, the first one lowest: halves, then quarters, then each. */
static inline uint64_t kraken_spread8(uint32_t value) { /* below 10^8 */
    uint64_t four = value / 10000 | (uint64_t)(value % 10000) << 32;
    uint64_t hundreds = (four * 10486 >> 20) & UINT64_C(0x0000007F0000007F);
    uint64_t two = hundreds | (four - hundreds * 100) << 16;
    uint64_t tens = (two * 103 >> 10) & UINT64_C(0x000F000F000F000F);
    return tens | (two - tens * 10) << 8;
}

#define KRAKEN_DIGITS_MAX (24 + MD_DECIMAL_SCALE_MAX) /* bytes that kraken_digits may touch */

/* Write what Kraken's text of a value is without the point and the zeros in front: the digits of
 * value x 10^(decimals - scale). Returns the end. */
static inline char *kraken_digits(char *out, int64_t value, unsigned scale, unsigned decimals) {
    uint64_t rest = (uint64_t)value;
    if (decimals < scale) {
        rest /= md_pow10[scale - decimals];
    }
    if (rest == 0) {
        return out;
    }
    uint32_t chunks[3], count = 0; /* of eight digits, lowest first */
    for (; rest >= 100000000; rest /= 100000000) {
        chunks[count++] = (uint32_t)(rest % 100000000);
    }
    uint64_t spread = kraken_spread8((uint32_t)rest);
    unsigned zeros = (unsigned)__builtin_ctzll(spread) / 8;
    uint64_t text = (spread | UINT64_C(0x3030303030303030)) >> (8 * zeros);
    memcpy(out, &text, 8);
    out += 8 - zeros;
    while (count > 0) {
        text = kraken_spread8(chunks[--count]) | UINT64_C(0x3030303030303030);
        memcpy(out, &text, 8);
        out += 8;
    }
    for (; decimals > scale; decimals--) {
        *out++ = '0';
    }
    return out;
}

static uint32_t kraken_checksum(const struct md_feed_symbol *symbol) {
    char text[2 * KRAKEN_CHECKSUM_LEVELS * 2 * KRAKEN_DIGITS_MAX];
    char *end = text;
    for (unsigned asks = 2; asks-- > 0;) {
        const struct md_book_side *side = &symbol->book->side[asks];
        uint32_t count =
            side->count < KRAKEN_CHECKSUM_LEVELS ? side->count : KRAKEN_CHECKSUM_LEVELS;
        for (uint32_t i = 0; i < count; i++) {
            const struct md_book_level *level = md_book_level(side, i);
            end = kraken_digits(end, level->price, symbol->price_scale, symbol->price_decimals);
            end = kraken_digits(end, level->size, symbol->size_scale, symbol->size_decimals);
        }
    }
    return kraken_crc(text, (size_t)(end - text));
}

/* ---- after a frame -------------------------------------------------------------------------- */

/* Take away what is beyond the depth, and say so. */
static void kraken_cut(const struct kraken_context *context,
                       struct md_feed_symbol *symbol,
                       unsigned flags,
                       uint32_t depth,
                       int64_t ts_event) {
    const struct md_book_side *side = md_book_side(symbol->book, flags);
    if (side->count <= depth) {
        return;
    }
    struct md_levels levels = md_levels_begin(
        context->feed, symbol, context->connection, ts_event, context->ts_recv, MD_ABSENT, 0);
    for (uint32_t over = side->count - depth; over > 0; over--) {
        /* Worst first; what is pending still stands in the book, what went out does not. */
        int64_t price = side->levels[levels.pending].price;
        md_levels_put(&levels, flags, price, 0, MD_ABSENT);
    }
    md_levels_end(&levels);
}

/* Publish one symbol's depth message that has been checked. checksum: NULL when it has none. depth:
 * 0: by the snapshot's count of levels. */
static enum md_frame_result kraken_publish_book(const struct kraken_context *context,
                                                struct md_feed_symbol *symbol,
                                                bool snapshot,
                                                uint32_t depth,
                                                int64_t ts_event,
                                                struct kraken_side sides[2], /* bids, asks */
                                                const uint32_t *checksum) {
    struct md_feed *feed = context->feed;
    struct md_connection *connection = context->connection;
    struct md_levels levels = md_levels_begin(feed,
                                              symbol,
                                              connection,
                                              ts_event,
                                              context->ts_recv,
                                              MD_ABSENT,
                                              snapshot ? MD_FLAG_SNAPSHOT : 0);
    if (!sides[0].fits || !sides[1].fits) {
        if (!levels.dropped) {
            md_feed_refuse_value(
                feed, symbol, connection->number, MD_ABSENT, MD_ABSENT, context->ts_recv);
            md_book_unsync(feed, symbol, connection->number, context->ts_recv);
        }
        return MD_FRAME_VALUE;
    }
    kraken_put_side(context, &levels, MD_FLAG_BUY, &sides[0]);
    kraken_put_side(context, &levels, MD_FLAG_SELL, &sides[1]);
    md_levels_end(&levels);
    if (levels.dropped || symbol->book == NULL || !symbol->book->in_step) {
        return MD_FRAME_OK;
    }
    struct kraken_own *own = kraken_own_of(symbol);
    if (own == NULL) {
        md_book_unsync(feed, symbol, connection->number, context->ts_recv);
        return MD_FRAME_OK;
    }
    if (snapshot) {
        uint32_t count = sides[0].count > sides[1].count ? sides[0].count : sides[1].count;
        own->depth = depth != 0 ? depth : kraken_depth_of(count);
        symbol->price_decimals = symbol->size_decimals = 0;
    }
    symbol->price_decimals = (uint8_t)kraken_more(
        symbol->price_decimals, kraken_more(sides[0].price_decimals, sides[1].price_decimals));
    symbol->size_decimals = (uint8_t)kraken_more(
        symbol->size_decimals, kraken_more(sides[0].size_decimals, sides[1].size_decimals));
    if (checksum != NULL) { /* of the ten best, which no cut touches */
        md_book_checksum(feed,
                         symbol,
                         connection->number,
                         context->ts_recv,
                         kraken_checksum(symbol) == *checksum);
    }
    kraken_cut(context, symbol, MD_FLAG_BUY, own->depth, ts_event);
    kraken_cut(context, symbol, MD_FLAG_SELL, own->depth, ts_event);
    return MD_FRAME_OK;
}

#endif
