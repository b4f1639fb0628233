/* The decoders of Binance spot, USD-M and coin-M futures; the contract is md_decode_fn's, in
 * feed.h.
 *
 * Trade, bookTicker and depthUpdate frames, raw or wrapped as {"stream":..,"data":{..}}. Facts:
 * developers.binance.com, "WebSocket Streams" (spot) and "Websocket Market Streams" (USD-M), and
 * the captured frames that tests/replay runs over. mdsys/feed/binance/reference.py is the same in
 * plain Python; the tests hold the two together, refusals included. */
#ifndef MDSYS_DECODE_BINANCE_H
#define MDSYS_DECODE_BINANCE_H

#include "feed.h"

enum md_frame_result md_decode_binance_spot(struct md_feed *feed,
                                            const char *frame,
                                            size_t size,
                                            int64_t ts_recv,
                                            struct md_connection *connection);
enum md_frame_result md_decode_binance_usdm(struct md_feed *feed,
                                            const char *frame,
                                            size_t size,
                                            int64_t ts_recv,
                                            struct md_connection *connection);
enum md_frame_result md_decode_binance_coinm(struct md_feed *feed,
                                             const char *frame,
                                             size_t size,
                                             int64_t ts_recv,
                                             struct md_connection *connection);

#endif
