#include "decode_massive.h"

#include "event_quick.h"

#define MASSIVE_MS_NS INT64_C(1000000)
#define MASSIVE_DAY_MS INT64_C(86400000)
#define MASSIVE_NIGHT_MS INT64_C(21600000) /* 06:00 UTC: between two trading days all the year */

enum {
    MASSIVE_SEQUENCE_BITS = 40,
    MASSIVE_CODE_BITS = 12, /* mdsys.feed.massive.conditions */
    MASSIVE_CODE_MAX = 4094,
    MASSIVE_CODES_MAX = 5,
    MASSIVE_CODES_OTHER = -1,
};

enum massive_field {
    MASSIVE_NONE,
    MASSIVE_TYPE,
    MASSIVE_SYMBOL,
    MASSIVE_TIME,
    MASSIVE_ID,
    MASSIVE_PRICE,
    MASSIVE_S, /* a trade's size, a bar's begin */
    MASSIVE_EXACT_SIZE,
    MASSIVE_SEQUENCE,
    MASSIVE_BID_PRICE,
    MASSIVE_ASK_PRICE,
    MASSIVE_BID_SIZE,
    MASSIVE_ASK_SIZE,
    MASSIVE_OPEN,
    MASSIVE_HIGH,
    MASSIVE_LOW,
    MASSIVE_C, /* a trade's condition codes, a bar's close */
    MASSIVE_VOLUME,
    MASSIVE_EXACT_VOLUME,
    MASSIVE_VWAP,
    MASSIVE_TRADE_COUNT,
};

static inline unsigned massive_field(uint32_t key) {
    static const uint8_t letters[128] = {
        ['t'] = MASSIVE_TIME,
        ['i'] = MASSIVE_ID,
        ['p'] = MASSIVE_PRICE,
        ['s'] = MASSIVE_S,
        ['q'] = MASSIVE_SEQUENCE,
        ['o'] = MASSIVE_OPEN,
        ['h'] = MASSIVE_HIGH,
        ['l'] = MASSIVE_LOW,
        ['c'] = MASSIVE_C,
        ['v'] = MASSIVE_VOLUME,
        ['n'] = MASSIVE_TRADE_COUNT,
        ['x'] = MD_EVENT_PASSED,
        ['z'] = MD_EVENT_PASSED,
    };
    switch (key) {
    case MD_EVENT_KEY2('e', 'v'):
        return MASSIVE_TYPE;
    case MD_EVENT_KEY3('s', 'y', 'm'):
        return MASSIVE_SYMBOL;
    case MD_EVENT_KEY2('b', 'p'):
        return MASSIVE_BID_PRICE;
    case MD_EVENT_KEY2('a', 'p'):
        return MASSIVE_ASK_PRICE;
    case MD_EVENT_KEY2('b', 's'):
        return MASSIVE_BID_SIZE;
    case MD_EVENT_KEY2('a', 's'):
        return MASSIVE_ASK_SIZE;
    case MD_EVENT_KEY2('d', 's'):
        return MASSIVE_EXACT_SIZE;
    case MD_EVENT_KEY2('d', 'v'):
        return MASSIVE_EXACT_VOLUME;
    case MD_EVENT_KEY2('v', 'w'):
        return MASSIVE_VWAP;
    case MD_EVENT_KEY2('b', 'x'):
    case MD_EVENT_KEY2('a', 'x'):
    case MD_EVENT_KEY2('p', 't'):
    case MD_EVENT_KEY4('t', 'r', 'f', 'i'):
    case MD_EVENT_KEY4('t', 'r', 'f', 't'):
        return MD_EVENT_PASSED;
    default:
        return key < 128 ? letters[key] : MASSIVE_NONE;
    }
}

static enum md_event_kind massive_kind(const struct md_event_text *type, int64_t *bar_ns) {
    static const struct {
        const char *type;
        enum md_event_kind kind;
    } words[] = {
        {"status", MD_EVENT_CONTROL},
        {"LULD", MD_EVENT_PASSED_OVER},
        {"NOI", MD_EVENT_PASSED_OVER},
        {"FMV", MD_EVENT_PASSED_OVER},
    };
    if (type->size == 1) {
        switch (type->at[0]) {
        case 'T':
            return MD_EVENT_TRADE;
        case 'Q':
            return MD_EVENT_QUOTE;
        case 'A':
            *bar_ns = INT64_C(1000000000);
            return MD_EVENT_BAR;
        default:
            return MD_EVENT_UNKNOWN;
        }
    }
    if (md_event_text_is(type, "AM")) {
        *bar_ns = INT64_C(60000000000);
        return MD_EVENT_BAR;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (md_event_text_is(type, words[i].type)) {
            return words[i].kind;
        }
    }
    return MD_EVENT_UNKNOWN;
}

/* Milliseconds since the epoch; false when there are none, or ns do not reach that far. */
static bool massive_ms(const struct md_event_fields *fields, unsigned field, int64_t *out) {
    if (!md_event_integer_if_any(fields, field, out)) {
        return false;
    }
    return *out != MD_ABSENT && *out <= INT64_MAX / MASSIVE_MS_NS;
}

/* q ascends within a trading day and begins anew with the next: the day goes in front of it. */
static inline int64_t massive_sequence_of(int64_t q, int64_t ms) {
    return q > 0 && q >> MASSIVE_SEQUENCE_BITS == 0 && ms >= MASSIVE_NIGHT_MS
               ? (ms - MASSIVE_NIGHT_MS) / MASSIVE_DAY_MS << MASSIVE_SEQUENCE_BITS | q
               : MD_ABSENT;
}

static bool massive_sequence(const struct md_event_fields *fields, int64_t ms, int64_t *out) {
    int64_t q;
    if (!md_event_integer_if_any(fields, MASSIVE_SEQUENCE, &q)) {
        return false;
    }
    *out = massive_sequence_of(q, ms);
    return true;
}

/* A size as text with decimals, where it is there, else the whole number beside it. */
static bool massive_exact(const struct md_event_fields *fields,
                          unsigned exact,
                          unsigned whole,
                          struct md_span *out) {
    if (!md_event_has(fields, exact)) {
        return md_event_number(fields, whole, out);
    }
    const struct md_json_value *value = &fields->values[exact].json;
    int64_t ignored;
    *out = (struct md_span){value->text, value->size, 0, MD_EVENT_NOT_READ};
    return value->type == MD_JSON_STRING && value->size <= MD_EVENT_TEXT_SIZE_MAX &&
           md_decimal_parse(value->text, value->size, 0, &ignored) != MD_DECIMAL_SYNTAX;
}

/* A trade's id is a text, mostly of digits, of which the record can hold the integer. */
static bool massive_id(const struct md_event_fields *fields, int64_t *out) {
    struct md_event_text text;
    const struct md_json_value *value = &fields->values[MASSIVE_ID].json;
    *out = MD_ABSENT;
    if (!md_event_has(fields, MASSIVE_ID)) {
        return true;
    }
    if (value->type == MD_JSON_NUMBER) {
        *out = md_event_integer_of(value->text, value->size);
        return true;
    }
    if (!md_event_text_of(value, &text)) {
        return false;
    }
    *out = md_event_integer_of(text.at, text.size);
    return true;
}

/* A trade's condition codes as one integer, as mdsys.feed.massive.conditions has it. */
static bool massive_conditions(const struct md_event_fields *fields, int64_t *out) {
    *out = MD_ABSENT;
    if (!md_event_has(fields, MASSIVE_C)) {
        return true;
    }
    const struct md_json_value *array = &fields->values[MASSIVE_C].json;
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
            md_json_value(&json, &value);
            if (value.type != MD_JSON_NUMBER) {
                return false;
            }
            int64_t code = md_event_integer_of(value.text, value.size);
            fits = fits && code >= 0 && code <= MASSIVE_CODE_MAX && count < MASSIVE_CODES_MAX;
            packed |= fits ? (uint64_t)(code + 1) << MASSIVE_CODE_BITS * count : 0;
            count++;
        } while (md_json_take(&json, ','));
    }
    *out = fits ? (int64_t)packed : MASSIVE_CODES_OTHER;
    return true;
}

static bool massive_read_trade(const struct md_event_fields *fields, struct md_event *event) {
    int64_t ms;
    if (!massive_ms(fields, MASSIVE_TIME, &ms) ||
        !md_event_number(fields, MASSIVE_PRICE, &event->numbers[0]) ||
        !massive_exact(fields, MASSIVE_EXACT_SIZE, MASSIVE_S, &event->numbers[1]) ||
        !massive_id(fields, &event->id) || !massive_sequence(fields, ms, &event->sequence) ||
        !massive_conditions(fields, &event->conditions)) {
        return false;
    }
    event->ts_event = ms * MASSIVE_MS_NS;
    return true;
}

static bool massive_read_quote(const struct md_event_fields *fields, struct md_event *event) {
    int64_t ms;
    if (!massive_ms(fields, MASSIVE_TIME, &ms) ||
        !md_event_number_if_any(fields, MASSIVE_BID_PRICE, &event->numbers[0]) ||
        !md_event_number_if_any(fields, MASSIVE_ASK_PRICE, &event->numbers[1]) ||
        !md_event_number_if_any(fields, MASSIVE_BID_SIZE, &event->numbers[2]) ||
        !md_event_number_if_any(fields, MASSIVE_ASK_SIZE, &event->numbers[3]) ||
        !massive_sequence(fields, ms, &event->sequence)) {
        return false;
    }
    event->ts_event = ms * MASSIVE_MS_NS;
    return true;
}

static bool massive_read_bar(const struct md_event_fields *fields, struct md_event *event) {
    int64_t ms;
    if (!massive_ms(fields, MASSIVE_S, &ms) ||
        !md_event_number(fields, MASSIVE_OPEN, &event->numbers[0]) ||
        !md_event_number(fields, MASSIVE_HIGH, &event->numbers[1]) ||
        !md_event_number(fields, MASSIVE_LOW, &event->numbers[2]) ||
        !md_event_number(fields, MASSIVE_C, &event->numbers[3]) ||
        !massive_exact(fields, MASSIVE_EXACT_VOLUME, MASSIVE_VOLUME, &event->numbers[4]) ||
        !md_event_number_if_any(fields, MASSIVE_VWAP, &event->numbers[5]) ||
        !md_event_integer_if_any(fields, MASSIVE_TRADE_COUNT, &event->trade_count)) {
        return false;
    }
    event->ts_event = ms * MASSIVE_MS_NS;
    return true;
}

/* ---- trades and quotes as they are streamed ------------------------------------------------- */

/* A trade's condition codes, [14,37,41]; the opening bracket is behind us. */
MD_QUICK bool massive_quick_conditions(struct md_quick *scan, int64_t *out) {
    uint64_t packed = 0, code;
    for (unsigned count = 0; count < MASSIVE_CODES_MAX; count++) {
        if (!md_quick_uint(scan, &code) || code > MASSIVE_CODE_MAX) {
            return false;
        }
        packed |= (code + 1) << MASSIVE_CODE_BITS * count;
        if (!MD_TAKE(scan, ",")) {
            *out = (int64_t)packed;
            return MD_TAKE(scan, "]");
        }
    }
    return false;
}

/* "t", perhaps "pt", "q", perhaps "z": the time and the sequence. */
MD_QUICK bool massive_quick_times(struct md_quick *scan, struct md_event *event) {
    uint64_t ms, q;
    if (!MD_UINT(scan, ",\"t\":", &ms) || ms > INT64_MAX / MASSIVE_MS_NS ||
        !MD_EVENT_MAY_SKIP(scan, ",\"pt\":") || !MD_UINT(scan, ",\"q\":", &q)) {
        return false;
    }
    event->ts_event = (int64_t)ms * MASSIVE_MS_NS;
    event->sequence = massive_sequence_of((int64_t)q, (int64_t)ms);
    return MD_EVENT_MAY_SKIP(scan, ",\"z\":");
}

/* "sym":" is behind us. */
MD_QUICK bool massive_quick_trade(struct md_quick *scan, struct md_event *event) {
    uint64_t id;
    event->conditions = MD_ABSENT;
    if (!MD_UINT(scan, "\",\"i\":\"", &id) || !MD_TAKE(scan, "\"") ||
        !MD_EVENT_MAY_SKIP(scan, ",\"x\":") ||
        !MD_EVENT_NUMBER(scan, ",\"p\":", &event->numbers[0]) ||
        !MD_EVENT_NUMBER(scan, ",\"s\":", &event->numbers[1]) ||
        (MD_TAKE(scan, ",\"c\":[") && !massive_quick_conditions(scan, &event->conditions)) ||
        !massive_quick_times(scan, event) || !MD_EVENT_MAY_SKIP(scan, ",\"trfi\":") ||
        !MD_EVENT_MAY_SKIP(scan, ",\"trft\":") ||
        (MD_TAKE(scan, ",\"ds\":\"") && /* the exact size, which counts */
         !(md_event_quick_number(scan, &event->numbers[1]) && MD_TAKE(scan, "\"")))) {
        return false;
    }
    event->id = (int64_t)id;
    return MD_TAKE(scan, "}");
}

MD_QUICK bool massive_quick_quote(struct md_quick *scan, struct md_event *event) {
    int64_t indicators;
    return MD_TAKE(scan, "\"") &&
           (!MD_TAKE(scan, ",\"i\":[") || massive_quick_conditions(scan, &indicators)) &&
           MD_EVENT_MAY_SKIP(scan, ",\"bx\":") && MD_EVENT_MAY_SKIP(scan, ",\"ax\":") &&
           MD_EVENT_NUMBER(scan, ",\"bp\":", &event->numbers[0]) &&
           MD_EVENT_NUMBER(scan, ",\"ap\":", &event->numbers[1]) &&
           MD_EVENT_NUMBER(scan, ",\"bs\":", &event->numbers[2]) &&
           MD_EVENT_NUMBER(scan, ",\"as\":", &event->numbers[3]) &&
           massive_quick_times(scan, event) && MD_TAKE(scan, "}");
}

MD_QUICK bool massive_quick(const struct md_event_context *context,
                            struct md_json *json,
                            struct md_event *event) {
    struct md_quick scan;
    if (!md_event_quick_begin(json, &scan)) {
        return false;
    }
    event->kind = MD_TAKE(&scan, "{\"ev\":\"T\",\"sym\":\"")   ? MD_EVENT_TRADE
                  : MD_TAKE(&scan, "{\"ev\":\"Q\",\"sym\":\"") ? MD_EVENT_QUOTE
                                                               : MD_EVENT_UNKNOWN;
    if (event->kind == MD_EVENT_UNKNOWN) {
        return false;
    }
    event->flags = 0;
    event->symbol = md_quick_symbol(&scan, context->feed);
    if (event->symbol == NULL ||
        !(event->kind == MD_EVENT_TRADE ? massive_quick_trade(&scan, event)
                                        : massive_quick_quote(&scan, event))) {
        return false;
    }
    json->at = scan.at;
    return true;
}

/* ---- events in any order of keys --------------------------------------------------------------
 */

static __attribute__((noinline)) bool massive_read_any(const struct md_event_context *context,
                                                       struct md_json *json,
                                                       struct md_event *event) {
    struct md_event_fields fields;
    struct md_event_text type;
    if (!md_event_take(json, massive_field, &fields) ||
        !md_event_string(&fields, MASSIVE_TYPE, &type)) {
        return false;
    }
    event->kind = massive_kind(&type, &event->interval_ns);
    if (event->kind < MD_EVENT_TRADE) {
        return true;
    }
    event->flags = 0;
    if (!md_event_symbol(context, &fields, MASSIVE_SYMBOL, event)) {
        return false;
    }
    switch (event->kind) {
    case MD_EVENT_TRADE:
        return massive_read_trade(&fields, event);
    case MD_EVENT_QUOTE:
        return massive_read_quote(&fields, event);
    default:
        return massive_read_bar(&fields, event);
    }
}

static bool
massive_read(const struct md_event_context *context, struct md_json *json, struct md_event *event) {
    return massive_quick(context, json, event) || massive_read_any(context, json, event);
}

enum md_frame_result md_decode_massive(struct md_feed *feed,
                                       const char *frame,
                                       size_t size,
                                       int64_t ts_recv,
                                       struct md_connection *connection) {
    const struct md_event_context context = {feed, connection, ts_recv};
    return md_events_decode(&context, frame, size, massive_read, NULL); /* it has no books */
}
