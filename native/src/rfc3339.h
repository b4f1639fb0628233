/* RFC 3339 time -> ns since the Unix epoch: "2023-09-25T07:49:36.925603Z". Private to the decoders.
 *
 * The grammar of RFC 3339 section 5.6, date-time, with 0 to 9 digits of a fraction: a tenth would
 * have to be cut. "T" and "Z" may be small letters, as the RFC allows; a blank instead of "T" may
 * not. Second 60 is taken where a leap second can be, at 23:59 UTC, and is the next day's first, as
 * POSIX counts. The same in Python: mdsys/record/rfc3339.py. */
#ifndef MDSYS_RFC3339_H
#define MDSYS_RFC3339_H

#include "mdsys/decimal.h"

#define MD_RFC3339_SIZE_MIN 20U /* without a fraction, in UTC */

/* Whether eight characters have the pattern's form; *digits: each one's value. 0 in the pattern
 * stands for any digit, T for itself in either case, another character for itself. */
MD_DECIMAL_INLINE bool md_rfc3339_form(const char *text, const char pattern[9], uint64_t *digits) {
    uint64_t word, wanted, high = 0, fold = 0;
    memcpy(&word, text, 8);
    memcpy(&wanted, pattern, 8);
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++) { /* constants: what lifts a byte that is no match to 0x80 */
        high |= (pattern[i] == '0' ? UINT64_C(0x76) : UINT64_C(0x7F)) << (8 * i);
        fold |= (pattern[i] == 'T' ? UINT64_C(0x20) : 0) << (8 * i);
    }
    *digits = (word ^ wanted) & ~fold;
    return (((*digits + high) | *digits) & UINT64_C(0x8080808080808080)) == 0;
}

/* The two digits at byte `at` of a word of them. */
MD_DECIMAL_INLINE int32_t md_rfc3339_two(uint64_t digits, unsigned at) {
    return (int32_t)((digits >> (8 * at) & 0xFF) * 10 + (digits >> (8 * at + 8) & 0xFF));
}

/* Days since the epoch of a date of the Gregorian calendar. Years are counted from March on, so
 * that a leap day is a year's last (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
 */
MD_DECIMAL_INLINE int32_t md_days_from_civil(int32_t year,  /* in [1, 9999] */
                                             int32_t month, /* in [1, 12] */
                                             int32_t day) {
    uint32_t y = (uint32_t)(month <= 2 ? year - 1 : year);
    uint32_t m = (uint32_t)(month <= 2 ? month + 9 : month - 3);
    return (int32_t)(365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5) + day - 1 - 719468;
}

MD_DECIMAL_INLINE int32_t md_days_in_month(int32_t year, int32_t month) { /* month in [1, 12] */
    if (month == 2) {
        return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
    }
    return 30 + ((month ^ month >> 3) & 1);
}

/* Read the whole text. False, and *ns as it was, for anything else, and for a time beyond
 * +-(2^63 - 1) ns: years 1677 to 2262. Nothing is read past the text. */
static inline bool md_time_rfc3339(const char *text, size_t size, int64_t *ns) {
    uint64_t date, day_hour, clock;
    if (size < MD_RFC3339_SIZE_MIN || !md_rfc3339_form(text, "0000-00-", &date) ||
        !md_rfc3339_form(text + 8, "00T00:00", &day_hour) ||
        !md_rfc3339_form(text + 11, "00:00:00", &clock)) {
        return false;
    }
    int32_t year = md_rfc3339_two(date, 0) * 100 + md_rfc3339_two(date, 2);
    int32_t month = md_rfc3339_two(date, 5), day = md_rfc3339_two(day_hour, 0);
    int32_t hour = md_rfc3339_two(clock, 0), minute = md_rfc3339_two(clock, 3);
    int32_t second = md_rfc3339_two(clock, 6);
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > md_days_in_month(year, month) ||
        hour > 23 || minute > 59 || second > 60) {
        return false;
    }

    const char *at = text + 19, *end = text + size;
    int64_t fraction = 0;
    if (*at == '.') {
        unsigned count;
        fraction = (int64_t)md_digits8(md_load8(++at, end - 8), &count);
        at += count;
        if (count == 8 && at < end && md_is_digit(*at)) {
            fraction = fraction * 10 + (*at++ - '0');
            count = 9;
        }
        if (count == 0) {
            return false;
        }
        fraction *= (int64_t)md_pow10[9 - count];
    }

    int32_t offset = 0; /* minutes ahead of UTC */
    if (end - at == 6 && (*at == '+' || *at == '-')) {
        if (!md_is_digit(at[1]) || !md_is_digit(at[2]) || at[3] != ':' || !md_is_digit(at[4]) ||
            !md_is_digit(at[5])) {
            return false;
        }
        int32_t hours = (at[1] - '0') * 10 + (at[2] - '0');
        int32_t minutes = (at[4] - '0') * 10 + (at[5] - '0');
        if (hours > 23 || minutes > 59) {
            return false;
        }
        offset = (hours * 60 + minutes) * (*at == '-' ? -1 : 1);
    } else if (end - at != 1 || (*at != 'Z' && *at != 'z')) {
        return false;
    }

    int32_t minute_utc = hour * 60 + minute - offset; /* of the day; the day before or after, too */
    if (second == 60 && (minute_utc + 1) % 1440 != 0) {
        return false;
    }
    int64_t seconds =
        ((int64_t)md_days_from_civil(year, month, day) * 1440 + minute_utc) * 60 + second;
    if (seconds < 0) { /* nearer to 0, so that what fits only with its fraction does not overflow */
        seconds++;
        fraction -= 1000000000;
    }
    int64_t value;
    if (__builtin_mul_overflow(seconds, INT64_C(1000000000), &value) ||
        __builtin_add_overflow(value, fraction, &value) || value == INT64_MIN) {
        return false;
    }
    *ns = value;
    return true;
}

#endif
