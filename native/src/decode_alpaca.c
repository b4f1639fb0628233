#include "decode_alpaca.h"

#include "event_quick.h"

#define ALPACA_MINUTE_NS INT64_C(60000000000)

enum {
    ALPACA_CODES_MAX = 8, /* mdsys.feed.alpaca.conditions */
    ALPACA_CODES_OTHER = -1,
};

enum alpaca_field {
    ALPACA_NONE,
    ALPACA_TYPE,
    ALPACA_SYMBOL,
    ALPACA_TIME,
    ALPACA_ID,
    ALPACA_PRICE,
    ALPACA_SIZE,
    ALPACA_TAKER_SIDE,
    ALPACA_BID_PRICE,
    ALPACA_ASK_PRICE,
    ALPACA_BID_SIZE,
    ALPACA_ASK_SIZE,
    ALPACA_OPEN,
    ALPACA_HIGH,
    ALPACA_LOW,
    ALPACA_C, /* a trade's condition codes, a bar's close */
    ALPACA_VOLUME,
    ALPACA_VWAP,
    ALPACA_TRADE_COUNT,
    ALPACA_BIDS,
    ALPACA_ASKS,
    ALPACA_RESET,
};

static inline unsigned alpaca_field(uint32_t key) {
    static const uint8_t letters[128] = {
        ['T'] = ALPACA_TYPE,
        ['S'] = ALPACA_SYMBOL,
        ['t'] = ALPACA_TIME,
        ['i'] = ALPACA_ID,
        ['p'] = ALPACA_PRICE,
        ['s'] = ALPACA_SIZE,
        ['o'] = ALPACA_OPEN,
        ['h'] = ALPACA_HIGH,
        ['l'] = ALPACA_LOW,
        ['c'] = ALPACA_C,
        ['v'] = ALPACA_VOLUME,
        ['n'] = ALPACA_TRADE_COUNT,
        ['b'] = ALPACA_BIDS,
        ['a'] = ALPACA_ASKS,
        ['r'] = ALPACA_RESET,
        ['x'] = MD_EVENT_PASSED,
        ['z'] = MD_EVENT_PASSED,
    };
    switch (key) {
    case MD_EVENT_KEY2('b', 'p'):
        return ALPACA_BID_PRICE;
    case MD_EVENT_KEY2('a', 'p'):
        return ALPACA_ASK_PRICE;
    case MD_EVENT_KEY2('b', 's'):
        return ALPACA_BID_SIZE;
    case MD_EVENT_KEY2('a', 's'):
        return ALPACA_ASK_SIZE;
    case MD_EVENT_KEY2('b', 'x'):
    case MD_EVENT_KEY2('a', 'x'):
        return MD_EVENT_PASSED;
    case MD_EVENT_KEY2('v', 'w'):
        return ALPACA_VWAP;
    case MD_EVENT_KEY3('t', 'k', 's'):
        return ALPACA_TAKER_SIDE;
    default:
        return key < 128 ? letters[key] : ALPACA_NONE;
    }
}

static enum md_event_kind alpaca_kind(const struct md_event_text *type) {
    static const uint8_t letters[128] = {
        ['t'] = MD_EVENT_TRADE,
        ['q'] = MD_EVENT_QUOTE,
        ['b'] = MD_EVENT_BAR,
        ['u'] = MD_EVENT_BAR,
        ['o'] = MD_EVENT_BOOK,
        ['c'] = MD_EVENT_CONTROL, /* correction, cancel, halt: the talk says them in words */
        ['x'] = MD_EVENT_CONTROL,
        ['s'] = MD_EVENT_CONTROL,
    };
    if (type->size == 1) {
        enum md_event_kind kind = (enum md_event_kind)letters[type->at[0] & 0x7F];
        if (kind != MD_EVENT_PASSED_OVER || memchr("dli", type->at[0], 3) != NULL) {
            return kind;
        }
    }
    return md_event_text_is(type, "success") || md_event_text_is(type, "error") ||
                   md_event_text_is(type, "subscription")
               ? MD_EVENT_CONTROL
               : MD_EVENT_UNKNOWN;
}

/* A trade's condition codes as one integer, as mdsys.feed.alpaca.conditions has it. */
static bool alpaca_conditions(const struct md_event_fields *fields, int64_t *out) {
    *out = MD_ABSENT;
    if (!md_event_has(fields, ALPACA_C)) {
        return true;
    }
    const struct md_json_value *array = &fields->values[ALPACA_C].json;
    if (array->type != MD_JSON_ARRAY) {
        return false;
    }
    uint64_t packed = 0;
    size_t count = 0;
    bool fits = true;
    struct md_json json = {.at = array->text + 1, .end = array->text + array->size};
    if (!md_json_take(&json, ']')) {
        do {
            struct md_json_value value;
            struct md_event_text code;
            if (!md_event_plain_text(&json, &value)) {
                md_json_value(&json, &value);
            }
            if (!md_event_text_of(&value, &code)) {
                return false;
            }
            fits = fits && code.size == 1 && code.at[0] > 0 && count < ALPACA_CODES_MAX;
            packed |= fits ? (uint64_t)code.at[0] << 8 * count : 0;
            count++;
        } while (md_json_take(&json, ','));
    }
    *out = fits ? (int64_t)packed : ALPACA_CODES_OTHER;
    return true;
}

static bool alpaca_read_trade(const struct md_event_fields *fields, struct md_event *event) {
    if (md_event_has(fields, ALPACA_TAKER_SIDE)) {
        struct md_event_text text;
        if (!md_event_string(fields, ALPACA_TAKER_SIDE, &text)) {
            return false;
        }
        event->flags = md_event_text_is(&text, "B")   ? MD_FLAG_BUY
                       : md_event_text_is(&text, "S") ? MD_FLAG_SELL
                                                      : 0;
    }
    return md_event_number(fields, ALPACA_PRICE, &event->numbers[0]) &&
           md_event_number(fields, ALPACA_SIZE, &event->numbers[1]) &&
           md_event_integer_if_any(fields, ALPACA_ID, &event->id) &&
           alpaca_conditions(fields, &event->conditions);
}

static bool alpaca_read_quote(const struct md_event_fields *fields, struct md_event *event) {
    return md_event_number(fields, ALPACA_BID_PRICE, &event->numbers[0]) &&
           md_event_number(fields, ALPACA_ASK_PRICE, &event->numbers[1]) &&
           md_event_number(fields, ALPACA_BID_SIZE, &event->numbers[2]) &&
           md_event_number(fields, ALPACA_ASK_SIZE, &event->numbers[3]);
}

static bool alpaca_read_bar(const struct md_event_fields *fields, struct md_event *event) {
    event->interval_ns = ALPACA_MINUTE_NS;
    return md_event_number(fields, ALPACA_OPEN, &event->numbers[0]) &&
           md_event_number(fields, ALPACA_HIGH, &event->numbers[1]) &&
           md_event_number(fields, ALPACA_LOW, &event->numbers[2]) &&
           md_event_number(fields, ALPACA_C, &event->numbers[3]) &&
           md_event_number(fields, ALPACA_VOLUME, &event->numbers[4]) &&
           md_event_number_if_any(fields, ALPACA_VWAP, &event->numbers[5]) &&
           md_event_integer_if_any(fields, ALPACA_TRADE_COUNT, &event->trade_count);
}

/* Take the next of a side's rows, {"p":price,"s":size}. False: it is none. */
static bool alpaca_row(struct md_json *json, struct md_span *price, struct md_span *size) {
    struct md_event_fields fields;
    return md_event_take(json, alpaca_field, &fields) &&
           md_event_number(&fields, ALPACA_PRICE, price) &&
           md_event_number(&fields, ALPACA_SIZE, size);
}

static bool
alpaca_read_side(const struct md_event_fields *fields, unsigned field, struct md_span *out) {
    if (!md_event_is(fields, field, MD_JSON_ARRAY)) {
        return false;
    }
    *out = md_event_span(&fields->values[field]);
    struct md_json json = {.at = out->at + 1, .end = out->at + out->size};
    if (md_json_take(&json, ']')) {
        return true;
    }
    do {
        struct md_span price, size;
        if (!alpaca_row(&json, &price, &size)) {
            return false;
        }
    } while (md_json_take(&json, ','));
    return true;
}

static bool alpaca_read_book(const struct md_event_fields *fields, struct md_event *event) {
    const struct md_json_value *reset = &fields->values[ALPACA_RESET].json;
    if (md_event_has(fields, ALPACA_RESET)) {
        if (reset->type != MD_JSON_TRUE && reset->type != MD_JSON_FALSE) {
            return false;
        }
        event->flags = reset->type == MD_JSON_TRUE ? MD_FLAG_SNAPSHOT : 0;
    }
    return alpaca_read_side(fields, ALPACA_BIDS, &event->numbers[0]) &&
           alpaca_read_side(fields, ALPACA_ASKS, &event->numbers[1]);
}

/* ---- trades and quotes as they are streamed ------------------------------------------------- */

/* Condition codes of one letter, ["@","F"]; the opening bracket is behind us. */
MD_QUICK bool alpaca_quick_conditions(struct md_quick *scan, int64_t *out) {
    uint64_t packed = 0;
    for (unsigned count = 0; count < ALPACA_CODES_MAX; count++) {
        const char *at = scan->at;
        if (!md_quick_room(scan) || at[0] != '"' || at[1] < ' ' || at[1] > '~' || at[1] == '"' ||
            at[1] == '\\' || at[2] != '"') {
            return false;
        }
        packed |= (uint64_t)at[1] << 8 * count;
        scan->at = at + 4;
        if (at[3] != ',') {
            *out = (int64_t)packed;
            return at[3] == ']';
        }
    }
    return false;
}

/* Step over a key and its letter, if they come next. */
#define ALPACA_MAY_SKIP_LETTER(scan, literal)                                                      \
    (!MD_TAKE(scan, literal) || (md_quick_text(scan) && MD_TAKE(scan, "\"")))

/* "z" and "t" and the event's end. */
MD_QUICK bool alpaca_quick_end(struct md_quick *scan, struct md_event *event) {
    return ALPACA_MAY_SKIP_LETTER(scan, ",\"z\":\"") &&
           MD_TIME(scan, ",\"t\":\"", &event->ts_event) && MD_TAKE(scan, "\"}");
}

/* "S":" is behind us. */
MD_QUICK bool alpaca_quick_trade(struct md_quick *scan, struct md_event *event) {
    uint64_t id;
    event->conditions = MD_ABSENT;
    if (!MD_UINT(scan, "\",\"i\":", &id) || !ALPACA_MAY_SKIP_LETTER(scan, ",\"x\":\"") ||
        !MD_EVENT_NUMBER(scan, ",\"p\":", &event->numbers[0]) ||
        !MD_EVENT_NUMBER(scan, ",\"s\":", &event->numbers[1]) ||
        (MD_TAKE(scan, ",\"c\":[") && !alpaca_quick_conditions(scan, &event->conditions))) {
        return false;
    }
    event->id = (int64_t)id;
    return alpaca_quick_end(scan, event);
}

MD_QUICK bool alpaca_quick_quote(struct md_quick *scan, struct md_event *event) {
    int64_t conditions;
    return MD_TAKE(scan, "\"") && ALPACA_MAY_SKIP_LETTER(scan, ",\"bx\":\"") &&
           MD_EVENT_NUMBER(scan, ",\"bp\":", &event->numbers[0]) &&
           MD_EVENT_NUMBER(scan, ",\"bs\":", &event->numbers[2]) &&
           ALPACA_MAY_SKIP_LETTER(scan, ",\"ax\":\"") &&
           MD_EVENT_NUMBER(scan, ",\"ap\":", &event->numbers[1]) &&
           MD_EVENT_NUMBER(scan, ",\"as\":", &event->numbers[3]) &&
           (!MD_TAKE(scan, ",\"c\":[") || alpaca_quick_conditions(scan, &conditions)) &&
           alpaca_quick_end(scan, event);
}

MD_QUICK bool
alpaca_quick(const struct md_event_context *context, struct md_json *json, struct md_event *event) {
    struct md_quick scan;
    if (!md_event_quick_begin(json, &scan)) {
        return false;
    }
    event->kind = MD_TAKE(&scan, "{\"T\":\"q\",\"S\":\"")   ? MD_EVENT_QUOTE
                  : MD_TAKE(&scan, "{\"T\":\"t\",\"S\":\"") ? MD_EVENT_TRADE
                                                            : MD_EVENT_UNKNOWN;
    if (event->kind == MD_EVENT_UNKNOWN) {
        return false;
    }
    event->flags = 0;
    event->sequence = MD_ABSENT;
    event->symbol = md_quick_symbol(&scan, context->feed);
    if (event->symbol == NULL ||
        !(event->kind == MD_EVENT_TRADE ? alpaca_quick_trade(&scan, event)
                                        : alpaca_quick_quote(&scan, event))) {
        return false;
    }
    json->at = scan.at;
    return true;
}

/* ---- events in any order of keys --------------------------------------------------------------
 */

static __attribute__((noinline)) bool alpaca_read_any(const struct md_event_context *context,
                                                      struct md_json *json,
                                                      struct md_event *event) {
    struct md_event_fields fields;
    struct md_event_text type, time;
    if (!md_event_take(json, alpaca_field, &fields) ||
        !md_event_string(&fields, ALPACA_TYPE, &type)) {
        return false;
    }
    event->kind = alpaca_kind(&type);
    if (event->kind < MD_EVENT_TRADE) {
        return true;
    }
    event->flags = 0;
    event->sequence = MD_ABSENT;
    if (!md_event_symbol(context, &fields, ALPACA_SYMBOL, event) ||
        !md_event_string(&fields, ALPACA_TIME, &time) ||
        !md_time_rfc3339(time.at, time.size, &event->ts_event)) {
        return false;
    }
    switch (event->kind) {
    case MD_EVENT_TRADE:
        return alpaca_read_trade(&fields, event);
    case MD_EVENT_QUOTE:
        return alpaca_read_quote(&fields, event);
    case MD_EVENT_BAR:
        return alpaca_read_bar(&fields, event);
    default:
        return alpaca_read_book(&fields, event);
    }
}

static bool
alpaca_read(const struct md_event_context *context, struct md_json *json, struct md_event *event) {
    return alpaca_quick(context, json, event) || alpaca_read_any(context, json, event);
}

/* Go over one side's rows, which are known to be rows. levels NULL: whether all can be held. */
static bool alpaca_levels(const struct md_feed_symbol *symbol,
                          const struct md_span *side,
                          unsigned flags,
                          struct md_levels *levels) {
    struct md_json json = {.at = side->at + 1, .end = side->at + side->size};
    if (md_json_take(&json, ']')) {
        return true;
    }
    do {
        struct md_span price_text, size_text;
        int64_t price, size;
        alpaca_row(&json, &price_text, &size_text);
        if (!md_event_fixed(&price_text, symbol->price_scale, &price) ||
            !md_event_fixed(&size_text, symbol->size_scale, &size)) {
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
static enum md_frame_result alpaca_publish_book(const struct md_event_context *context,
                                                const struct md_event *event) {
    struct md_feed_symbol *symbol = event->symbol;
    const struct md_span *bids = &event->numbers[0], *asks = &event->numbers[1];
    if (!alpaca_levels(symbol, bids, MD_FLAG_BUY, NULL) ||
        !alpaca_levels(symbol, asks, MD_FLAG_SELL, NULL)) {
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
    alpaca_levels(symbol, bids, MD_FLAG_BUY, &levels);
    alpaca_levels(symbol, asks, MD_FLAG_SELL, &levels);
    md_levels_end(&levels);
    return MD_FRAME_OK;
}

enum md_frame_result md_decode_alpaca(struct md_feed *feed,
                                      const char *frame,
                                      size_t size,
                                      int64_t ts_recv,
                                      struct md_connection *connection) {
    const struct md_event_context context = {feed, connection, ts_recv};
    return md_events_decode(&context, frame, size, alpaca_read, alpaca_publish_book);
}
