/* Frames that are JSON arrays of flat events, as Alpaca and Massive send them: several in a frame,
 * and more the slower we are. mdsys/feed/json_events.py is the same in plain Python.
 *
 * All of a frame is read before any of it is published: what is no JSON, lacks a value or has one
 * of the wrong type refuses the whole frame. Then each event stands by itself: of one whose symbol
 * is unknown or whose value does not fit the others know nothing. The first MD_EVENTS_KEPT are kept
 * as they were read; those of a longer frame are read twice. */
#ifndef MDSYS_JSON_EVENTS_H
#define MDSYS_JSON_EVENTS_H

#include "event_fields.h"
#include "publish.h"

enum { MD_EVENTS_KEPT = 64, MD_EVENT_NUMBERS = 6 };

enum md_event_kind {
    MD_EVENT_PASSED_OVER = 0, /* known, and no data of ours */
    MD_EVENT_CONTROL = 1,     /* for the talk */
    MD_EVENT_UNKNOWN = 2,
    MD_EVENT_TRADE = 3, /* numbers: price, size */
    MD_EVENT_QUOTE = 4, /* bid price, ask price, bid size, ask size */
    MD_EVENT_BAR = 5,   /* open, high, low, close, volume, vwap */
    MD_EVENT_BOOK = 6,  /* bids, asks: arrays of rows */
};

/* An event whose values are there and of their types. */
struct md_event {
    enum md_event_kind kind;
    unsigned flags;                /* a trade's side, a book's MD_FLAG_SNAPSHOT */
    struct md_feed_symbol *symbol; /* NULL: unknown */
    int64_t ts_event;
    union {                  /* or MD_ABSENT */
        int64_t id;          /* a trade's */
        int64_t trade_count; /* a bar's */
    };
    union {
        int64_t conditions;  /* a trade's; or MD_ABSENT */
        int64_t interval_ns; /* a bar's */
    };
    int64_t sequence; /* ascending, with holes; or MD_ABSENT */
    struct md_span numbers[MD_EVENT_NUMBERS];
};

struct md_event_context {
    struct md_feed *feed;
    const struct md_connection *connection;
    int64_t ts_recv;
};

static inline bool md_event_symbol(const struct md_event_context *context,
                                   const struct md_event_fields *fields,
                                   unsigned field,
                                   struct md_event *event) {
    struct md_event_text name;
    if (!md_event_string(fields, field, &name)) {
        return false;
    }
    event->symbol = md_feed_find_symbol(context->feed, name.at, name.size);
    return true;
}

/* ---- publishing ----------------------------------------------------------------------------- */

static inline enum md_frame_result md_event_refuse_value(const struct md_event_context *context,
                                                         const struct md_feed_symbol *symbol,
                                                         int64_t id) {
    md_feed_refuse_value(
        context->feed, symbol, context->connection->number, id, id, context->ts_recv);
    return MD_FRAME_VALUE;
}

/* False when it cannot be held. One that was not sent is MD_ABSENT. */
static inline bool md_event_fixed(const struct md_span *number, unsigned scale, int64_t *out) {
    if (number->decimals <= scale) {
        uint64_t value;
        *out = 0;
        if (__builtin_mul_overflow(number->mantissa, md_pow10[scale - number->decimals], &value) ||
            value > (uint64_t)INT64_MAX) {
            return false;
        }
        *out = (int64_t)value;
        return true;
    }
    if (number->at == NULL) {
        *out = MD_ABSENT;
        return true;
    }
    return md_decimal_parse(number->at, number->size, scale, out) == MD_DECIMAL_OK;
}

static inline enum md_frame_result md_event_publish_trade(const struct md_event_context *context,
                                                          const struct md_event *event) {
    struct md_feed *feed = context->feed;
    struct md_feed_symbol *symbol = event->symbol;
    int64_t price, size;
    if (!md_event_fixed(&event->numbers[0], symbol->price_scale, &price) ||
        !md_event_fixed(&event->numbers[1], symbol->size_scale, &size)) {
        return md_event_refuse_value(context, symbol, event->id);
    }
    enum md_order order = MD_ORDER_NEXT;
    uint64_t *last = &symbol->cell->venue_trade_id;
    if (event->sequence != MD_ABSENT) { /* apart from the id, so not md_publish_trade's business */
        order = md_feed_order(feed,
                              symbol,
                              &symbol->trades,
                              last,
                              (uint64_t)event->sequence,
                              (uint64_t)event->sequence,
                              MD_IDS_ASCENDING,
                              context->connection->number,
                              context->ts_recv);
    }
    if (order == MD_ORDER_AGAIN) {
        return MD_FRAME_OK;
    }
    if (order == MD_ORDER_LATE) {
        md_feed_publish_past_cell(feed,
                                  symbol,
                                  MD_KIND_TRADE,
                                  event->flags,
                                  event->ts_event,
                                  context->ts_recv,
                                  price,
                                  size,
                                  event->id,
                                  event->conditions);
        md_count(&feed->counters->trades, 1);
        return MD_FRAME_OK;
    }
    md_publish_trade(feed,
                     symbol,
                     context->connection,
                     event->ts_event,
                     context->ts_recv,
                     event->flags,
                     price,
                     size,
                     event->id,
                     event->conditions,
                     MD_IDS_NONE);
    if (event->sequence != MD_ABSENT) {
        md_feed_note_sequence(last, (uint64_t)event->sequence);
    }
    return MD_FRAME_OK;
}

static inline enum md_frame_result md_event_publish_quote(const struct md_event_context *context,
                                                          const struct md_event *event) {
    struct md_feed_symbol *symbol = event->symbol;
    int64_t values[4];
    for (unsigned i = 0; i < 4; i++) {
        unsigned scale = i < 2 ? symbol->price_scale : symbol->size_scale;
        if (!md_event_fixed(&event->numbers[i], scale, &values[i])) {
            return md_event_refuse_value(context, symbol, MD_ABSENT);
        }
    }
    md_publish_quote(context->feed,
                     symbol,
                     event->ts_event,
                     context->ts_recv,
                     values[0],
                     values[1],
                     values[2],
                     values[3],
                     event->sequence);
    return MD_FRAME_OK;
}

/* The venue computes the vwap in floating point: one that cannot be held is left out, and told. */
static inline enum md_frame_result md_event_publish_bar(const struct md_event_context *context,
                                                        const struct md_event *event) {
    struct md_feed_symbol *symbol = event->symbol;
    int64_t values[MD_EVENT_NUMBERS];
    enum md_frame_result result = MD_FRAME_OK;
    for (unsigned i = 0; i < MD_EVENT_NUMBERS; i++) {
        unsigned scale = i == 4 ? symbol->size_scale : symbol->price_scale;
        if (!md_event_fixed(&event->numbers[i], scale, &values[i])) {
            result = md_event_refuse_value(context, symbol, MD_ABSENT);
            if (i != 5) {
                return result;
            }
            values[i] = MD_ABSENT;
        }
    }
    const struct md_bar bar = {
        .open = values[0],
        .high = values[1],
        .low = values[2],
        .close = values[3],
        .volume = values[4],
        .vwap = values[5],
        .trade_count = event->trade_count,
        .interval_ns = event->interval_ns,
    };
    md_publish_bar(context->feed, symbol, event->ts_event, context->ts_recv, &bar);
    return result;
}

/* ---- frames --------------------------------------------------------------------------------- */

/* Take one event. False: it is malformed, and so is the frame. */
typedef bool (*md_event_read_fn)(const struct md_event_context *context,
                                 struct md_json *json,
                                 struct md_event *event);
/* Publish an event of MD_EVENT_BOOK, of a known symbol. */
typedef enum md_frame_result (*md_event_book_fn)(const struct md_event_context *context,
                                                 const struct md_event *event);

MD_EVENTS_INLINE enum md_frame_result md_event_publish(const struct md_event_context *context,
                                                       const struct md_event *event,
                                                       md_event_book_fn publish_book) {
    static const uint8_t channels[] = {
        [MD_EVENT_TRADE] = MD_CHANNEL_TRADE,
        [MD_EVENT_QUOTE] = MD_CHANNEL_QUOTE,
        [MD_EVENT_BAR] = MD_CHANNEL_BAR,
        [MD_EVENT_BOOK] = MD_CHANNEL_BOOK,
    };
    switch (event->kind) {
    case MD_EVENT_PASSED_OVER:
        return MD_FRAME_OK;
    case MD_EVENT_CONTROL:
        return MD_FRAME_CONTROL;
    case MD_EVENT_UNKNOWN:
        return MD_FRAME_UNKNOWN_EVENT;
    default:
        if (!md_feed_wants(context->feed, (enum md_channel)channels[event->kind])) {
            return MD_FRAME_OK;
        }
        if (event->symbol == NULL) {
            return MD_FRAME_UNKNOWN_SYMBOL;
        }
    }
    switch (event->kind) {
    case MD_EVENT_TRADE:
        return md_event_publish_trade(context, event);
    case MD_EVENT_QUOTE:
        return md_event_publish_quote(context, event);
    case MD_EVENT_BAR:
        return md_event_publish_bar(context, event);
    default:
        return publish_book(context, event);
    }
}

/* The frame's result so far and an event's: the first that is not OK; but what is for the talk must
 * reach it. */
static inline enum md_frame_result md_events_result(enum md_frame_result so_far,
                                                    enum md_frame_result event) {
    return event == MD_FRAME_CONTROL || so_far == MD_FRAME_OK ? event : so_far;
}

MD_EVENTS_INLINE enum md_frame_result md_events_decode(const struct md_event_context *context,
                                                       const char *frame,
                                                       size_t size,
                                                       md_event_read_fn read,
                                                       md_event_book_fn publish_book) {
    if (size > MD_FRAME_SIZE_MAX) {
        return MD_FRAME_TOO_LONG;
    }
    struct md_event events[MD_EVENTS_KEPT], more;
    struct md_json json = {.at = frame, .end = frame + size, .depth = 1};
    struct md_json rest = json;
    size_t count = 0;
    if (!md_json_take(&json, '[')) {
        return MD_FRAME_MALFORMED;
    }
    if (!md_json_take(&json, ']')) {
        do {
            if (count == MD_EVENTS_KEPT) {
                rest = json;
            }
            if (!read(context, &json, count < MD_EVENTS_KEPT ? &events[count] : &more)) {
                return MD_FRAME_MALFORMED;
            }
            count++;
        } while (md_json_take(&json, ','));
        if (!md_json_take(&json, ']')) {
            return MD_FRAME_MALFORMED;
        }
    }
    md_json_space(&json);
    if (json.at != json.end || (json.beyond_ascii && !md_utf8_valid(frame, size))) {
        return MD_FRAME_MALFORMED;
    }
    enum md_frame_result result = MD_FRAME_OK;
    for (size_t i = 0; i < count; i++) {
        const struct md_event *event = i < MD_EVENTS_KEPT ? &events[i] : &more;
        if (i >= MD_EVENTS_KEPT) {
            read(context, &rest, &more);
            md_json_take(&rest, ',');
        }
        result = md_events_result(result, md_event_publish(context, event, publish_book));
    }
    return result;
}

#endif
