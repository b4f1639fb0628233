/* The words of the quick scanners: literals, names, numbers and times where they are expected.
 *
 * A quick scanner knows the very key order in which a venue writes a message, so it only compares,
 * reads and publishes. It takes a frame whole or gives it up with nothing published, and then the
 * venue's flat scanner decides: what is rare (refusals, escapes, odd numbers, other orders) is left
 * to that one, and what is taken here it takes alike. So each of these may refuse what is right,
 * and never takes what is not.
 *
 * Private to the decoders. No byte beside the frame is read: what needs bytes ahead says how many,
 * and who calls has looked (MD_QUICK_ROOM); and a frame has MD_QUICK_SIZE_MIN. */
#ifndef MDSYS_QUICK_SCAN_H
#define MDSYS_QUICK_SCAN_H

#include "feed.h"
#include "mdsys/decimal.h"
#include "rfc3339.h"

/* All of a scanner in one function: literals and offsets are decided by the compiler. */
#define MD_QUICK static inline __attribute__((always_inline))

struct md_quick {
    const char *at;
    const char *end;
};

#define MD_QUICK_SIZE_MIN 64u /* nothing of ours is shorter */

/* Bytes that must be there from `at` on before one of two words, and before a time, is read. */
#define MD_QUICK_ROOM 16
#define MD_QUICK_TIME_ROOM 22

MD_QUICK bool md_quick_room(const struct md_quick *scan) {
    return scan->end - scan->at >= MD_QUICK_ROOM;
}

MD_QUICK uint64_t md_quick_load8(const char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* ---- literals ------------------------------------------------------------------------------- */

/* Whether the bytes at `at` are the literal's; by words that overlap, since compilers call memcmp
 * for most sizes, and without a branch between them: they nearly always are. */
MD_QUICK bool md_quick_same(const char *at, const char *literal, size_t size) {
    size_t i = 0;
#ifdef MD_DECIMAL_SSE2
    if (size >= 16) {
        __m128i same = _mm_set1_epi8(-1);
#pragma GCC unroll 8
        for (; i < size; i += 16) {
            size_t from = i + 16 <= size ? i : size - 16;
            __m128i have = _mm_loadu_si128((const __m128i *)(const void *)(at + from));
            __m128i want = _mm_loadu_si128((const __m128i *)(const void *)(literal + from));
            same = _mm_and_si128(same, _mm_cmpeq_epi8(have, want));
        }
        return _mm_movemask_epi8(same) == 0xFFFF;
    }
#endif
    uint64_t other = 0;
#pragma GCC unroll 16
    for (; size >= 8 && i < size; i += 8) {
        size_t from = i + 8 <= size ? i : size - 8;
        other |= md_quick_load8(at + from) ^ md_quick_load8(literal + from);
    }
#pragma GCC unroll 2
    for (; size >= 4 && i < size; i += 4) {
        size_t from = i + 4 <= size ? i : size - 4;
        uint32_t have, want;
        memcpy(&have, at + from, 4);
        memcpy(&want, literal + from, 4);
        other |= have ^ want;
    }
#pragma GCC unroll 4
    for (; i < size; i++) {
        other |= (uint64_t)(at[i] ^ literal[i]);
    }
    return other == 0;
}

MD_QUICK bool md_quick_take(struct md_quick *scan, const char *literal, size_t size) {
    if (scan->end - scan->at < (ptrdiff_t)size || !md_quick_same(scan->at, literal, size)) {
        return false;
    }
    scan->at += size;
    return true;
}

/* Step over a literal. */
#define MD_TAKE(scan, literal) md_quick_take(scan, literal, sizeof(literal) - 1)

/* Step over the literal that a frame ends with. */
#define MD_END(scan, literal) (MD_TAKE(scan, literal) && (scan)->at == (scan)->end)

/* Step over one of two words that are about as likely, without a branch on which it is. With what
 * follows them both are of 8 to 16 bytes; MD_QUICK_ROOM. Returns whether it is one of them. */
MD_QUICK bool md_quick_either(struct md_quick *scan,
                              const char *yes,
                              size_t yes_size,
                              const char *no,
                              size_t no_size,
                              bool *is_yes) {
    *is_yes = *scan->at == *yes;
    size_t size = *is_yes ? yes_size : no_size;
    uint64_t first = *is_yes ? md_quick_load8(yes) : md_quick_load8(no);
    uint64_t last = *is_yes ? md_quick_load8(yes + yes_size - 8) : md_quick_load8(no + no_size - 8);
    uint64_t other =
        (md_quick_load8(scan->at) ^ first) | (md_quick_load8(scan->at + size - 8) ^ last);
    scan->at += size;
    return other == 0;
}

#define MD_EITHER(scan, yes, no, is_yes)                                                           \
    md_quick_either(scan, yes, sizeof(yes) - 1, no, sizeof(no) - 1, is_yes)

/* ---- strings -------------------------------------------------------------------------------- */

/* Bit i: the i-th of 16 bytes ends a string or needs a closer look: quote, escape, controls, what
 * is beyond ASCII. */
MD_QUICK unsigned md_quick_stops(const char *at) {
#ifdef MD_DECIMAL_SSE2
    __m128i text = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i control = _mm_cmplt_epi8(text, _mm_set1_epi8(' '));
    __m128i quote = _mm_cmpeq_epi8(text, _mm_set1_epi8('"'));
    __m128i escape = _mm_cmpeq_epi8(text, _mm_set1_epi8('\\'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(control, quote), escape));
#else
    unsigned bits = 0;
    for (unsigned i = 0; i < 16; i++) {
        signed char c = (signed char)at[i]; /* negative: beyond ASCII */
        bits |= (unsigned)(c < ' ' || c == '"' || c == '\\') << i;
    }
    return bits;
#endif
}

/* Step to the quote that ends a string. */
MD_QUICK bool md_quick_text(struct md_quick *scan) {
    for (; scan->end - scan->at >= 16; scan->at += 16) {
        unsigned stops = md_quick_stops(scan->at);
        if (__builtin_expect(stops != 0, 1)) {
            scan->at += __builtin_ctz(stops);
            return *scan->at == '"';
        }
    }
    /* The frame's last 16 bytes, without those that are behind us. */
    unsigned stops = md_quick_stops(scan->end - 16) >> (16 - (scan->end - scan->at));
    if (stops == 0) {
        return false;
    }
    scan->at += __builtin_ctz(stops);
    return *scan->at == '"';
}

/* The symbol of a name that has at least 16 bytes from its first on; NULL: there is none. */
MD_QUICK struct md_feed_symbol *
md_quick_find(const struct md_feed *feed, const char *name, size_t size) {
    static const uint64_t keep[4] = {UINT64_MAX, UINT64_MAX, 0, 0};
    if (__builtin_expect(size - 1 >= MD_SHORT_NAME_SIZE_MAX, 0)) {
        return md_feed_find_symbol(feed, name, size);
    }
    struct md_short_name found, mask;
    memcpy(&found, name, sizeof found);
    memcpy(&mask, (const char *)keep + sizeof mask - size, sizeof mask);
    found.low &= mask.low;
    found.high &= mask.high;
    return md_feed_find_short(feed, found, size);
}

/* Step to the quote that ends a name, and find its symbol; NULL: unknown, or not plain. */
MD_QUICK struct md_feed_symbol *md_quick_symbol(struct md_quick *scan, const struct md_feed *feed) {
    const char *first = scan->at;
    if (scan->end - first < 16 || !md_quick_text(scan)) {
        return NULL;
    }
    return md_quick_find(feed, first, (size_t)(scan->at - first));
}

/* Step over a string behind a literal, up to its closing quote. */
#define MD_SKIP_TEXT(scan, literal) (MD_TAKE(scan, literal) && md_quick_text(scan))

/* ---- numbers -------------------------------------------------------------------------------- */

/* Bit i: the i-th of 16 bytes is no digit. */
MD_QUICK unsigned md_quick_no_digits(const char *at) {
#ifdef MD_DECIMAL_SSE2
    __m128i text = _mm_loadu_si128((const __m128i *)(const void *)at);
    /* '0' to '9' become the ten greatest signed bytes. */
    __m128i lifted = _mm_add_epi8(text, _mm_set1_epi8(0x7F - '9'));
    __m128i digits = _mm_cmpgt_epi8(lifted, _mm_set1_epi8(0x7F - 10));
    return ~(unsigned)_mm_movemask_epi8(digits) & 0xFFFF;
#else
    unsigned bits = 0;
    for (unsigned i = 0; i < 16; i++) {
        bits |= (unsigned)!md_is_digit(at[i]) << i;
    }
    return bits;
#endif
}

/* The first `count` of eight characters as digits, right-aligned. count: in [1, 8]. */
MD_QUICK uint64_t md_quick_digits(const char *at, unsigned count) {
    return md_minus_zeros(md_quick_load8(at)) << (64 - 8 * count);
}

#define MD_QUICK_WINDOW 24 /* bytes that a number is read from */

/* Where the next MD_QUICK_WINDOW bytes can be read; those beyond the frame's end are 0. */
MD_QUICK const char *md_quick_window(const struct md_quick *scan,
                                     char buffer[2 * MD_QUICK_WINDOW]) {
    ptrdiff_t left = scan->end - scan->at;
    if (__builtin_expect(left >= MD_QUICK_WINDOW, 1)) {
        return scan->at;
    }
    memcpy(buffer, scan->end - MD_QUICK_WINDOW, MD_QUICK_WINDOW);
    memset(buffer + MD_QUICK_WINDOW, 0, MD_QUICK_WINDOW);
    return buffer + MD_QUICK_WINDOW - left;
}

/* How a number is laid out in at most 16 characters. */
struct md_quick_shape {
    unsigned whole;    /* digits before the point; 0: this is no such number */
    unsigned decimals; /* and behind it; 0: there is no point */
    unsigned size;
};

/* JSON's digits or digits.digits: no sign, no exponent. What comes behind it is not looked at, but
 * for that it is no digit unless the number fills the 16: the literal that must follow sees to it.
 */
MD_QUICK struct md_quick_shape md_quick_number_shape(const char *at) {
    unsigned no_digits = md_quick_no_digits(at) | 1u << 16;
    unsigned whole = (unsigned)__builtin_ctz(no_digits);
    struct md_quick_shape shape = {whole, 0, whole};
    if (*at == '0' && whole > 1) {
        shape.whole = 0;
    } else if (whole < 16 && at[whole] == '.') {
        shape.size = (unsigned)__builtin_ctz(no_digits & (no_digits - 1));
        shape.decimals = shape.size - whole - 1;
        shape.whole = shape.decimals == 0 ? 0 : whole;
    }
    return shape;
}

/* A number of at most 8 digits before and behind the point, x 10^decimals: below 10^16. */
MD_QUICK uint64_t md_quick_units(const char *at, struct md_quick_shape shape) {
    if (shape.decimals == 0) {
        return md_digits_value(md_quick_digits(at, shape.whole));
    }
    uint64_t values = md_digits_values(md_quick_digits(at, shape.whole),
                                       md_quick_digits(at + shape.whole + 1, shape.decimals));
    return (uint32_t)values * md_pow10[shape.decimals] + (values >> 32);
}

/* Read a price or size that has at most 8 digits before and behind the point. */
MD_QUICK bool md_quick_decimal(struct md_quick *scan,
                               unsigned scale, /* in [0, 18] */
                               int64_t *out,
                               unsigned *decimals) {
    char buffer[2 * MD_QUICK_WINDOW];
    const char *at = md_quick_window(scan, buffer);
    struct md_quick_shape shape = md_quick_number_shape(at);
    if (__builtin_expect(shape.whole - 1 >= 8 || shape.decimals > 8 || shape.decimals > scale, 0)) {
        return false;
    }
    uint64_t units = md_quick_units(at, shape);
    *decimals = shape.decimals;
    scan->at += shape.size;
    return !__builtin_mul_overflow((int64_t)units, (int64_t)md_pow10[scale - shape.decimals], out);
}

/* Read a number behind a literal. */
#define MD_DECIMAL(scan, literal, scale, out, decimals)                                            \
    (MD_TAKE(scan, literal) && md_quick_decimal(scan, scale, out, decimals))

/* Step over a number, with a sign or without. */
MD_QUICK bool md_quick_skip_number(struct md_quick *scan) {
    char buffer[2 * MD_QUICK_WINDOW];
    scan->at += scan->at < scan->end && *scan->at == '-';
    struct md_quick_shape shape = md_quick_number_shape(md_quick_window(scan, buffer));
    scan->at += shape.size;
    return shape.whole != 0;
}

#define MD_SKIP_NUMBER(scan, literal) (MD_TAKE(scan, literal) && md_quick_skip_number(scan))

/* Read an integer of up to 15 digits without a sign. */
MD_QUICK bool md_quick_uint(struct md_quick *scan, uint64_t *out) {
    char buffer[2 * MD_QUICK_WINDOW];
    const char *at = md_quick_window(scan, buffer);
    unsigned count = (unsigned)__builtin_ctz(md_quick_no_digits(at) | 1u << 16);
    if (count - 1 >= 15 || (*at == '0' && count > 1)) {
        return false;
    }
    scan->at += count;
    if (count <= 8) {
        *out = md_digits_value(md_quick_digits(at, count));
        return true;
    }
    uint64_t values = md_digits_values(md_quick_digits(at, count - 8),
                                       md_minus_zeros(md_quick_load8(at + count - 8)));
    *out = (uint32_t)values * UINT64_C(100000000) + (values >> 32);
    return true;
}

#define MD_UINT(scan, literal, out) (MD_TAKE(scan, literal) && md_quick_uint(scan, out))

/* ---- times ---------------------------------------------------------------------------------- */

/* Read "2026-10-06T18:06:02.264627Z", UTC, of 2000 to 2099, with 1 to 9 digits of a fraction; the
 * quote behind it is left. What is not in this form, leap seconds too, is md_time_rfc3339's.
 * MD_QUICK_TIME_ROOM. */
MD_QUICK bool md_quick_time(struct md_quick *scan, int64_t *ns) {
    static const uint16_t days_before[16] = {
        0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    static const uint8_t days_in[16] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const char *at = scan->at;
    uint64_t date, hour, clock;
    if (!md_rfc3339_form(at, "0000-00-", &date) || !md_rfc3339_form(at + 8, "00T00:00", &hour) ||
        !md_rfc3339_form(at + 13, ":00:00.0", &clock)) {
        return false;
    }
    /* Byte i: the two digits that begin there. What is no digit is 0, so nothing is carried. */
    date = date * 10 + (date >> 8);
    hour = hour * 10 + (hour >> 8);
    clock = clock * 10 + (clock >> 8);
    unsigned year = date >> 16 & 0xFF, month = date >> 40 & 0xFF, day = hour & 0xFF;
    unsigned h = hour >> 24 & 0xFF, m = clock >> 8 & 0xFF, s = clock >> 32 & 0xFF;
    unsigned leap = (year & 3) == 0;
    if ((date & 0xFF) != 20 || month - 1 >= 12 || h > 23 || m > 59 || s > 59 ||
        day - 1 >= days_in[month & 15] + (month == 2 ? leap : 0)) {
        return false;
    }
    unsigned days = 10957 + 365 * year + (year + 3) / 4 + days_before[month & 15] +
                    (month > 2 ? leap : 0) + day - 1;       /* 10957: of 2000-01-01 */
    unsigned seconds = ((days * 24 + h) * 60 + m) * 60 + s; /* < 2^32 until 2106 */

    const char *fraction = at + 20;
    uint64_t digits = md_minus_zeros(md_load8(fraction, scan->end - 8));
    uint64_t no_digits = md_no_digits(digits);
    uint64_t value;
    if (no_digits != 0) {                         /* mostly six digits */
        unsigned bits = md_digit_bits(no_digits); /* not 0: there is one digit */
        value = md_digits_value(digits << (64 - bits)) * md_pow10[9 - bits / 8];
        fraction += bits / 8;
    } else {
        value = md_digits_value(digits) * 10;
        fraction += 8;
        if (fraction < scan->end && md_is_digit(*fraction)) {
            value += (uint64_t)(*fraction++ - '0');
        }
    }
    *ns = (int64_t)(seconds * UINT64_C(1000000000) + value);
    scan->at = fraction;
    return MD_TAKE(scan, "Z");
}

#define MD_TIME(scan, literal, ns)                                                                 \
    (MD_TAKE(scan, literal) && (scan)->end - (scan)->at >= MD_QUICK_TIME_ROOM &&                   \
     md_quick_time(scan, ns))

#endif
