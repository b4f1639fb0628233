/* Events of Alpaca and Massive in the key order that they stream: read word by word where they are
 * expected, see quick_scan.h. What is taken is an event as the general way would have read it; what
 * is not goes that way, alone. */
#ifndef MDSYS_EVENT_QUICK_H
#define MDSYS_EVENT_QUICK_H

#include "json_events.h"
#include "quick_scan.h"

/* Begin with an event of a frame; false: too near to the frame's end. */
MD_QUICK bool md_event_quick_begin(const struct md_json *json, struct md_quick *scan) {
    *scan = (struct md_quick){json->at, json->end};
    return json->end - json->at >= (ptrdiff_t)MD_QUICK_SIZE_MIN;
}

/* A number of at most 8 digits before and behind the point. */
MD_QUICK bool md_event_quick_number(struct md_quick *scan, struct md_span *out) {
    char buffer[2 * MD_QUICK_WINDOW];
    const char *at = md_quick_window(scan, buffer);
    struct md_quick_shape shape = md_quick_number_shape(at);
    if (shape.whole - 1 >= 8 || shape.decimals > 8) {
        return false;
    }
    *out =
        (struct md_span){scan->at, shape.size, md_quick_units(at, shape), (uint8_t)shape.decimals};
    scan->at += shape.size;
    return true;
}

#define MD_EVENT_NUMBER(scan, literal, out)                                                        \
    (MD_TAKE(scan, literal) && md_event_quick_number(scan, out))

/* Step over a key and its number, if they come next. False: it is no plain number. */
#define MD_EVENT_MAY_SKIP(scan, literal) (!MD_TAKE(scan, literal) || md_quick_skip_number(scan))

#endif
