/* The decoder of Massive's (Polygon.io's) stock and option streams; the contract is md_decode_fn's,
 * in feed.h.
 *
 * What is published, and why not the rest, stands in mdsys/feed/massive/reference.py, which is the
 * same in plain Python; the tests hold the two together, refusals included. */
#ifndef MDSYS_DECODE_MASSIVE_H
#define MDSYS_DECODE_MASSIVE_H

#include "feed.h"

enum md_frame_result md_decode_massive(struct md_feed *feed,
                                       const char *frame,
                                       size_t size,
                                       int64_t ts_recv,
                                       struct md_connection *connection);

#endif
