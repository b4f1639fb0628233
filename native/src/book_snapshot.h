/* A REST answer that holds a whole book, as Binance gives it: {"lastUpdateId":..,"bids":[["price",
 * "size"],..],"asks":[..]}, futures with "E" and "T" beside them. */
#ifndef MDSYS_BOOK_SNAPSHOT_H
#define MDSYS_BOOK_SNAPSHOT_H

#include "publish.h"

/* Merge the answer into the symbol's book, and publish the book as it is then. asked: levels a side
 * that were asked for, 0 for all. An answer that is refused leaves the wish for another.
 *
 * Returns MD_FRAME_OK, _MALFORMED, also when there is no memory for it, or _VALUE when a level does
 * not fit. Never reads outside body[0..size). */
enum md_frame_result md_book_snapshot_json(struct md_feed *feed,
                                           struct md_feed_symbol *symbol,
                                           const struct md_connection *connection,
                                           const char *body,
                                           size_t size,
                                           uint32_t asked,
                                           int64_t ts_recv);

#endif
