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

/* Part of every x86-64. MD_DECIMAL_PORTABLE: for the tests, what other processors get. */
#if defined(__SSE2__) && !defined(MD_DECIMAL_PORTABLE)
#define MD_DECIMAL_SSE2
#include <emmintrin.h>
#endif

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
MD_DECIMAL_INLINE uint64_t
md_load8(const char *at, const char *last8) { /* end - 8, within the buffer; NULL: all are there */
    uint64_t word;
    if (last8 == NULL || __builtin_expect(at <= last8, 1)) {
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

/* How many bits hold the digits that a word begins with. */
MD_DECIMAL_INLINE unsigned md_digit_bits(uint64_t no_digits) { /* md_no_digits of it, not 0 */
    return (unsigned)__builtin_ctzll(no_digits) & ~7U;
}

/* Value of eight digits, by adding neighbours in pairs. */
MD_DECIMAL_INLINE uint64_t md_digits_value(uint64_t digits) {
    digits = (digits * 10 + (digits >> 8)) & UINT64_C(0x00FF00FF00FF00FF);
    digits = (digits * 100 + (digits >> 16)) & UINT64_C(0x0000FFFF0000FFFF);
    return (digits * 10000 + (digits >> 32)) & UINT64_C(0x00000000FFFFFFFF);
}

/* Values of two words of eight digits, the first one's in the low half. */
MD_DECIMAL_INLINE uint64_t md_digits_values(uint64_t first, uint64_t second) {
#ifdef MD_DECIMAL_SSE2 /* both for the price of one */
    __m128i digits = _mm_set_epi64x((long long)second, (long long)first);
    __m128i twos = _mm_srli_epi16(_mm_mullo_epi16(digits, _mm_set1_epi16(10 << 8 | 1)), 8);
    __m128i fours = _mm_madd_epi16(twos, _mm_set1_epi32(1 << 16 | 100));
    __m128i eights = _mm_madd_epi16(_mm_packs_epi32(fours, fours), _mm_set1_epi32(1 << 16 | 10000));
    return (uint64_t)_mm_cvtsi128_si64(eights);
#else
    return md_digits_value(second) << 32 | md_digits_value(first);
#endif
}

/* Value of the digits that eight characters begin with; *count of them, in [0, 8]. */
MD_DECIMAL_INLINE uint64_t md_digits8(uint64_t text, unsigned *count) {
    uint64_t digits = md_minus_zeros(text);
    uint64_t other = md_no_digits(digits);
    *count = 8;
    if (other != 0) {
        unsigned bits = md_digit_bits(other);
        *count = bits / 8;
        if (bits == 0) {
            return 0;
        }
        digits <<= 64 - bits; /* right-align: zeros in front */
    }
    return md_digits_value(digits);
}

/* Read "digits[.digits]" up to its closing quote: at most 16 digits before the point and 8 after
 * it, which is more than venues send. Returns the place of the quote; NULL when the text is
 * anything else, too large or not exact: then md_decimal_parse decides. */
static inline const char *md_decimal_scan(const char *at,
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

/* Whether a character is there and is the one wanted. last8: as in md_load8. */
MD_DECIMAL_INLINE bool md_char_is(const char *at, const char *last8, char wanted) {
    return (last8 == NULL || at - last8 < 8) && __builtin_expect(*at == wanted, 1);
}

/* What md_decimal_scan_known may read from `at` on. */
#define MD_DECIMAL_ROOM 17

/* md_decimal_scan for who can guess the count of decimals, 0: no point. What is read next then
 * waits for the point alone to be found, not for the end, too: a frame with four numbers is a third
 * quicker. NULL also for another count, and for 8 digits or more before the point. */
MD_DECIMAL_INLINE const char *
md_decimal_scan_known(const char *at,
                      const char *last8, /* as in md_load8; NULL: MD_DECIMAL_ROOM bytes are there */
                      unsigned scale,
                      unsigned decimals, /* in [0, 8] */
                      int64_t *out) {
    uint64_t whole = md_minus_zeros(md_load8(at, last8));
    uint64_t no_digits = md_no_digits(whole);
    if (no_digits == 0 || decimals > scale) {
        return NULL;
    }
    unsigned bits = md_digit_bits(no_digits);
    if (bits == 0) {
        return NULL;
    }
    at += bits / 8;
    uint64_t fraction = 0;
    if (decimals != 0) {
        fraction = md_minus_zeros(md_load8(at + 1, last8)) << (64 - 8 * decimals);
        if (!md_char_is(at, last8, '.') || md_no_digits(fraction) != 0) {
            return NULL;
        }
        at += 1 + decimals;
    }
    uint64_t values = md_digits_values(whole << (-bits & 63), fraction);
    uint64_t units = (uint32_t)values * md_pow10[decimals] + (values >> 32); /* < 10^15 */
    if (!md_char_is(at, last8, '"') ||
        __builtin_mul_overflow((int64_t)units, (int64_t)md_pow10[scale - decimals], out)) {
        return NULL;
    }
    return at;
}

#endif
