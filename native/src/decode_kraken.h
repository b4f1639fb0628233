/* Kraken spot: v2 as it is streamed today, v1 as captures hold it. */
#ifndef MDSYS_DECODE_KRAKEN_H
#define MDSYS_DECODE_KRAKEN_H

#include "feed.h"

/* Trades, tickers (as quotes and tickers), books with their checksums, candles; answers are control
 * frames. */
enum md_frame_result md_decode_kraken(struct md_feed *feed,
                                      const char *frame,
                                      size_t size,
                                      int64_t ts_recv,
                                      struct md_connection *connection);

/* The same without candles; a decoder for replays, no venue speaks it here. */
enum md_frame_result md_decode_kraken_v1(struct md_feed *feed,
                                         const char *frame,
                                         size_t size,
                                         int64_t ts_recv,
                                         struct md_connection *connection);

#endif
