/* The decoder of Alpaca's market data, stocks and crypto; the contract is md_decode_fn's, in
 * feed.h.
 *
 * What is published, and why not the rest, stands in mdsys/feed/alpaca/reference.py, which is the
 * same in plain Python; the tests hold the two together, refusals included. */
#ifndef MDSYS_DECODE_ALPACA_H
#define MDSYS_DECODE_ALPACA_H

#include "feed.h"

enum md_frame_result md_decode_alpaca(struct md_feed *feed,
                                      const char *frame,
                                      size_t size,
                                      int64_t ts_recv,
                                      struct md_connection *connection);

#endif
