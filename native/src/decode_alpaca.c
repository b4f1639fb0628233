#include "decode_alpaca.h"

#include "event_book.h"

#define ALPACA_MINUTE_NS INT64_C(60000000000)

enum { ALPACA_CODE_BITS = 8, ALPACA_CODES_MAX = 8 }; /* mdsys.feed.alpaca.conditions */

static const struct md_event_type ALPACA_TYPES[] = {
    {"t", MD_EVENT_TRADE, 0},
    {"q", MD_EVENT_QUOTE, 0},
    {"b", MD_EVENT_BAR, ALPACA_MINUTE_NS},
    {"u", MD_EVENT_BAR, ALPACA_MINUTE_NS},
    {"o", MD_EVENT_BOOK, 0},
    {"c", MD_EVENT_CONTROL, 0}, /* correction, cancel, halt: the talk says them in words */
    {"x", MD_EVENT_CONTROL, 0},
    {"s", MD_EVENT_CONTROL, 0},
    {"d", MD_EVENT_PASSED_OVER, 0},
    {"l", MD_EVENT_PASSED_OVER, 0},
    {"i", MD_EVENT_PASSED_OVER, 0},
    {"success", MD_EVENT_CONTROL, 0},
    {"error", MD_EVENT_CONTROL, 0},
    {"subscription", MD_EVENT_CONTROL, 0},
    {0},
};

static bool
alpaca_time(const struct md_event_fields *fields, enum md_event_field field, int64_t *ns) {
    struct md_event_text time;
    return md_event_string(fields, field, &time) && md_time_rfc3339(time.at, time.size, ns);
}

static bool alpaca_id(const struct md_event_value *value, int64_t *out) {
    *out = md_event_integer(value);
    return value->json.type == MD_JSON_NUMBER;
}

static bool alpaca_code(const struct md_json_value *value, uint64_t *code) {
    struct md_event_text text;
    if (!md_event_text_of(value, &text)) {
        return false;
    }
    *code = text.size == 1 && text.at[0] > 0 ? (uint64_t)text.at[0] : MD_EVENT_NO_CODE;
    return true;
}

static const struct md_event_venue ALPACA = {
    .types = ALPACA_TYPES,
    .type = MD_FIELD_T,
    .symbol = MD_FIELD_S,
    .bar_time = MD_FIELD_TIME,
    .taker_side = MD_FIELD_TAKER_SIDE,
    .time = alpaca_time,
    .id = alpaca_id,
    .code = alpaca_code,
    .code_bits = ALPACA_CODE_BITS,
    .codes_max = ALPACA_CODES_MAX,
};

/* ---- as streamed ------------------------------------------------------------------------------
 */

MD_QUICK bool alpaca_quick_code(struct md_quick *scan, uint64_t *out) {
    unsigned letter = 0;
    bool ok = md_event_quick_letter(scan, &letter);
    *out = letter;
    return ok;
}

MD_QUICK bool alpaca_quick_trade(const struct md_event_context *context,
                                 struct md_quick *scan,
                                 struct md_event *event) {
    return MD_TAKE(scan, "{\"T\":\"t\",\"S\":\"") &&
           md_event_quick_symbol(context, scan, MD_EVENT_TRADE, event) &&
           MD_EVENT_NEXT(scan, "i", integer, &event->id) && MD_EVENT_MAY_PASS(scan, "x", letter) &&
           MD_EVENT_NEXT(scan, "p", fixed, event->symbol->price_scale, &event->values[0]) &&
           MD_EVENT_NEXT(scan, "s", fixed, event->symbol->size_scale, &event->values[1]) &&
           MD_EVENT_MAYBE(scan,
                          "c",
                          codes,
                          alpaca_quick_code,
                          ALPACA_CODE_BITS,
                          ALPACA_CODES_MAX,
                          &event->conditions) &&
           MD_EVENT_MAY_PASS(scan, "z", letter) &&
           MD_EVENT_NEXT(scan, "t", time, &event->ts_event) && MD_TAKE(scan, "}");
}

MD_QUICK bool alpaca_quick_quote(const struct md_event_context *context,
                                 struct md_quick *scan,
                                 struct md_event *event) {
    return MD_TAKE(scan, "{\"T\":\"q\",\"S\":\"") &&
           md_event_quick_symbol(context, scan, MD_EVENT_QUOTE, event) &&
           MD_EVENT_MAY_PASS(scan, "bx", letter) &&
           MD_EVENT_NEXT(scan, "bp", fixed, event->symbol->price_scale, &event->values[0]) &&
           MD_EVENT_NEXT(scan, "bs", fixed, event->symbol->size_scale, &event->values[2]) &&
           MD_EVENT_MAY_PASS(scan, "ax", letter) &&
           MD_EVENT_NEXT(scan, "ap", fixed, event->symbol->price_scale, &event->values[1]) &&
           MD_EVENT_NEXT(scan, "as", fixed, event->symbol->size_scale, &event->values[3]) &&
           MD_EVENT_MAYBE(scan,
                          "c",
                          codes,
                          alpaca_quick_code,
                          ALPACA_CODE_BITS,
                          ALPACA_CODES_MAX,
                          &event->conditions) &&
           MD_EVENT_MAY_PASS(scan, "z", letter) &&
           MD_EVENT_NEXT(scan, "t", time, &event->ts_event) && MD_TAKE(scan, "}");
}

MD_QUICK bool
alpaca_quick_book(struct md_event_context *context, struct md_quick *scan, struct md_event *event) {
    if (!MD_TAKE(scan, "{\"T\":\"o\",\"S\":\"") ||
        !md_event_quick_symbol(context, scan, MD_EVENT_BOOK, event) ||
        !MD_EVENT_NEXT(scan, "t", time, &event->ts_event) ||
        !MD_EVENT_NEXT(scan, "b", side, context, event->symbol, &event->sides[0]) ||
        !MD_EVENT_NEXT(scan, "a", side, context, event->symbol, &event->sides[1])) {
        return false;
    }
    event->flags = MD_TAKE(scan, ",\"r\":true") ? MD_FLAG_SNAPSHOT : 0;
    return MD_TAKE(scan, "}");
}

MD_QUICK bool
alpaca_quick(struct md_event_context *context, struct md_json *json, struct md_event *event) {
    struct md_quick scan;
    return md_event_quick_begin(json, &scan) &&
           (alpaca_quick_quote(context, &scan, event) ||
            (md_event_quick_again(json, &scan) && alpaca_quick_trade(context, &scan, event)) ||
            (md_event_quick_again(json, &scan) && alpaca_quick_book(context, &scan, event))) &&
           md_event_quick_end(&scan, json);
}

static __attribute__((noinline)) bool
alpaca_any(struct md_event_context *context, struct md_json *json, struct md_event *event) {
    return md_event_read_any(&ALPACA, md_event_read_book, context, json, event);
}

static bool
alpaca_read(struct md_event_context *context, struct md_json *json, struct md_event *event) {
    return alpaca_quick(context, json, event) || alpaca_any(context, json, event);
}

enum md_frame_result md_decode_alpaca(struct md_feed *feed,
                                      const char *frame,
                                      size_t size,
                                      int64_t ts_recv,
                                      struct md_connection *connection) {
    return md_events_decode(
        feed, frame, size, ts_recv, connection, alpaca_read, md_event_publish_book);
}
