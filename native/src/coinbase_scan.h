/* The words of the fast scanners: literals, strings, numbers and times where they are expected.
 *
 * Each steps over what it takes; what it returns false for may be right all the same, in another
 * form: the flat scanner knows. */
#ifndef MDSYS_COINBASE_SCAN_H
#define MDSYS_COINBASE_SCAN_H

#include "coinbase_values.h"

struct positional {
    const char *at;
    const char *end;
    const char *last8; /* where the frame's last whole word begins */
};

/* What the compiler must decide where it is used: literals, offsets, sides. */
#define POSITIONAL_INLINE static inline __attribute__((always_inline))

#define POSITIONAL_SIZE_MIN 64U /* nothing of ours is shorter */

/* Step over a literal. By words that overlap, since compilers call memcmp for most sizes. */
POSITIONAL_INLINE bool positional_take(struct positional *scan, const char *literal, size_t size) {
    const char *at = scan->at;
    if (scan->end - at < (ptrdiff_t)size) {
        return false;
    }
    size_t i = 0;
    for (; size >= 8 && i < size; i += 8) {
        size_t from = i + 8 <= size ? i : size - 8;
        uint64_t have, want;
        memcpy(&have, at + from, 8);
        memcpy(&want, literal + from, 8);
        if (have != want) {
            return false;
        }
    }
    for (; i < size; i++) {
        if (at[i] != literal[i]) {
            return false;
        }
    }
    scan->at = at + size;
    return true;
}

#define TAKE(scan, literal) positional_take(scan, literal, sizeof(literal) - 1)

/* Step to the quote that ends a string of at most size_max bytes. False when a byte comes first
 * that needs a closer look: an escape, a control, anything beyond ASCII. */
POSITIONAL_INLINE bool positional_text(struct positional *scan, ptrdiff_t size_max) {
    const char *end = scan->end - scan->at > size_max ? scan->at + size_max + 1 : scan->end;
    for (; scan->at < end; scan->at++) {
        signed char c = (signed char)*scan->at; /* negative: beyond ASCII */
        if (c == '"') {
            return true;
        }
        if (c < 0x20 || c == '\\') {
            return false;
        }
    }
    return false;
}

/* Read the product and its closing quote. */
POSITIONAL_INLINE struct md_feed_symbol *positional_symbol(struct positional *scan,
                                                           const struct md_feed *feed) {
    const char *first = scan->at;
    if (!positional_text(scan, MD_NAME_SIZE_MAX)) {
        return NULL;
    }
    size_t size = (size_t)(scan->at++ - first);
    return md_feed_find_symbol(feed, first, size);
}

/* Read a number and its closing quote. */
POSITIONAL_INLINE bool positional_number(struct positional *scan, unsigned scale, int64_t *out) {
    const char *quote = md_decimal_scan(scan->at, scan->last8, scale, out);
    if (quote == NULL) {
        return false;
    }
    scan->at = quote + 1;
    return true;
}

/* Read a time and its closing quote. */
POSITIONAL_INLINE bool positional_time(struct positional *scan, int64_t *ts) {
    const char *first = scan->at;
    if (scan->end - first < (ptrdiff_t)MD_RFC3339_SIZE_MIN) {
        return false;
    }
    scan->at += MD_RFC3339_SIZE_MIN - 1;
    return positional_text(scan, 16) && md_time_rfc3339(first, (size_t)(scan->at++ - first), ts);
}

/* Read an id of at most 16 digits. */
POSITIONAL_INLINE bool positional_id(struct positional *scan, int64_t *out) {
    unsigned count, more;
    uint64_t value = md_digits8(md_load8(scan->at, scan->last8), &count);
    bool ok = count != 0 && *scan->at != '0';
    scan->at += count;
    if (count == 8) {
        uint64_t rest = md_digits8(md_load8(scan->at, scan->last8), &more);
        value = value * md_pow10[more] + rest;
        scan->at += more;
    }
    *out = (int64_t)value;
    return ok;
}

/* Step over a string that begins behind a literal. */
#define SKIP(scan, literal) (TAKE(scan, literal) && positional_text(scan, 64))

/* Read a number that begins behind a literal. */
#define NUMBER(scan, literal, scale, out)                                                          \
    (TAKE(scan, literal) && positional_number(scan, scale, out))

POSITIONAL_INLINE bool positional_end(struct positional *scan, const char *literal, size_t size) {
    return positional_take(scan, literal, size) && scan->at == scan->end;
}

#define END(scan, literal) positional_end(scan, literal, sizeof(literal) - 1)

/* "buy" or "sell" and the quote; 0: neither. */
POSITIONAL_INLINE unsigned positional_side(struct positional *scan) {
    return TAKE(scan, "buy\"") ? MD_FLAG_BUY : TAKE(scan, "sell\"") ? MD_FLAG_SELL : 0;
}

#endif
