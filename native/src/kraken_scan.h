/* What both Kraken decoders read with: JSON strings by meaning, numbers by their text. */
#ifndef MDSYS_KRAKEN_SCAN_H
#define MDSYS_KRAKEN_SCAN_H

#include "feed.h"
#include "json_scan.h"
#include "mdsys/decimal.h"

/* Where a frame came from and where its records go. */
struct kraken_context {
    struct md_feed *feed;
    struct md_connection *connection;
    int64_t ts_recv;
    const char *last8; /* the frame's last eight bytes, as in md_load8 */
};

#define KRAKEN_TEXT_SIZE_MAX 64u /* far beyond any word and any symbol that we compare with */

struct kraken_text {
    const char *at;
    size_t size;
    char buffer[KRAKEN_TEXT_SIZE_MAX];
};

/* A string's meaning; false when it is longer than KRAKEN_TEXT_SIZE_MAX, and so none of ours. */
static bool kraken_text_of(const struct md_json_value *string, struct kraken_text *out) {
    out->at = string->text;
    out->size = string->size;
    if (string->escaped) {
        out->at = out->buffer;
        out->size = md_json_unescape(string, out->buffer, KRAKEN_TEXT_SIZE_MAX);
    }
    return out->size <= KRAKEN_TEXT_SIZE_MAX;
}

static bool kraken_text_is(const struct md_json_value *string, const char *word) {
    struct kraken_text text;
    return kraken_text_of(string, &text) && text.size == strlen(word) &&
           memcmp(text.at, word, text.size) == 0;
}

static struct md_feed_symbol *kraken_symbol(const struct md_feed *feed,
                                            const struct md_json_value *name) {
    struct kraken_text text;
    return kraken_text_of(name, &text) ? md_feed_find_symbol(feed, text.at, text.size) : NULL;
}

/* An integer in [least, most] without sign, point and leading zeros. most: below 2^63. */
static bool
kraken_uint(const char *text, size_t size, uint64_t least, uint64_t most, uint64_t *out) {
    if (size == 0 || size > 19 || (size > 1 && *text == '0')) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < size; i++) {
        if (!md_is_digit(text[i])) {
            return false;
        }
        *out = *out * 10 + (uint64_t)(text[i] - '0'); /* < 10^19, which fits */
    }
    return *out >= least && *out <= most;
}

/* How many decimals a number's text shows, in [0, MD_DECIMAL_SCALE_MAX]. The text is a number. */
static unsigned kraken_decimals(const struct md_json_value *number) {
    const char *at = number->text, *end = at + number->size;
    int64_t decimals = 0, exponent = 0;
    while (at < end && md_is_digit(*at)) {
        at++;
    }
    if (at < end && *at == '.') {
        for (at++; at < end && md_is_digit(*at); at++) {
            decimals++;
        }
    }
    if (at < end) {
        at++; /* e */
        bool down = *at == '-';
        at += down || *at == '+';
        for (; at < end; at++) {
            exponent = exponent < 1000000000 ? exponent * 10 + (*at - '0') : exponent;
        }
        decimals += down ? exponent : -exponent;
    }
    int64_t most = MD_DECIMAL_SCALE_MAX;
    return (unsigned)(decimals < 0 ? 0 : decimals < most ? decimals : most);
}

/* A number's value, and how many decimals it shows: the checksum is made of the text, zeros at its
 * end and all. The text is a number without a sign, of a frame of at least eight bytes. False: the
 * value does not fit. */
static inline bool kraken_fixed_shown(const struct kraken_context *context,
                                      const struct md_json_value *number,
                                      unsigned scale,
                                      int64_t *out,
                                      unsigned *decimals) {
    const char *at = number->text, *end = at + number->size, *last8 = context->last8;
    unsigned count;
    uint64_t whole = md_digits8(md_load8(at, last8), &count);
    at += count;
    if (count < 8 && at == end) {
        *decimals = 0;
        return !__builtin_mul_overflow((int64_t)whole, (int64_t)md_pow10[scale], out);
    }
    if (count < 8 && *at == '.') { /* nearly all; the rest is for md_decimal_parse */
        uint64_t fraction = md_digits8(md_load8(++at, last8), &count);
        int64_t units;
        if (at + count == end && count <= scale &&
            !__builtin_mul_overflow((int64_t)whole, (int64_t)md_pow10[scale], &units)) {
            *decimals = count;
            return !__builtin_add_overflow(
                units, (int64_t)(fraction * md_pow10[scale - count]), out);
        }
    }
    *decimals = kraken_decimals(number);
    return md_decimal_parse(number->text, number->size, scale, out) == MD_DECIMAL_OK;
}

static inline bool kraken_fixed(const struct kraken_context *context,
                                const struct md_json_value *number,
                                unsigned scale,
                                int64_t *out) {
    unsigned decimals;
    return kraken_fixed_shown(context, number, scale, out, &decimals);
}

#endif
