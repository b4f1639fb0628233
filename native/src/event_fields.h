/* One flat event of a frame of JSON, as values by field: a scanner for short keys in any order.
 *
 * What venues mostly send (keys of one to four letters, plain numbers, short strings) is taken a
 * word at a time; everything else falls back to json_scan.h, which alone decides what JSON is. */
#ifndef MDSYS_EVENT_FIELDS_H
#define MDSYS_EVENT_FIELDS_H

#include "json_scan.h"
#include "mdsys/decimal.h"
#include "mdsys/record.h"

#define MD_EVENTS_INLINE static inline __attribute__((always_inline))

enum {
    MD_EVENT_TEXT_SIZE_MAX = 127, /* beyond any name, time or number in text form */
    MD_EVENT_NOT_READ = 255,
};

/* A string's meaning. */
struct md_event_text {
    const char *at;
    size_t size;
    char buffer[MD_EVENT_TEXT_SIZE_MAX];
};

/* False when it is no string; what is too long is the empty text, which names nothing. */
static inline bool md_event_text_of(const struct md_json_value *value, struct md_event_text *out) {
    out->at = value->text;
    out->size = value->size;
    if (__builtin_expect(value->escaped, 0) && value->type == MD_JSON_STRING) {
        out->at = out->buffer;
        out->size = md_json_unescape(value, out->buffer, MD_EVENT_TEXT_SIZE_MAX);
    }
    if (out->size > MD_EVENT_TEXT_SIZE_MAX) {
        out->size = 0;
    }
    return value->type == MD_JSON_STRING;
}

static inline bool md_event_text_is(const struct md_event_text *text, const char *word) {
    return text->size == strlen(word) && memcmp(text->at, word, text->size) == 0;
}

/* The value of an integer in [0, 2^63 - 1] as JSON writes it; MD_ABSENT for any other text. */
static inline int64_t md_event_integer_of(const char *text, size_t size) {
    uint64_t value = 0;
    if (size == 0 || size > 19 || (text[0] == '0' && size > 1)) {
        return MD_ABSENT;
    }
    for (size_t i = 0; i < size; i++) {
        if (!md_is_digit(text[i])) {
            return MD_ABSENT;
        }
        value = value * 10 + (uint64_t)(text[i] - '0'); /* < 10^19, which fits */
    }
    return value <= (uint64_t)INT64_MAX ? (int64_t)value : MD_ABSENT;
}

/* A value, and what it is as a number where it was easily read. */
struct md_event_value {
    struct md_json_value json;
    uint64_t mantissa; /* where decimals says so: the number is mantissa x 10^-decimals */
    uint8_t decimals;  /* in [0, 8], or MD_EVENT_NOT_READ */
};

/* The values of one event by field, in [1, 32); 0 is what nobody knows. */
struct md_event_fields {
    uint32_t present; /* bit f: values[f] is there, and not null */
    struct md_event_value values[32];
};

/* What the venues' keys are; the same letters mean the same thing at both, or nothing at one. */
enum md_event_field {
    MD_FIELD_NONE,
    MD_FIELD_T, /* Alpaca's type */
    MD_FIELD_EV,
    MD_FIELD_S, /* Alpaca's symbol */
    MD_FIELD_SYM,
    MD_FIELD_TIME,
    MD_FIELD_ID,
    MD_FIELD_PRICE,
    MD_FIELD_SIZE, /* Massive's bars: when they begin */
    MD_FIELD_EXACT_SIZE,
    MD_FIELD_SEQUENCE,
    MD_FIELD_TAKER_SIDE,
    MD_FIELD_BID_PRICE,
    MD_FIELD_ASK_PRICE,
    MD_FIELD_BID_SIZE,
    MD_FIELD_ASK_SIZE,
    MD_FIELD_OPEN,
    MD_FIELD_HIGH,
    MD_FIELD_LOW,
    MD_FIELD_C, /* a trade's condition codes, a bar's close */
    MD_FIELD_VOLUME,
    MD_FIELD_EXACT_VOLUME,
    MD_FIELD_VWAP,
    MD_FIELD_TRADE_COUNT,
    MD_FIELD_BIDS,
    MD_FIELD_ASKS,
    MD_FIELD_RESET,
    MD_FIELD_PASSED, /* known, and not asked for */
};

#define MD_EVENT_KEY2(a, b) ((uint32_t)(a) | (uint32_t)(b) << 8)
#define MD_EVENT_KEY3(a, b, c) (MD_EVENT_KEY2(a, b) | (uint32_t)(c) << 16)
#define MD_EVENT_KEY4(a, b, c, d) (MD_EVENT_KEY3(a, b, c) | (uint32_t)(d) << 24)

/* A key's field. key: 1 to 4 letters, the first lowest. */
static inline unsigned md_event_field(uint32_t key) {
    static const uint8_t letters[128] = {
        ['T'] = MD_FIELD_T,
        ['S'] = MD_FIELD_S,
        ['t'] = MD_FIELD_TIME,
        ['i'] = MD_FIELD_ID,
        ['p'] = MD_FIELD_PRICE,
        ['s'] = MD_FIELD_SIZE,
        ['q'] = MD_FIELD_SEQUENCE,
        ['o'] = MD_FIELD_OPEN,
        ['h'] = MD_FIELD_HIGH,
        ['l'] = MD_FIELD_LOW,
        ['c'] = MD_FIELD_C,
        ['v'] = MD_FIELD_VOLUME,
        ['b'] = MD_FIELD_BIDS,
        ['n'] = MD_FIELD_TRADE_COUNT,
        ['a'] = MD_FIELD_ASKS,
        ['r'] = MD_FIELD_RESET,
        ['x'] = MD_FIELD_PASSED,
        ['z'] = MD_FIELD_PASSED,
    };
    switch (key) {
    case MD_EVENT_KEY2('e', 'v'):
        return MD_FIELD_EV;
    case MD_EVENT_KEY3('s', 'y', 'm'):
        return MD_FIELD_SYM;
    case MD_EVENT_KEY3('t', 'k', 's'):
        return MD_FIELD_TAKER_SIDE;
    case MD_EVENT_KEY2('b', 'p'):
        return MD_FIELD_BID_PRICE;
    case MD_EVENT_KEY2('a', 'p'):
        return MD_FIELD_ASK_PRICE;
    case MD_EVENT_KEY2('b', 's'):
        return MD_FIELD_BID_SIZE;
    case MD_EVENT_KEY2('a', 's'):
        return MD_FIELD_ASK_SIZE;
    case MD_EVENT_KEY2('d', 's'):
        return MD_FIELD_EXACT_SIZE;
    case MD_EVENT_KEY2('d', 'v'):
        return MD_FIELD_EXACT_VOLUME;
    case MD_EVENT_KEY2('v', 'w'):
        return MD_FIELD_VWAP;
    case MD_EVENT_KEY2('b', 'x'):
    case MD_EVENT_KEY2('a', 'x'):
    case MD_EVENT_KEY2('p', 't'):
    case MD_EVENT_KEY4('t', 'r', 'f', 'i'):
    case MD_EVENT_KEY4('t', 'r', 'f', 't'):
        return MD_FIELD_PASSED;
    default:
        return key < 128 ? letters[key] : MD_FIELD_NONE;
    }
}

static inline bool md_event_has(const struct md_event_fields *fields, unsigned field) {
    return (fields->present >> field & 1) != 0;
}

static inline bool
md_event_is(const struct md_event_fields *fields, unsigned field, enum md_json_type type) {
    return md_event_has(fields, field) && fields->values[field].json.type == type;
}

/* Take a key of 1 to 4 letters and its colon, of a field; 0, and nothing taken, for any other. The
 * letters are plain, because a key with a field has no others. */
MD_EVENTS_INLINE unsigned md_event_short_key(struct md_json *json) {
    const uint64_t quote_colon = (uint64_t)':' << 8 | '"';
    uint64_t word;
    if (json->end - json->at < 8 || *json->at != '"') {
        return 0;
    }
    memcpy(&word, json->at, 8);
    word >>= 8;
    unsigned size = (word >> 8 & 0xFFFF) == quote_colon    ? 1
                    : (word >> 16 & 0xFFFF) == quote_colon ? 2
                    : (word >> 24 & 0xFFFF) == quote_colon ? 3
                    : (word >> 32 & 0xFFFF) == quote_colon ? 4
                                                           : 0;
    if (size == 0 || (word >> (8 * size - 8) & 0xFF) == 0) { /* "S\0" is no key, nor "S" */
        return 0;
    }
    unsigned field = md_event_field((uint32_t)(word & UINT32_MAX >> (32 - 8 * size)));
    if (field != 0) {
        json->at += size + 3;
    }
    return field;
}

/* The general way: any key, blanks before it too. */
static inline bool md_event_any_key(struct md_json *json, unsigned *field) {
    struct md_json_value key;
    struct md_event_text text;
    if (!md_json_key(json, &key)) {
        return false;
    }
    md_event_text_of(&key, &text);
    uint32_t letters = 0;
    bool fits = text.size != 0 && text.size <= 4;
    for (size_t i = 0; fits && i < text.size; i++) {
        fits = text.at[i] > 0;
        letters |= (uint32_t)(unsigned char)text.at[i] << 8 * i;
    }
    *field = fits ? md_event_field(letters) : 0;
    return true;
}

/* Digits, and a point and digits: 16 and 7 at most, with what ends a value behind them. False, and
 * nothing taken, for any other number. */
MD_EVENTS_INLINE bool md_event_plain_number(struct md_json *json, struct md_event_value *out) {
    const char *at = json->at;
    unsigned count, decimals = 0;
    if (json->end - at < 34) { /* 16 + 1 + 7 + 1, read in words of 8 */
        return false;
    }
    uint64_t mantissa = md_digits8(md_load8(at, NULL), &count);
    if (count == 0 || (*at == '0' && count > 1)) {
        return false;
    }
    at += count;
    if (count == 8) {
        uint64_t more = md_digits8(md_load8(at, NULL), &count);
        mantissa = mantissa * md_pow10[count] + more;
        at += count;
        if (count == 8) {
            return false;
        }
    }
    if (*at == '.') {
        uint64_t fraction = md_digits8(md_load8(++at, NULL), &decimals);
        if (decimals == 0 || decimals == 8 ||
            __builtin_mul_overflow(mantissa, md_pow10[decimals], &mantissa) ||
            __builtin_add_overflow(mantissa, fraction, &mantissa)) {
            return false;
        }
        at += decimals;
    }
    if (*at != ',' && *at != '}' && *at != ']') {
        return false;
    }
    out->json.text = json->at;
    out->json.size = (size_t)(at - json->at);
    out->json.type = MD_JSON_NUMBER;
    out->json.escaped = false;
    out->mantissa = mantissa;
    out->decimals = (uint8_t)decimals;
    json->at = at;
    return true;
}

/* A string of at most 7 ordinary bytes, or an array of strings of one such byte each. */
MD_EVENTS_INLINE bool md_event_plain_text(struct md_json *json, struct md_json_value *out) {
    const char *at = json->at;
    if (json->end - at < 16) {
        return false;
    }
    if (*at == '"') {
        unsigned size = md_json_plain(at + 1, json->end);
        if (size == 8 || at[1 + size] != '"') {
            return false;
        }
        *out = (struct md_json_value){at + 1, size, MD_JSON_STRING, false};
        json->at = at + 2 + size;
        return true;
    }
    if (*at != '[') {
        return false;
    }
    while (json->end - ++at >= 4 && at[0] == '"' && at[1] >= ' ' && at[1] < 0x7F && at[1] != '"' &&
           at[1] != '\\' && at[2] == '"') {
        at += 3;
        if (*at == ']') {
            *out =
                (struct md_json_value){json->at, (size_t)(at + 1 - json->at), MD_JSON_ARRAY, false};
            json->at = at + 1;
            return true;
        }
        if (*at != ',') {
            break;
        }
    }
    return false;
}

/* Take an event. Of a key that comes twice the last one counts. */
MD_EVENTS_INLINE bool md_event_take(struct md_json *json, struct md_event_fields *fields) {
    fields->present = 0;
    if (!md_json_take(json, '{')) {
        return false;
    }
    json->depth++;
    if (!md_json_take(json, '}')) {
        do {
            unsigned field = md_event_short_key(json);
            if (field == 0 && !md_event_any_key(json, &field)) {
                return false;
            }
            struct md_event_value *value = &fields->values[field];
            if (!md_event_plain_number(json, value)) {
                value->decimals = MD_EVENT_NOT_READ;
                if (!md_event_plain_text(json, &value->json) &&
                    !md_json_value(json, &value->json)) {
                    return false;
                }
            }
            uint32_t bit = UINT32_C(1) << field;
            fields->present =
                value->json.type == MD_JSON_NULL ? fields->present & ~bit : fields->present | bit;
        } while (md_json_take(json, ','));
        if (!md_json_take(json, '}')) {
            return false;
        }
    }
    fields->present &=
        ~(UINT32_C(1) << MD_FIELD_NONE); /* so a venue may lack a field by naming 0 */
    json->depth--;
    return true;
}

/* A field's string; false when there is none. */
static inline bool
md_event_string(const struct md_event_fields *fields, unsigned field, struct md_event_text *out) {
    return md_event_has(fields, field) && md_event_text_of(&fields->values[field].json, out);
}

/* A number's value as an integer in [0, 2^63 - 1]; MD_ABSENT for any other. */
static inline int64_t md_event_integer(const struct md_event_value *value) {
    return value->decimals == 0 ? (int64_t)value->mantissa
                                : md_event_integer_of(value->json.text, value->json.size);
}

/* An integer that the venue may leave out; a number of another kind is as none. */
static inline bool
md_event_integer_if_any(const struct md_event_fields *fields, unsigned field, int64_t *out) {
    const struct md_event_value *value = &fields->values[field];
    *out = MD_ABSENT;
    if (!md_event_has(fields, field)) {
        return true;
    }
    *out = md_event_integer(value);
    return value->json.type == MD_JSON_NUMBER;
}

#endif
