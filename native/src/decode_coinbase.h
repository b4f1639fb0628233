/* The decoders of Coinbase Exchange and Advanced Trade; the contract is md_decode_fn's, in feed.h.
 *
 * Facts and their sources: mdsys/feed/coinbase/exchange.py and advanced.py; the captured frames
 * that tests/replay runs over. mdsys/feed/coinbase/reference.py is the same in plain Python; the
 * tests hold the two together, refusals included. */
#ifndef MDSYS_DECODE_COINBASE_H
#define MDSYS_DECODE_COINBASE_H

#include "feed.h"

enum md_frame_result md_decode_coinbase_exchange(struct md_feed *feed,
                                                 const char *frame,
                                                 size_t size,
                                                 int64_t ts_recv,
                                                 struct md_connection *connection);
enum md_frame_result md_decode_coinbase_advanced(struct md_feed *feed,
                                                 const char *frame,
                                                 size_t size,
                                                 int64_t ts_recv,
                                                 struct md_connection *connection);

#endif
