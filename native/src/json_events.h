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

enum {
    MD_EVENTS_KEPT = 64,
    MD_EVENT_ROWS_KEPT = 256, /* of the books of a frame, all together */
    MD_EVENT_VALUES = 6,
};

enum md_event_kind {
    MD_EVENT_PASSED_OVER = 0, /* known, and no data of ours */
    MD_EVENT_CONTROL = 1,     /* for the talk */
    MD_EVENT_UNKNOWN = 2,
    MD_EVENT_TRADE = 3, /* values: price, size */
    MD_EVENT_QUOTE = 4, /* bid price, ask price, bid size, ask size */
    MD_EVENT_BAR = 5,   /* open, high, low, close, volume, vwap */
    MD_EVENT_BOOK = 6,  /* none: two sides */
};

struct md_event_row {
    int64_t price, size;
};

/* One side of a book: rows that were read, or else the array as it is written. */
struct md_event_side {
    const struct md_event_row *rows; /* NULL: not read */
    size_t count;
    const char *at;
    size_t size;
};

/* An event whose values are there and of their types. */
struct md_event {
    enum md_event_kind kind;
    unsigned flags;                /* a trade's side, a book's MD_FLAG_SNAPSHOT */
    struct md_feed_symbol *symbol; /* NULL: unknown, and then nothing below is set */
    int64_t ts_event;
    int64_t id;         /* a trade's; or MD_ABSENT */
    int64_t conditions; /* a trade's; or MD_ABSENT */
    int64_t sequence;   /* ascending, with holes; or MD_ABSENT */
    int64_t trade_count;
    int64_t interval_ns;
    unsigned unfit; /* bit i: values[i] cannot be held */
    union {
        int64_t values[MD_EVENT_VALUES]; /* fixed point; MD_ABSENT: not sent */
        struct md_event_side sides[2];
    };
};

struct md_event_context {
    struct md_feed *feed;
    const struct md_connection *connection;
    int64_t ts_recv;
    struct md_event_row *rows; /* MD_EVENT_ROWS_KEPT; free from row_count on */
    size_t row_count;
};

/* ---- publishing ----------------------------------------------------------------------------- */

static inline enum md_frame_result md_event_refuse_value(const struct md_event_context *context,
                                                         const struct md_feed_symbol *symbol,
                                                         int64_t id) {
    md_feed_refuse_value(
        context->feed, symbol, context->connection->number, id, id, context->ts_recv);
    return MD_FRAME_VALUE;
}

static inline enum md_frame_result md_event_publish_trade(const struct md_event_context *context,
                                                          const struct md_event *event) {
    struct md_feed *feed = context->feed;
    struct md_feed_symbol *symbol = event->symbol;
    if (event->unfit != 0) {
        return md_event_refuse_value(context, symbol, event->id);
    }
    int64_t price = event->values[0], size = event->values[1];
    enum md_order order = MD_ORDER_NEXT;
    uint64_t *last = &symbol->cell->venue_trade_id;
    /* Apart from the id, so not md_publish_trade's business; holes are none, so what is above the
     * last one is next. */
    if (event->sequence != MD_ABSENT && (uint64_t)event->sequence <= *last) {
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
    const int64_t *values = event->values;
    if (event->unfit != 0) {
        return md_event_refuse_value(context, symbol, MD_ABSENT);
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
    const int64_t *values = event->values;
    const unsigned vwap = 1U << 5;
    enum md_frame_result result = MD_FRAME_OK;
    if (event->unfit != 0) {
        result = md_event_refuse_value(context, symbol, MD_ABSENT);
        if (event->unfit != vwap) {
            return result;
        }
    }
    const struct md_bar bar = {
        .open = values[0],
        .high = values[1],
        .low = values[2],
        .close = values[3],
        .volume = values[4],
        .vwap = event->unfit == 0 ? values[5] : MD_ABSENT,
        .trade_count = event->trade_count,
        .interval_ns = event->interval_ns,
    };
    md_publish_bar(context->feed, symbol, event->ts_event, context->ts_recv, &bar);
    return result;
}

/* ---- frames --------------------------------------------------------------------------------- */

/* Take one event. False: it is malformed, and so is the frame. */
typedef bool (*md_event_read_fn)(struct md_event_context *context,
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

/* md_json_take, for what mostly comes next. */
MD_EVENTS_INLINE bool md_event_mark(struct md_json *json, char c) {
    if (json->at != json->end && *json->at == c) {
        json->at++;
        return true;
    }
    return md_json_take(json, c);
}

MD_EVENTS_INLINE enum md_frame_result md_events_decode(struct md_feed *feed,
                                                       const char *frame,
                                                       size_t size,
                                                       int64_t ts_recv,
                                                       const struct md_connection *connection,
                                                       md_event_read_fn read,
                                                       md_event_book_fn publish_book) {
    if (size > MD_FRAME_SIZE_MAX) {
        return MD_FRAME_TOO_LONG;
    }
    struct md_event_row rows[MD_EVENT_ROWS_KEPT];
    struct md_event_context context = {feed, connection, ts_recv, rows, 0};
    struct md_event events[MD_EVENTS_KEPT], more;
    struct md_json json = {.at = frame, .end = frame + size, .depth = 1};
    struct md_json rest = json;
    size_t count = 0, rows_kept = 0;
    if (!md_event_mark(&json, '[')) {
        return MD_FRAME_MALFORMED;
    }
    if ((json.at != json.end && *json.at == '{') || !md_json_take(&json, ']')) {
        do {
            if (count == MD_EVENTS_KEPT) {
                rest = json;
                rows_kept = context.row_count;
            }
            if (count >= MD_EVENTS_KEPT) {
                context.row_count = rows_kept;
            }
            if (!read(&context, &json, count < MD_EVENTS_KEPT ? &events[count] : &more)) {
                return MD_FRAME_MALFORMED;
            }
            count++;
        } while (md_json_take(&json, ','));
        if (!md_event_mark(&json, ']')) {
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
            context.row_count = rows_kept;
            read(&context, &rest, &more);
            md_json_take(&rest, ',');
        }
        result = md_events_result(result, md_event_publish(&context, event, publish_book));
    }
    return result;
}

#endif
