/* Decimal text <-> fixed point, exact or refused: value = integer x 10^-scale.
 *
 * The text grammar, the same in mdsys/record/fixed.py:
 *
 *     [+-] ( digits [ "." [digits] ]  |  "." digits ) [ (e|E) [+-] digits ]
 *
 * It is a superset of the JSON number: "+1", "1.", ".5" and "007" have one exact meaning, so they
 * are taken; blanks, underscores, "NaN" and "Infinity" are not. Any count of digits is fine as
 * long as the value fits: zeros that change nothing cost nothing, a digit that would have to be
 * rounded away is MD_DECIMAL_INEXACT. INT64_MIN is never a result; it stands for "absent".
 *
 * Nothing here reads past the text it was given. */
#ifndef MDSYS_DECIMAL_H
#define MDSYS_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "md_digits8 takes the first character from the lowest byte"
#endif

#define MD_DECIMAL_SCALE_MAX 18U
#define MD_DECIMAL_TEXT_SIZE 32U /* of md_decimal_format: sign, 19 digits, point, zero, NUL */

enum md_decimal_result { /* append-only */
                         MD_DECIMAL_OK = 0,
                         MD_DECIMAL_SYNTAX = 1,
                         MD_DECIMAL_INEXACT =
                             2, /* a digit other than 0 beyond 10^-scale; wins over OVERFLOW */
                         MD_DECIMAL_OVERFLOW = 3, /* beyond +-(2^63 - 1) x 10^-scale */
};

static const uint64_t md_pow10[20] = {
    UINT64_C(1),
    UINT64_C(10),
    UINT64_C(100),
    UINT64_C(1000),
    UINT64_C(10000),
    UINT64_C(100000),
    UINT64_C(1000000),
    UINT64_C(10000000),
    UINT64_C(100000000),
    UINT64_C(1000000000),
    UINT64_C(10000000000),
    UINT64_C(100000000000),
    UINT64_C(1000000000000),
    UINT64_C(10000000000000),
    UINT64_C(100000000000000),
    UINT64_C(1000000000000000),
    UINT64_C(10000000000000000),
    UINT64_C(100000000000000000),
    UINT64_C(1000000000000000000),
    UINT64_C(10000000000000000000),
};

static inline bool md_is_digit(char c) {
    return (unsigned char)(c - '0') < 10U;
}

/* The digits so far, without the zeros after the last other digit: those only move the point. */
struct md_decimal_digits {
    uint64_t mantissa;
    size_t zero_count;      /* zeros seen since the last other digit */
    int64_t fraction_count; /* fraction digits up to and with the last digit that is not 0 */
    bool too_long;          /* mantissa would not fit: no scale in range can hold the value */
};

static inline void md_decimal_push(struct md_decimal_digits *digits, unsigned digit) {
    if (digit == 0) {
        digits->zero_count += digits->mantissa != 0;
        return;
    }
    if (digits->zero_count > 18 ||
        __builtin_mul_overflow(
            digits->mantissa, md_pow10[digits->zero_count + 1], &digits->mantissa) ||
        __builtin_add_overflow(digits->mantissa, digit, &digits->mantissa)) {
        digits->too_long = true;
        digits->mantissa = 1; /* anything but 0, so that zeros are still counted */
    }
    digits->zero_count = 0;
}

/* The general way: any text of the grammar above. size in [0, 2^40]; scale in [0, 18]; *out is
 * written on MD_DECIMAL_OK only. */
static inline enum md_decimal_result
md_decimal_parse(const char *text, size_t size, unsigned scale, int64_t *out) {
    const char *at = text;
    const char *end = text + size;
    bool negative = false;
    if (at < end && (*at == '-' || *at == '+')) {
        negative = *at == '-';
        at++;
    }
    struct md_decimal_digits digits = {0, 0, 0, false};
    const char *first = at;
    for (; at < end && md_is_digit(*at); at++) {
        md_decimal_push(&digits, (unsigned)(*at - '0'));
    }
    ptrdiff_t digit_count = at - first;
    int64_t exponent = (int64_t)digits.zero_count; /* of the last digit that is not 0 */
    if (at < end && *at == '.') {
        first = ++at;
        for (; at < end && md_is_digit(*at); at++) {
            md_decimal_push(&digits, (unsigned)(*at - '0'));
            if (*at != '0') {
                exponent = -(int64_t)(at - first + 1);
            }
        }
        digit_count += at - first;
    }
    if (digit_count == 0) {
        return MD_DECIMAL_SYNTAX;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        bool down = false;
        if (at < end && (*at == '-' || *at == '+')) {
            down = *at == '-';
            at++;
        }
        if (at == end || !md_is_digit(*at)) {
            return MD_DECIMAL_SYNTAX;
        }
        int64_t written = 0;
        for (; at < end && md_is_digit(*at); at++) {
            if (written < INT64_C(1000000000000000)) { /* beyond: as good as infinite, no wrap */
                written = written * 10 + (*at - '0');
            }
        }
        exponent += down ? -written : written;
    }
    if (at != end) {
        return MD_DECIMAL_SYNTAX;
    }
    if (digits.mantissa == 0) {
        *out = 0;
        return MD_DECIMAL_OK;
    }
    exponent += (int64_t)scale;
    if (exponent < 0) {
        return MD_DECIMAL_INEXACT;
    }
    uint64_t magnitude;
    if (digits.too_long || exponent > 18 ||
        __builtin_mul_overflow(digits.mantissa, md_pow10[exponent], &magnitude) ||
        magnitude > (uint64_t)INT64_MAX) {
        return MD_DECIMAL_OVERFLOW;
    }
    *out = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    return MD_DECIMAL_OK;
}

/* The shortest plain text that gives value back at any scale: no exponent, no zeros at the end of
 * a fraction ("61540.01", "0.00212", "-3"). Returns the size without the NUL. */
static inline size_t md_decimal_format(int64_t value,  /* not INT64_MIN */
                                       unsigned scale, /* in [0, 18] */
                                       char out[MD_DECIMAL_TEXT_SIZE]) {
    uint64_t magnitude = value < 0 ? (uint64_t)0 - (uint64_t)value : (uint64_t)value;
    while (scale > 0 && magnitude % 10 == 0) {
        magnitude /= 10;
        scale--;
    }
    if (magnitude == 0) {
        scale = 0;
    }
    char reversed[MD_DECIMAL_TEXT_SIZE];
    size_t count = 0;
    for (unsigned place = 0; magnitude != 0 || place <= scale; place++) {
        if (place == scale && scale != 0) {
            reversed[count++] = '.';
        }
        reversed[count++] = (char)('0' + magnitude % 10);
        magnitude /= 10;
    }
    size_t size = 0;
    if (value < 0) {
        out[size++] = '-';
    }
    while (count > 0) {
        out[size++] = reversed[--count];
    }
    out[size] = '\0';
    return size;
}

/* At -O2 compilers leave these out of line, at a third of a frame's time. */
#define MD_DECIMAL_INLINE static inline __attribute__((always_inline))

/* The fast way, for scanners: eight bytes at a time, plain "digits[.digits]" only.
 *
 * md_load8 gives the eight bytes at `at`, the first one lowest; bytes past the end are 0. It never
 * reads there: near the end it reads the buffer's last eight bytes and shifts. */
MD_DECIMAL_INLINE uint64_t md_load8(const char *at,
                                    const char *last8) { /* end - 8, within the buffer */
    uint64_t word;
    if (__builtin_expect(at <= last8, 1)) {
        memcpy(&word, at, 8);
        return word;
    }
    size_t over = (size_t)(at - last8);
    memcpy(&word, last8, 8);
    return over < 8 ? word >> (8 * over) : 0;
}

/* In what follows a word holds eight characters minus '0', the first one lowest. */
MD_DECIMAL_INLINE uint64_t md_minus_zeros(uint64_t text) {
    return text ^ UINT64_C(0x3030303030303030);
}

/* The high bit of each byte that was no digit; 0: all were. A carry out of such a byte can only
 * spoil the bytes after it, so the lowest bit is exact. */
MD_DECIMAL_INLINE uint64_t md_no_digits(uint64_t digits) {
    return ((digits + UINT64_C(0x7676767676767676)) | digits) & UINT64_C(0x8080808080808080);
}

/* Value of eight digits, by adding neighbours in pairs. */
MD_DECIMAL_INLINE uint64_t md_digits_value(uint64_t digits) {
    digits = (digits * 10 + (digits >> 8)) & UINT64_C(0x00FF00FF00FF00FF);
    digits = (digits * 100 + (digits >> 16)) & UINT64_C(0x0000FFFF0000FFFF);
    return (digits * 10000 + (digits >> 32)) & UINT64_C(0x00000000FFFFFFFF);
}

/* Value of the digits that eight characters begin with; *count of them, in [0, 8]. */
MD_DECIMAL_INLINE uint64_t md_digits8(uint64_t text, unsigned *count) {
    uint64_t digits = md_minus_zeros(text);
    uint64_t other = md_no_digits(digits);
    *count = 8;
    if (other != 0) {
        unsigned size_bits = (unsigned)__builtin_ctzll(other) & ~7U;
        *count = size_bits / 8;
        if (size_bits == 0) {
            return 0;
        }
        digits <<= 64 - size_bits; /* right-align: zeros in front */
    }
    return md_digits_value(digits);
}

/* Read "digits[.digits]" up to its closing quote: at most 16 digits before the point and 8 after
 * it, which is more than venues send. Returns the place of the quote; NULL when the text is
 * anything else, too large or not exact: then md_decimal_parse decides. */
MD_DECIMAL_INLINE const char *md_decimal_scan(const char *at,
                                              const char *last8, /* as in md_load8 */
                                              unsigned scale,    /* in [0, 18] */
                                              int64_t *out) {
    unsigned count;
    uint64_t word = md_load8(at, last8);
    uint64_t whole = md_digits8(word, &count);
    if (__builtin_expect(count == 8, 0)) {
        word = md_load8(at += 8, last8);
        uint64_t more = md_digits8(word, &count);
        whole = whole * md_pow10[count] + more; /* < 10^16 */
        if (count == 8) {
            return NULL;
        }
    } else if (count == 0) {
        return NULL;
    }
    at += count;
    char after = (char)(word >> (8 * count));
    int64_t fraction = 0;
    if (after == '.') {
        word = md_load8(++at, last8);
        uint64_t digits = md_digits8(word, &count);
        if (count == 0 || count > scale) {
            return NULL;
        }
        if (count == 8) { /* apart, so that what follows need not wait for the count */
            at += 8;
            after = (char)md_load8(at, last8);
            fraction = (int64_t)(digits * md_pow10[scale - 8]);
        } else {
            at += count;
            after = (char)(word >> (8 * count));
            fraction = (int64_t)(digits * md_pow10[scale - count]);
        }
    }
    int64_t units;
    if (after != '"' || __builtin_mul_overflow((int64_t)whole, (int64_t)md_pow10[scale], &units) ||
        __builtin_add_overflow(units, fraction, out)) {
        return NULL;
    }
    return at;
}

#endif
