/* The decoder of OpenAlgo's WebSocket proxy; the contract is md_decode_fn's, in feed.h.
 *
 * JSON, one event a frame. Facts: github.com/marketcalls/openalgo, websocket_proxy/server.py and
 * the adapters of broker/ * /streaming, read 2026-11. mdsys/feed/openalgo/reference.py is the same
 * in plain Python, and says how what they leave open is read; the tests hold the two together,
 * refusals included. */
#ifndef MDSYS_DECODE_OPENALGO_H
#define MDSYS_DECODE_OPENALGO_H

#include "feed.h"

enum md_frame_result md_decode_openalgo(struct md_feed *feed,
                                        const char *frame,
                                        size_t size,
                                        int64_t ts_recv,
                                        struct md_connection *connection);

#endif
