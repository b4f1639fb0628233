/* Events in the key order that their venue streams, read where they are expected: see quick_scan.h.
 * What is taken is an event as event_venue.h would have read it; what is not goes that way, alone.
 *
 * A venue writes down its order as a chain of keys, and what the value of each is read as. */
#ifndef MDSYS_EVENT_QUICK_H
#define MDSYS_EVENT_QUICK_H

#include "json_events.h"
#include "quick_scan.h"

#define MD_EVENT_KEY(scan, name)                                                                   \
    md_event_quick_key(scan, ",\"" name "\":", sizeof(",\"" name "\":") - 1)

/* A key whose value is read by md_event_quick_<what>. */
#define MD_EVENT_NEXT(scan, name, what, ...)                                                       \
    (MD_EVENT_KEY(scan, name) && md_event_quick_##what(scan, __VA_ARGS__))

/* One that may be missing. False: it is there, with a value of another form. */
#define MD_EVENT_MAYBE(scan, name, what, ...)                                                      \
    (!MD_EVENT_KEY(scan, name) || md_event_quick_##what(scan, __VA_ARGS__))

/* One that may be missing, and that nobody asks for. */
#define MD_EVENT_MAY_PASS(scan, name, what)                                                        \
    (!MD_EVENT_KEY(scan, name) || md_event_pass_##what(scan))

/* size: in [5, 8], so with the shortest value and the ends of event and frame 8 bytes are there. */
MD_QUICK bool md_event_quick_key(struct md_quick *scan, const char *key, size_t size) {
    uint64_t wanted = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++) { /* a constant; copied, it would be one in memory */
        wanted = wanted >> 8 | (uint64_t)(i + size < 8 ? 0 : key[i + size - 8]) << 56;
    }
    if (scan->end - scan->at < 8 || md_quick_load8(scan->at) << (64 - 8 * size) != wanted) {
        return false;
    }
    scan->at += size;
    return true;
}

/* ---- values -----------------------------------------------------------------------------------
 */

/* What md_event_quick_fixed leaves: 8 digits and more, or the frame's last bytes. Returns the place
 * behind; NULL: it is no such number. */
static __attribute__((noinline)) const char *
md_event_long_fixed(const char *at, const char *end, unsigned scale, int64_t *out) {
    struct md_quick scan = {at, end};
    unsigned decimals;
    return md_quick_decimal(&scan, scale, out, &decimals) ? scan.at : NULL;
}

/* A price or size. Up to 7 digits with a point anywhere among them, which is nearly all, are put
 * together in one word, with no branch on where the point is. */
MD_QUICK bool md_event_quick_fixed(struct md_quick *scan, unsigned scale, int64_t *out) {
    const char *at = scan->at;
    uint64_t digits = scan->end - at < 8 ? 0 : md_minus_zeros(md_quick_load8(at));
    uint64_t stops = md_no_digits(digits), behind = stops & (stops - 1);
    if (__builtin_expect(behind == 0, 0)) {
        scan->at = md_event_long_fixed(at, scan->end, scale, out);
        return scan->at != NULL;
    }
    unsigned point = md_digit_bits(stops);
    bool has_point = (digits >> point & 0xFF) == ('.' ^ '0'); /* no carry, so `behind` is exact */
    unsigned size = has_point ? md_digit_bits(behind) : point;
    unsigned bits = has_point ? size - 8 : size;
    uint64_t whole = (UINT64_C(1) << point) - 1;
    digits = (digits & whole) | ((has_point ? digits >> 8 : digits) & ~whole);
    unsigned decimals = (bits - point) / 8;
    if ((point - 8) >= 64 || (has_point && decimals == 0) || decimals > scale ||
        (*at == '0' && point > 8)) {
        return false;
    }
    scan->at = at + size / 8;
    return !__builtin_mul_overflow(
        (int64_t)md_digits_value(digits << (64 - bits)), (int64_t)md_pow10[scale - decimals], out);
}

/* The same as text. */
MD_QUICK bool md_event_quick_fixed_text(struct md_quick *scan, unsigned scale, int64_t *out) {
    return MD_TAKE(scan, "\"") && md_event_quick_fixed(scan, scale, out) && MD_TAKE(scan, "\"");
}

MD_QUICK bool md_event_quick_integer(struct md_quick *scan, int64_t *out) {
    uint64_t value;
    bool ok = md_quick_uint(scan, &value);
    *out = ok ? (int64_t)value : 0;
    return ok;
}

/* Milliseconds since the epoch, which have 13 digits until 2286: what comes behind them does not
 * wait for their end to be found. */
MD_QUICK bool md_event_quick_ms(struct md_quick *scan, int64_t *out) {
    if (scan->end - scan->at < 13) {
        return false;
    }
    uint64_t high = md_minus_zeros(md_quick_load8(scan->at));
    uint64_t low = md_minus_zeros(md_quick_load8(scan->at + 5));
    if ((md_no_digits(high) | md_no_digits(low)) != 0 || (high & 0xFF) == 0) {
        return false;
    }
    uint64_t values = md_digits_values(high << 24, low); /* the first 5 and the last 8 */
    *out = (int64_t)((uint32_t)values * UINT64_C(100000000) + (values >> 32));
    scan->at += 13;
    return true;
}

MD_QUICK bool md_event_pass_ms(struct md_quick *scan) {
    return md_event_quick_ms(scan, &(int64_t){0});
}

MD_QUICK bool md_event_quick_integer_text(struct md_quick *scan, int64_t *out) {
    return MD_TAKE(scan, "\"") && md_event_quick_integer(scan, out) && MD_TAKE(scan, "\"");
}

static __attribute__((noinline)) const char *md_event_long_number(const char *at, const char *end) {
    struct md_quick scan = {at, end};
    return md_quick_skip_number(&scan) ? scan.at : NULL;
}

/* A number that nobody asks for; mostly of few digits. */
MD_QUICK bool md_event_pass_number(struct md_quick *scan) {
    const char *at = scan->at;
    uint64_t digits = scan->end - at < 8 ? 0 : md_minus_zeros(md_quick_load8(at));
    uint64_t stops = md_no_digits(digits);
    unsigned bits = stops == 0 ? 0 : md_digit_bits(stops);
    if (bits == 0 || *at == '0' || at[bits / 8] == '.') {
        scan->at = md_event_long_number(at, scan->end);
        return scan->at != NULL;
    }
    scan->at = at + bits / 8;
    return true;
}

/* Take "X", a string of one plain letter. */
MD_QUICK bool md_event_quick_letter(struct md_quick *scan, unsigned *letter) {
    uint32_t word;
    if (scan->end - scan->at < 4) {
        return false;
    }
    memcpy(&word, scan->at, 4);
    *letter = word >> 8 & 0xFF;
    scan->at += 3;
    return (word & 0xFF00FF) == ('"' | '"' << 16) && *letter - ' ' < 0x7F - ' ' && *letter != '"' &&
           *letter != '\\';
}

MD_QUICK bool md_event_pass_letter(struct md_quick *scan) {
    return md_event_quick_letter(scan, &(unsigned){0});
}

MD_QUICK bool md_event_quick_time(struct md_quick *scan, int64_t *ns) {
    return MD_TIME(scan, "\"", ns) && MD_TAKE(scan, "\"");
}

/* A trade's condition codes, each read by `code`; not none. */
MD_QUICK bool md_event_quick_codes(struct md_quick *scan,
                                   bool (*code)(struct md_quick *scan, uint64_t *out),
                                   unsigned code_bits,
                                   unsigned codes_max,
                                   int64_t *out) {
    uint64_t packed = 0, one;
    if (!MD_TAKE(scan, "[")) {
        return false;
    }
    for (unsigned count = 0; count < codes_max; count++) {
        if (!code(scan, &one)) {
            return false;
        }
        packed |= one << code_bits * count;
        if (!MD_TAKE(scan, ",")) {
            *out = (int64_t)packed;
            return MD_TAKE(scan, "]");
        }
    }
    return false;
}

/* ---- events -----------------------------------------------------------------------------------
 */

/* Begin with an event of a frame; false: too near to the frame's end. */
MD_QUICK bool md_event_quick_begin(const struct md_json *json, struct md_quick *scan) {
    *scan = (struct md_quick){json->at, json->end};
    return json->end - json->at >= (ptrdiff_t)MD_QUICK_SIZE_MIN;
}

/* Begin anew, as an event of another kind. Returns true. */
MD_QUICK bool md_event_quick_again(const struct md_json *json, struct md_quick *scan) {
    scan->at = json->at;
    return true;
}

/* The event is taken. Returns true. */
MD_QUICK bool md_event_quick_end(const struct md_quick *scan, struct md_json *json) {
    json->at = scan->at;
    return true;
}

/* Step over a name and its quote; false: unknown, or not plain. */
MD_QUICK bool md_event_quick_symbol(const struct md_event_context *context,
                                    struct md_quick *scan,
                                    enum md_event_kind kind,
                                    struct md_event *event) {
    event->symbol = md_quick_symbol(scan, context->feed);
    event->kind = kind;
    event->flags = 0;
    event->unfit = 0;
    event->sequence = MD_ABSENT;
    event->conditions = MD_ABSENT;
    return event->symbol != NULL && MD_TAKE(scan, "\"");
}

#endif
