/* The words of the fast scanners beyond those of quick_scan.h: numbers, times and sides in quotes.
 *
 * Each steps over what it takes, its closing quote included; what it returns false for may be right
 * all the same, in another form: the flat scanner knows. */
#ifndef MDSYS_COINBASE_SCAN_H
#define MDSYS_COINBASE_SCAN_H

#include "coinbase_values.h"
#include "quick_scan.h"

/* Read the product. */
MD_QUICK struct md_feed_symbol *positional_symbol(struct md_quick *scan,
                                                  const struct md_feed *feed) {
    struct md_feed_symbol *symbol = md_quick_symbol(scan, feed);
    scan->at += symbol != NULL;
    return symbol;
}

/* Read a number. */
MD_QUICK bool positional_number(struct md_quick *scan, unsigned scale, int64_t *out) {
    const char *first = scan->at;
    unsigned decimals;
    if (md_quick_decimal(scan, scale, out, &decimals) && MD_TAKE(scan, "\"")) {
        return true;
    }
    const char *quote = md_decimal_scan(first, scan->end - 8, scale, out); /* a longer one */
    if (quote == NULL) {
        return false;
    }
    scan->at = quote + 1;
    return true;
}

/* Read a time. */
MD_QUICK bool positional_time(struct md_quick *scan, int64_t *ts) {
    return scan->end - scan->at >= MD_QUICK_TIME_ROOM && md_quick_time(scan, ts) &&
           MD_TAKE(scan, "\"");
}

/* Read an id of at most 15 digits. */
MD_QUICK bool positional_id(struct md_quick *scan, int64_t *out) {
    uint64_t id = 0;
    bool ok = md_quick_uint(scan, &id) && id != 0;
    *out = (int64_t)id;
    return ok;
}

/* Read a number that begins behind a literal. */
#define NUMBER(scan, literal, scale, out)                                                          \
    (MD_TAKE(scan, literal) && positional_number(scan, scale, out))

/* "buy" or "sell" and the quote; 0: neither. */
MD_QUICK unsigned positional_side(struct md_quick *scan) {
    return MD_TAKE(scan, "buy\"") ? MD_FLAG_BUY : MD_TAKE(scan, "sell\"") ? MD_FLAG_SELL : 0;
}

#endif
