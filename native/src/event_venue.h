/* What an event of any key order says, by what its venue calls things: the general way, and the one
 * that decides. Alpaca and Massive fill the same table. */
#ifndef MDSYS_EVENT_VENUE_H
#define MDSYS_EVENT_VENUE_H

#include "json_events.h"

/* A word of the field that tells the kind. */
struct md_event_type {
    const char *word;
    enum md_event_kind kind;
    int64_t bar_ns;
};

/* A field that is 0 the venue has not. */
struct md_event_venue {
    const struct md_event_type *types; /* up to one without a word */
    enum md_event_field type, symbol, bar_time;
    enum md_event_field exact_size, exact_volume; /* texts that count before the whole numbers */
    enum md_event_field sequence, taker_side;
    bool one_sided; /* a quote may lack a side */
    /* When it was, in ns; false: that is no time. */
    bool (*time)(const struct md_event_fields *fields, enum md_event_field field, int64_t *ns);
    /* A trade's id, which is there; false: it is of the wrong type. */
    bool (*id)(const struct md_event_value *value, int64_t *out);
    /* What the day puts in front of a sequence; MD_ABSENT: it is no sequence. */
    int64_t (*sequence_of)(int64_t number, int64_t ts_event);
    /* A condition code as code_bits, not 0; MD_EVENT_NO_CODE: it does not fit. False: wrong type.
     */
    bool (*code)(const struct md_json_value *value, uint64_t *code);
    unsigned code_bits, codes_max;
};

#define MD_EVENT_CODES_OTHER INT64_C(-1) /* OTHER of the venue's conditions.py */
enum { MD_EVENT_NO_CODE = 0 };

/* ---- values -----------------------------------------------------------------------------------
 */

static inline bool
md_event_fixed(const struct md_event_value *number, unsigned scale, int64_t *out) {
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
    return md_decimal_parse(number->json.text, number->json.size, scale, out) == MD_DECIMAL_OK;
}

/* Hold a number; of an unknown symbol there is nothing to hold. */
static inline void md_event_hold(const struct md_event_value *number,
                                 unsigned i,
                                 unsigned scale,
                                 struct md_event *event) {
    if (event->symbol != NULL && !md_event_fixed(number, scale, &event->values[i])) {
        event->unfit |= 1U << i;
    }
}

static inline unsigned md_event_price_scale(const struct md_event *event) {
    return event->symbol == NULL ? 0 : event->symbol->price_scale;
}

static inline unsigned md_event_size_scale(const struct md_event *event) {
    return event->symbol == NULL ? 0 : event->symbol->size_scale;
}

/* Values[i] is a bare number; false when it is none. */
static inline bool md_event_number(const struct md_event_fields *fields,
                                   enum md_event_field field,
                                   unsigned i,
                                   unsigned scale,
                                   struct md_event *event) {
    if (!md_event_is(fields, field, MD_JSON_NUMBER)) {
        return false;
    }
    md_event_hold(&fields->values[field], i, scale, event);
    return true;
}

/* The same where the venue may leave it out. False: it is there, and no number. */
static inline bool md_event_number_if_any(const struct md_event_fields *fields,
                                          enum md_event_field field,
                                          unsigned i,
                                          unsigned scale,
                                          struct md_event *event) {
    event->values[i] = MD_ABSENT;
    return !md_event_has(fields, field) || md_event_number(fields, field, i, scale, event);
}

/* A number as text with decimals, where it is there, else the bare one beside it. */
static inline bool md_event_exact(const struct md_event_fields *fields,
                                  enum md_event_field exact,
                                  enum md_event_field whole,
                                  unsigned i,
                                  unsigned scale,
                                  struct md_event *event) {
    if (!md_event_has(fields, exact)) {
        return md_event_number(fields, whole, i, scale, event);
    }
    const struct md_json_value *json = &fields->values[exact].json;
    int64_t ignored;
    if (json->type != MD_JSON_STRING || json->size > MD_EVENT_TEXT_SIZE_MAX ||
        md_decimal_parse(json->text, json->size, 0, &ignored) == MD_DECIMAL_SYNTAX) {
        return false;
    }
    const struct md_event_value number = {*json, 0, MD_EVENT_NOT_READ};
    md_event_hold(&number, i, scale, event);
    return true;
}

/* A trade's condition codes as one integer, the first one lowest; those that do not fit are told
 * apart from none. */
static bool md_event_conditions(const struct md_event_venue *venue,
                                const struct md_event_fields *fields,
                                int64_t *out) {
    *out = MD_ABSENT;
    if (!md_event_has(fields, MD_FIELD_C)) {
        return true;
    }
    const struct md_json_value *array = &fields->values[MD_FIELD_C].json;
    if (array->type != MD_JSON_ARRAY) {
        return false;
    }
    uint64_t packed = 0;
    unsigned count = 0;
    bool fits = true;
    struct md_json json = {.at = array->text + 1, .end = array->text + array->size};
    if (!md_json_take(&json, ']')) {
        do {
            struct md_json_value value;
            uint64_t code;
            md_json_value(&json, &value);
            if (!venue->code(&value, &code)) {
                return false;
            }
            fits = fits && code != MD_EVENT_NO_CODE && count < venue->codes_max;
            packed |= fits ? code << venue->code_bits * count : 0;
            count++;
        } while (md_json_take(&json, ','));
    }
    *out = fits ? (int64_t)packed : MD_EVENT_CODES_OTHER;
    return true;
}

/* ---- kinds ------------------------------------------------------------------------------------
 */

static bool md_event_read_trade(const struct md_event_venue *venue,
                                const struct md_event_fields *fields,
                                struct md_event *event) {
    event->id = event->sequence = MD_ABSENT;
    if (md_event_has(fields, venue->taker_side)) {
        struct md_event_text text;
        if (!md_event_string(fields, venue->taker_side, &text)) {
            return false;
        }
        event->flags = md_event_text_is(&text, "B")   ? MD_FLAG_BUY
                       : md_event_text_is(&text, "S") ? MD_FLAG_SELL
                                                      : 0;
    }
    unsigned price = md_event_price_scale(event), size = md_event_size_scale(event);
    return md_event_number(fields, MD_FIELD_PRICE, 0, price, event) &&
           md_event_exact(fields, venue->exact_size, MD_FIELD_SIZE, 1, size, event) &&
           (!md_event_has(fields, MD_FIELD_ID) ||
            venue->id(&fields->values[MD_FIELD_ID], &event->id)) &&
           md_event_conditions(venue, fields, &event->conditions);
}

static bool md_event_read_quote(const struct md_event_venue *venue,
                                const struct md_event_fields *fields,
                                struct md_event *event) {
    static const uint8_t sides[4] = {
        MD_FIELD_BID_PRICE, MD_FIELD_ASK_PRICE, MD_FIELD_BID_SIZE, MD_FIELD_ASK_SIZE};
    for (unsigned i = 0; i < 4; i++) {
        unsigned scale = i < 2 ? md_event_price_scale(event) : md_event_size_scale(event);
        if ((!venue->one_sided && !md_event_has(fields, sides[i])) ||
            !md_event_number_if_any(fields, sides[i], i, scale, event)) {
            return false;
        }
    }
    return true;
}

static bool md_event_read_bar(const struct md_event_venue *venue,
                              const struct md_event_fields *fields,
                              struct md_event *event) {
    static const uint8_t prices[4] = {MD_FIELD_OPEN, MD_FIELD_HIGH, MD_FIELD_LOW, MD_FIELD_C};
    unsigned price = md_event_price_scale(event), size = md_event_size_scale(event);
    for (unsigned i = 0; i < 4; i++) {
        if (!md_event_number(fields, prices[i], i, price, event)) {
            return false;
        }
    }
    return md_event_exact(fields, venue->exact_volume, MD_FIELD_VOLUME, 4, size, event) &&
           md_event_number_if_any(fields, MD_FIELD_VWAP, 5, price, event) &&
           md_event_integer_if_any(fields, MD_FIELD_TRADE_COUNT, &event->trade_count);
}

static bool md_event_read_sequence(const struct md_event_venue *venue,
                                   const struct md_event_fields *fields,
                                   struct md_event *event) {
    int64_t number;
    if (!md_event_integer_if_any(fields, venue->sequence, &number)) {
        return false;
    }
    event->sequence = number == MD_ABSENT ? MD_ABSENT : venue->sequence_of(number, event->ts_event);
    return true;
}

static const struct md_event_type *md_event_type_of(const struct md_event_venue *venue,
                                                    const struct md_event_text *word) {
    const struct md_event_type *type = venue->types;
    while (type->word != NULL && !md_event_text_is(word, type->word)) {
        type++;
    }
    return type;
}

/* read_book: MD_EVENT_BOOK's, of a venue that has it. */
static bool md_event_read_any(const struct md_event_venue *venue,
                              bool (*read_book)(const struct md_event_fields *fields,
                                                struct md_event *event),
                              const struct md_event_context *context,
                              struct md_json *json,
                              struct md_event *event) {
    struct md_event_fields fields;
    struct md_event_text text;
    if (!md_event_take(json, &fields) || !md_event_string(&fields, venue->type, &text)) {
        return false;
    }
    const struct md_event_type *type = md_event_type_of(venue, &text);
    event->kind = type->word == NULL ? MD_EVENT_UNKNOWN : type->kind;
    if (event->kind < MD_EVENT_TRADE) {
        return true;
    }
    event->flags = 0;
    event->unfit = 0;
    event->interval_ns = type->bar_ns;
    enum md_event_field time = event->kind == MD_EVENT_BAR ? venue->bar_time : MD_FIELD_TIME;
    if (!md_event_string(&fields, venue->symbol, &text) ||
        !venue->time(&fields, time, &event->ts_event)) {
        return false;
    }
    event->symbol = md_feed_find_symbol(context->feed, text.at, text.size);
    switch (event->kind) {
    case MD_EVENT_TRADE:
        return md_event_read_trade(venue, &fields, event) &&
               md_event_read_sequence(venue, &fields, event);
    case MD_EVENT_QUOTE:
        return md_event_read_quote(venue, &fields, event) &&
               md_event_read_sequence(venue, &fields, event);
    case MD_EVENT_BAR:
        return md_event_read_bar(venue, &fields, event);
    default:
        return read_book(&fields, event);
    }
}

#endif
