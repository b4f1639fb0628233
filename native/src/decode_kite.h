/* The decoder of Zerodha Kite's ticker; the contract is md_decode_fn's, in feed.h.
 *
 * Binary frames of packets, big-endian. Facts: kite.trade/docs/connect/v3/websocket and Zerodha's
 * own clients (pykiteconnect kiteconnect/ticker.py, gokiteconnect ticker/ticker.go), read 2026-11.
 * mdsys/feed/kite/reference.py is the same in plain Python, and says how what they leave open is
 * read; the tests hold the two together, refusals included. */
#ifndef MDSYS_DECODE_KITE_H
#define MDSYS_DECODE_KITE_H

#include "feed.h"

enum md_frame_result md_decode_kite(struct md_feed *feed,
                                    const char *frame,
                                    size_t size,
                                    int64_t ts_recv,
                                    struct md_connection *connection);

#endif
