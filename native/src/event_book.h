/* Books of rows {"p":price,"s":size}, in either way: read, checked whole, and published. */
#ifndef MDSYS_EVENT_BOOK_H
#define MDSYS_EVENT_BOOK_H

#include "event_quick.h"
#include "event_venue.h"

/* ---- any order of keys ------------------------------------------------------------------------
 */

/* Take the next of a side's rows. False: it is none. */
static bool md_event_take_row(struct md_json *json, struct md_event_fields *row) {
    return md_event_take(json, row) && md_event_is(row, MD_FIELD_PRICE, MD_JSON_NUMBER) &&
           md_event_is(row, MD_FIELD_SIZE, MD_JSON_NUMBER);
}

static bool md_event_read_side(const struct md_event_fields *fields,
                               enum md_event_field field,
                               struct md_event_side *out) {
    struct md_event_fields row;
    if (!md_event_is(fields, field, MD_JSON_ARRAY)) {
        return false;
    }
    const struct md_json_value *array = &fields->values[field].json;
    *out = (struct md_event_side){.at = array->text, .size = array->size};
    struct md_json json = {.at = out->at + 1, .end = out->at + out->size};
    if (md_json_take(&json, ']')) {
        return true;
    }
    do {
        if (!md_event_take_row(&json, &row)) {
            return false;
        }
    } while (md_json_take(&json, ','));
    return true;
}

static bool md_event_read_book(const struct md_event_fields *fields, struct md_event *event) {
    if (md_event_has(fields, MD_FIELD_RESET)) {
        enum md_json_type reset = fields->values[MD_FIELD_RESET].json.type;
        if (reset != MD_JSON_TRUE && reset != MD_JSON_FALSE) {
            return false;
        }
        event->flags = reset == MD_JSON_TRUE ? MD_FLAG_SNAPSHOT : 0;
    }
    return md_event_read_side(fields, MD_FIELD_BIDS, &event->sides[0]) &&
           md_event_read_side(fields, MD_FIELD_ASKS, &event->sides[1]);
}

/* ---- as streamed ------------------------------------------------------------------------------
 */

/* One side's rows, kept in the context. */
MD_QUICK bool md_event_quick_side(struct md_quick *scan,
                                  struct md_event_context *context,
                                  const struct md_feed_symbol *symbol,
                                  struct md_event_side *out) {
    struct md_event_row *first = context->rows + context->row_count;
    struct md_event_row *row = first, *end = context->rows + MD_EVENT_ROWS_KEPT;
    if (!MD_TAKE(scan, "[]")) {
        if (!MD_TAKE(scan, "[")) {
            return false;
        }
        do {
            if (row == end || !MD_TAKE(scan, "{\"p\":") ||
                !md_event_quick_fixed(scan, symbol->price_scale, &row->price) ||
                !MD_EVENT_NEXT(scan, "s", fixed, symbol->size_scale, &row->size)) {
                return false;
            }
            row++;
        } while (MD_TAKE(scan, "},"));
        if (!MD_TAKE(scan, "}]")) {
            return false;
        }
    }
    context->row_count += (size_t)(row - first);
    *out = (struct md_event_side){.rows = first, .count = (size_t)(row - first)};
    return true;
}

/* ---- publishing -------------------------------------------------------------------------------
 */

/* Go over one side's rows, which are known to be rows. levels NULL: whether all can be held. */
static bool md_event_levels(const struct md_feed_symbol *symbol,
                            const struct md_event_side *side,
                            unsigned flags,
                            struct md_levels *levels) {
    if (side->rows != NULL) {
        for (size_t i = 0; levels != NULL && i < side->count; i++) {
            md_levels_put(levels, flags, side->rows[i].price, side->rows[i].size, MD_ABSENT);
        }
        return true;
    }
    struct md_json json = {.at = side->at + 1, .end = side->at + side->size};
    if (md_json_take(&json, ']')) {
        return true;
    }
    do {
        struct md_event_fields row;
        int64_t price, size;
        md_event_take_row(&json, &row);
        if (!md_event_fixed(&row.values[MD_FIELD_PRICE], symbol->price_scale, &price) ||
            !md_event_fixed(&row.values[MD_FIELD_SIZE], symbol->size_scale, &size)) {
            return false;
        }
        if (levels != NULL) {
            md_levels_put(levels, flags, price, size, MD_ABSENT);
        }
    } while (md_json_take(&json, ','));
    return true;
}

/* Both sides twice: to check, then to publish, so that a book that goes out in pieces cannot fail
 * half-way. One that cannot be held leaves ours without these changes. */
static enum md_frame_result md_event_publish_book(const struct md_event_context *context,
                                                  const struct md_event *event) {
    struct md_feed_symbol *symbol = event->symbol;
    const struct md_event_side *bids = &event->sides[0], *asks = &event->sides[1];
    if (!md_event_levels(symbol, bids, MD_FLAG_BUY, NULL) ||
        !md_event_levels(symbol, asks, MD_FLAG_SELL, NULL)) {
        enum md_frame_result result = md_event_refuse_value(context, symbol, MD_ABSENT);
        md_book_unsync(context->feed, symbol, context->connection->number, context->ts_recv);
        return result;
    }
    struct md_levels levels = md_levels_begin(context->feed,
                                              symbol,
                                              context->connection,
                                              event->ts_event,
                                              context->ts_recv,
                                              MD_ABSENT,
                                              event->flags);
    md_event_levels(symbol, bids, MD_FLAG_BUY, &levels);
    md_event_levels(symbol, asks, MD_FLAG_SELL, &levels);
    md_levels_end(&levels);
    return MD_FRAME_OK;
}

#endif
