#include "decode_massive.h"

#include "event_quick.h"
#include "event_venue.h"

#define MASSIVE_MS_NS INT64_C(1000000)
#define MASSIVE_DAY_NS INT64_C(86400000000000)
#define MASSIVE_NIGHT_NS INT64_C(21600000000000) /* 06:00 UTC: between two trading days */

enum {
    MASSIVE_SEQUENCE_BITS = 40,
    MASSIVE_CODE_BITS = 12, /* mdsys.feed.massive.conditions */
    MASSIVE_CODE_MAX = 4094,
    MASSIVE_CODES_MAX = 5,
};

static const struct md_event_type MASSIVE_TYPES[] = {
    {"T", MD_EVENT_TRADE, 0},
    {"Q", MD_EVENT_QUOTE, 0},
    {"A", MD_EVENT_BAR, INT64_C(1000000000)},
    {"AM", MD_EVENT_BAR, INT64_C(60000000000)},
    {"status", MD_EVENT_CONTROL, 0},
    {"LULD", MD_EVENT_PASSED_OVER, 0},
    {"NOI", MD_EVENT_PASSED_OVER, 0},
    {"FMV", MD_EVENT_PASSED_OVER, 0},
    {0},
};

/* Milliseconds since the epoch; not where ns do not reach that far. */
static bool
massive_time(const struct md_event_fields *fields, enum md_event_field field, int64_t *ns) {
    int64_t ms;
    if (!md_event_integer_if_any(fields, field, &ms) || ms == MD_ABSENT ||
        ms > INT64_MAX / MASSIVE_MS_NS) {
        return false;
    }
    *ns = ms * MASSIVE_MS_NS;
    return true;
}

/* A text, mostly of digits, of which the record can hold the integer. */
static bool massive_id(const struct md_event_value *value, int64_t *out) {
    struct md_event_text text;
    if (value->json.type == MD_JSON_NUMBER) {
        *out = md_event_integer(value);
        return true;
    }
    if (!md_event_text_of(&value->json, &text)) {
        return false;
    }
    *out = md_event_integer_of(text.at, text.size);
    return true;
}

/* q ascends within a trading day and begins anew with the next: the day goes in front of it. */
static inline int64_t massive_sequence_of(int64_t q, int64_t ts_event) {
    return q > 0 && q >> MASSIVE_SEQUENCE_BITS == 0 && ts_event >= MASSIVE_NIGHT_NS
               ? (ts_event - MASSIVE_NIGHT_NS) / MASSIVE_DAY_NS << MASSIVE_SEQUENCE_BITS | q
               : MD_ABSENT;
}

static bool massive_code(const struct md_json_value *value, uint64_t *code) {
    int64_t number = md_event_integer_of(value->text, value->size);
    *code = number >= 0 && number <= MASSIVE_CODE_MAX ? (uint64_t)number + 1 : MD_EVENT_NO_CODE;
    return value->type == MD_JSON_NUMBER;
}

static const struct md_event_venue MASSIVE = {
    .types = MASSIVE_TYPES,
    .type = MD_FIELD_EV,
    .symbol = MD_FIELD_SYM,
    .bar_time = MD_FIELD_SIZE,
    .exact_size = MD_FIELD_EXACT_SIZE,
    .exact_volume = MD_FIELD_EXACT_VOLUME,
    .sequence = MD_FIELD_SEQUENCE,
    .one_sided = true,
    .time = massive_time,
    .id = massive_id,
    .sequence_of = massive_sequence_of,
    .code = massive_code,
    .code_bits = MASSIVE_CODE_BITS,
    .codes_max = MASSIVE_CODES_MAX,
};

/* ---- as streamed ------------------------------------------------------------------------------
 */

MD_QUICK bool massive_quick_code(struct md_quick *scan, uint64_t *out) {
    uint64_t code = 0;
    bool ok = md_quick_uint(scan, &code) && code <= MASSIVE_CODE_MAX;
    *out = code + 1;
    return ok;
}

/* The time and the sequence. */
MD_QUICK bool massive_quick_times(struct md_quick *scan, struct md_event *event) {
    int64_t ms, q;
    if (!MD_EVENT_NEXT(scan, "t", ms, &ms) || ms > INT64_MAX / MASSIVE_MS_NS ||
        !MD_EVENT_MAY_PASS(scan, "pt", ms) || !MD_EVENT_NEXT(scan, "q", integer, &q)) {
        return false;
    }
    event->ts_event = ms * MASSIVE_MS_NS;
    event->sequence = massive_sequence_of(q, event->ts_event);
    return MD_EVENT_MAY_PASS(scan, "z", number);
}

MD_QUICK bool massive_quick_trade(const struct md_event_context *context,
                                  struct md_quick *scan,
                                  struct md_event *event) {
    return MD_TAKE(scan, "{\"ev\":\"T\",\"sym\":\"") &&
           md_event_quick_symbol(context, scan, MD_EVENT_TRADE, event) &&
           MD_EVENT_NEXT(scan, "i", integer_text, &event->id) &&
           MD_EVENT_MAY_PASS(scan, "x", number) &&
           MD_EVENT_NEXT(scan, "p", fixed, event->symbol->price_scale, &event->values[0]) &&
           MD_EVENT_NEXT(scan, "s", fixed, event->symbol->size_scale, &event->values[1]) &&
           MD_EVENT_MAYBE(scan,
                          "c",
                          codes,
                          massive_quick_code,
                          MASSIVE_CODE_BITS,
                          MASSIVE_CODES_MAX,
                          &event->conditions) &&
           massive_quick_times(scan, event) && MD_EVENT_MAY_PASS(scan, "trfi", number) &&
           MD_EVENT_MAY_PASS(scan, "trft", ms) &&
           MD_EVENT_MAYBE(scan, "ds", fixed_text, event->symbol->size_scale, &event->values[1]) &&
           MD_TAKE(scan, "}");
}

MD_QUICK bool massive_quick_quote(const struct md_event_context *context,
                                  struct md_quick *scan,
                                  struct md_event *event) {
    return MD_TAKE(scan, "{\"ev\":\"Q\",\"sym\":\"") &&
           md_event_quick_symbol(context, scan, MD_EVENT_QUOTE, event) &&
           MD_EVENT_MAYBE(scan,
                          "i",
                          codes,
                          massive_quick_code,
                          MASSIVE_CODE_BITS,
                          MASSIVE_CODES_MAX,
                          &event->conditions) &&
           MD_EVENT_MAY_PASS(scan, "bx", number) && MD_EVENT_MAY_PASS(scan, "ax", number) &&
           MD_EVENT_NEXT(scan, "bp", fixed, event->symbol->price_scale, &event->values[0]) &&
           MD_EVENT_NEXT(scan, "ap", fixed, event->symbol->price_scale, &event->values[1]) &&
           MD_EVENT_NEXT(scan, "bs", fixed, event->symbol->size_scale, &event->values[2]) &&
           MD_EVENT_NEXT(scan, "as", fixed, event->symbol->size_scale, &event->values[3]) &&
           massive_quick_times(scan, event) && MD_TAKE(scan, "}");
}

MD_QUICK bool
massive_quick(struct md_event_context *context, struct md_json *json, struct md_event *event) {
    struct md_quick scan;
    return md_event_quick_begin(json, &scan) &&
           (massive_quick_quote(context, &scan, event) ||
            (md_event_quick_again(json, &scan) && massive_quick_trade(context, &scan, event))) &&
           md_event_quick_end(&scan, json);
}

static __attribute__((noinline)) bool
massive_any(struct md_event_context *context, struct md_json *json, struct md_event *event) {
    return md_event_read_any(&MASSIVE, NULL, context, json, event); /* it has no books */
}

static bool
massive_read(struct md_event_context *context, struct md_json *json, struct md_event *event) {
    return massive_quick(context, json, event) || massive_any(context, json, event);
}

enum md_frame_result md_decode_massive(struct md_feed *feed,
                                       const char *frame,
                                       size_t size,
                                       int64_t ts_recv,
                                       struct md_connection *connection) {
    return md_events_decode(feed, frame, size, ts_recv, connection, massive_read, NULL);
}
