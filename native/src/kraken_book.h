/* Kraken's books: of the depth subscribed to, and checked against the venue's CRC32.
 *
 * docs.kraken.com, "Book Checksum" (v1 and v2), read 2026-11: after each update the book is cut to
 * its depth, since no removals come for levels that others have pushed out; then a CRC32 over the
 * ten best asks and the ten best bids must equal the frame's. We tell readers of the levels that
 * fall out, as removals in a frame of their own, so that they need not know the depth. */
#ifndef MDSYS_KRAKEN_BOOK_H
#define MDSYS_KRAKEN_BOOK_H

#include "kraken_checksum.h"

#define KRAKEN_DEPTH_MAX 1000u /* levels of a side; no frame has more */

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
    if (side->count <= KRAKEN_KEPT_COUNT) {
        for (uint32_t i = 0; i < side->count; i++) {
            md_levels_put(levels, flags, side->kept[i][0], side->kept[i][1], MD_ABSENT);
        }
        return;
    }
    const struct md_feed_symbol *symbol = levels->symbol;
    struct md_json json = {.at = side->rows.text + 1, .end = side->rows.text + side->rows.size};
    for (uint32_t i = 0; i < side->count; i++) { /* once more */
        struct kraken_row row;
        int64_t price, size;
        side->take(&json, &row);
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

/* ---- after a frame -------------------------------------------------------------------------- */

static_assert(MD_CACHE_LEVELS <= 10, "no depth that Kraken offers cuts what readers see");

/* Say of one side's levels beyond the depth that they are gone, worst first. The cell's top is
 * above them, so it stays as it is. */
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
    levels.from_book = true;
    for (uint32_t i = 0; i < side->count - depth; i++) {
        md_levels_put(&levels, flags, side->levels[i].price, 0, MD_ABSENT);
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
    uint8_t price_decimals = (uint8_t)kraken_more(
        symbol->price_decimals, kraken_more(sides[0].price_decimals, sides[1].price_decimals));
    uint8_t size_decimals = (uint8_t)kraken_more(
        symbol->size_decimals, kraken_more(sides[0].size_decimals, sides[1].size_decimals));
    if (price_decimals != symbol->price_decimals || size_decimals != symbol->size_decimals) {
        symbol->price_decimals = price_decimals;
        symbol->size_decimals = size_decimals;
        kraken_forget_texts(own);
    }
    if (checksum != NULL) { /* of the ten best, which no cut touches */
        md_book_checksum(feed,
                         symbol,
                         connection->number,
                         context->ts_recv,
                         kraken_checksum(symbol, own) == *checksum);
    }
    kraken_cut(context, symbol, MD_FLAG_BUY, own->depth, ts_event);
    kraken_cut(context, symbol, MD_FLAG_SELL, own->depth, ts_event);
    md_book_cut(symbol->book, own->depth);
    return MD_FRAME_OK;
}

#endif
