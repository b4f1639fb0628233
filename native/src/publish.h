/* Values -> records, for every venue: the sequence check, the cell, the ring, the counters.
 *
 * A decoder looks the symbol up, parses, and ends in one of these. All are one thread's. Values are
 * fixed point at the symbol's scales, MD_ABSENT where the venue sends none. */
#ifndef MDSYS_PUBLISH_H
#define MDSYS_PUBLISH_H

#include "feed.h"

/* Out of line, arguments go over the stack at a tenth of a frame's time. */
#define MD_PUBLISH static inline __attribute__((always_inline))

/* flags: side of the aggressor, MD_FLAG_SNAPSHOT for a trade of before. trade_id: >= 1 and below
 * 2^63 - 1, or MD_ABSENT with MD_IDS_NONE. A trade that has been here is dropped and counted. */
MD_PUBLISH void md_publish_trade(struct md_feed *feed,
                                 struct md_feed_symbol *symbol,
                                 const struct md_connection *connection,
                                 int64_t ts_event,
                                 int64_t ts_recv,
                                 unsigned flags,
                                 int64_t price,
                                 int64_t size,
                                 int64_t trade_id,
                                 int64_t conditions,
                                 enum md_ids ids) {
    uint64_t *last = &symbol->cell->venue_trade_id;
    enum md_order order = MD_ORDER_NEXT;
    if (ids != MD_IDS_NONE) {
        order = md_feed_order(feed,
                              symbol,
                              &symbol->trades,
                              last,
                              (uint64_t)trade_id,
                              (uint64_t)trade_id,
                              ids,
                              connection->number,
                              ts_recv);
    }
    if (__builtin_expect(order == MD_ORDER_NEXT, 1)) {
        md_feed_publish(feed,
                        symbol,
                        MD_KIND_TRADE,
                        flags,
                        MD_CACHE_TRADE,
                        ts_event,
                        ts_recv,
                        price,
                        size,
                        trade_id,
                        conditions);
        if (ids != MD_IDS_NONE) {
            md_feed_note_sequence(last, (uint64_t)trade_id);
        }
    } else if (order == MD_ORDER_LATE) {
        md_feed_publish_past_cell(feed,
                                  symbol,
                                  MD_KIND_TRADE,
                                  flags,
                                  ts_event,
                                  ts_recv,
                                  price,
                                  size,
                                  trade_id,
                                  conditions);
    } else {
        return;
    }
    md_count(&feed->counters->trades, 1);
}

/* Whether a quote or ticker without an id repeats the cell's, while two sockets bring the same. */
bool md_publish_repeats(const struct md_record *last,
                        enum md_kind kind,
                        int64_t ts_event,
                        int64_t body0,
                        int64_t body1,
                        int64_t body2,
                        int64_t body3);

/* The slow half of md_publish_quote: its id is not above the last one. */
enum md_order md_publish_quote_order(struct md_feed *feed,
                                     const struct md_feed_symbol *symbol,
                                     uint64_t update_id,
                                     int64_t ts_event,
                                     int64_t bid_price,
                                     int64_t ask_price,
                                     int64_t bid_size,
                                     int64_t ask_size);

/* update_id: ascending, with holes; MD_ABSENT: the venue sends none. One that comes late goes into
 * the ring and not into the cell. */
MD_PUBLISH void md_publish_quote(struct md_feed *feed,
                                 struct md_feed_symbol *symbol,
                                 int64_t ts_event,
                                 int64_t ts_recv,
                                 int64_t bid_price,
                                 int64_t ask_price,
                                 int64_t bid_size,
                                 int64_t ask_size,
                                 int64_t update_id) {
    uint64_t *last = &symbol->cell->venue_quote_id;
    enum md_order order = MD_ORDER_NEXT;
    if (update_id == MD_ABSENT) {
        if (__builtin_expect(feed->overlapping != 0, 0) && md_publish_repeats(&symbol->cell->quote,
                                                                              MD_KIND_QUOTE,
                                                                              ts_event,
                                                                              bid_price,
                                                                              ask_price,
                                                                              bid_size,
                                                                              ask_size)) {
            md_count(&feed->counters->duplicates, 1);
            return;
        }
    } else if (__builtin_expect((uint64_t)update_id <= *last, 0)) {
        order = md_publish_quote_order(
            feed, symbol, (uint64_t)update_id, ts_event, bid_price, ask_price, bid_size, ask_size);
        if (order == MD_ORDER_AGAIN) {
            return;
        }
    }
    if (__builtin_expect(order == MD_ORDER_NEXT, 1)) {
        md_feed_publish(feed,
                        symbol,
                        MD_KIND_QUOTE,
                        0,
                        MD_CACHE_QUOTE,
                        ts_event,
                        ts_recv,
                        bid_price,
                        ask_price,
                        bid_size,
                        ask_size);
        if (update_id != MD_ABSENT) {
            md_feed_note_sequence(last, (uint64_t)update_id);
        }
    } else {
        md_feed_publish_past_cell(feed,
                                  symbol,
                                  MD_KIND_QUOTE,
                                  0,
                                  ts_event,
                                  ts_recv,
                                  bid_price,
                                  ask_price,
                                  bid_size,
                                  ask_size);
    }
    md_count(&feed->counters->quotes, 1);
}

/* Into the cell's place of the last trade, unless the venue sends trades as well. */
static inline void md_publish_ticker(struct md_feed *feed,
                                     struct md_feed_symbol *symbol,
                                     int64_t ts_event,
                                     int64_t ts_recv,
                                     int64_t last_price,
                                     int64_t last_size,
                                     int64_t volume,
                                     int64_t open_interest) {
    struct md_cell *cell = symbol->cell;
    bool has_trade = cell->trade.seq != 0 && cell->trade.kind == MD_KIND_TRADE;
    if (feed->overlapping != 0 && !has_trade &&
        md_publish_repeats(
            &cell->trade, MD_KIND_TICKER, ts_event, last_price, last_size, volume, open_interest)) {
        md_count(&feed->counters->duplicates, 1);
        return;
    }
    if (has_trade) {
        md_feed_publish_past_cell(feed,
                                  symbol,
                                  MD_KIND_TICKER,
                                  0,
                                  ts_event,
                                  ts_recv,
                                  last_price,
                                  last_size,
                                  volume,
                                  open_interest);
    } else {
        md_feed_publish(feed,
                        symbol,
                        MD_KIND_TICKER,
                        0,
                        MD_CACHE_TRADE,
                        ts_event,
                        ts_recv,
                        last_price,
                        last_size,
                        volume,
                        open_interest);
    }
    md_store_relaxed_i64(&cell->heard_ticker, ts_recv);
    md_count(&feed->counters->tickers, 1);
}

/* A trade, quote or ticker without an id, of a frame that comes late by its connection's numbers:
 * into the ring, and into the cell only where that has an older one. part: its place there. */
void md_publish_late(struct md_feed *feed,
                     struct md_feed_symbol *symbol,
                     enum md_kind kind,
                     unsigned flags,
                     enum md_cache_part part,
                     int64_t ts_event,
                     int64_t ts_recv,
                     const int64_t body[4]);

struct md_bar {
    int64_t open, high, low, close;
    int64_t volume, vwap, trade_count, interval_ns;
};

/* Two records of one frame. ts_event: when the bar begins. */
void md_publish_bar(struct md_feed *feed,
                    struct md_feed_symbol *symbol,
                    int64_t ts_event,
                    int64_t ts_recv,
                    const struct md_bar *bar);

/* ---- depth --------------------------------------------------------------------------------- */

/* The levels of one depth message, encoded in the slots themselves, which nobody sees before
 * md_levels_end: until then a decoder may think better of it. More than depth/4 of them go out in
 * pieces, which cannot be taken back: so whoever may put that many has judged them all before. */
struct md_levels {
    struct md_feed *feed;
    struct md_feed_symbol *symbol;
    struct md_ring_writer *ring;
    const struct md_connection *connection;
    int64_t ts_event;
    int64_t ts_recv;
    int64_t update_id;
    uint64_t tag;     /* without side and last-of-frame */
    uint64_t pending; /* claimed and filled, not yet released; in [0, pending_max] */
    uint64_t pending_max;
    uint64_t first_id; /* of the ids that the message covers, with an update_id its last */
    unsigned flags;    /* MD_FLAG_SNAPSHOT or 0 */
    bool in_pieces;    /* some are out already */
    bool dropped;      /* another socket owns the book: nothing is published */
    bool from_book;    /* they tell the book as it is: nothing to apply */
};

/* flags: MD_FLAG_SNAPSHOT, the whole book, or 0, changes. update_id: >= 0, or MD_ABSENT. The check
 * of ids (md_feed_order) comes before. */
MD_PUBLISH struct md_levels md_levels_begin(struct md_feed *feed,
                                            struct md_feed_symbol *symbol,
                                            const struct md_connection *connection,
                                            int64_t ts_event,
                                            int64_t ts_recv,
                                            int64_t update_id,
                                            unsigned flags) {
    return (struct md_levels){
        .feed = feed,
        .symbol = symbol,
        .ring = symbol->ring,
        .connection = connection,
        .ts_event = ts_event,
        .ts_recv = ts_recv,
        .update_id = update_id,
        .tag = symbol->tag | md_record_tag(0, MD_KIND_LEVEL, flags, 0, 0),
        .pending_max = (symbol->ring->mask + 1) / 4,
        .first_id = update_id == MD_ABSENT ? 0 : (uint64_t)update_id,
        .flags = flags,
        /* Two sockets bring one symbol while one succeeds the other, or the symbol moves. Without
         * ids only whole books can change hands. */
        .dropped = !feed->books_by_rest && flags == 0 && symbol->book_socket != 0 &&
                   symbol->book_socket != connection->socket,
    };
}

/* Send out what is pending as a piece of the frame. */
void md_levels_piece(struct md_levels *levels);

/* side: MD_FLAG_BUY or MD_FLAG_SELL. orders: MD_ABSENT where the venue sends none. */
MD_PUBLISH void md_levels_put(
    struct md_levels *levels, unsigned side, int64_t price, int64_t size, int64_t orders) {
    if (__builtin_expect(levels->pending == levels->pending_max, 0)) {
        md_levels_piece(levels);
    }
    struct md_slot *slot = md_ring_claim(levels->ring, levels->ring->next + levels->pending);
    md_slot_fill(slot,
                 levels->ts_event,
                 levels->ts_recv,
                 levels->tag | (uint64_t)side << 40,
                 price,
                 size,
                 orders,
                 levels->update_id);
    levels->pending++;
}

/* Mark the last level, bring the book and the cell up to date, and release. A whole book without a
 * level is told by one of no side, no price and no size. */
void md_levels_end(struct md_levels *levels);

/* ---- books --------------------------------------------------------------------------------- */

/* Take a symbol's book out of step, if it has one: void for readers until a snapshot comes, which
 * is wished for. Told in the ring when the book was usable. */
void md_book_unsync(struct md_feed *feed,
                    struct md_feed_symbol *symbol,
                    uint32_t connection,
                    int64_t ts_recv);

/* The same for all books that a socket brings: it has a hole, or (ended) is gone, and then there is
 * nothing to wish for until another brings them. */
void md_book_unsync_socket(struct md_feed *feed,
                           const struct md_connection *connection,
                           int64_t ts_recv,
                           bool ended);

/* A symbol's changes come by this socket from now on: wish for a snapshot, unless its book is in
 * step, or comes by stream. */
void md_book_expect(struct md_feed *feed,
                    struct md_feed_symbol *symbol,
                    const struct md_connection *connection);

/* Merge a REST snapshot and publish the book as it is then; one that nobody waits for is dropped.
 * bids, asks: best first. asked: levels that were asked for, 0 for all. When it is too old another
 * is wished for; when there is no memory for it (the only false) the book is void as well. */
bool md_book_snapshot(struct md_feed *feed,
                      struct md_feed_symbol *symbol,
                      const struct md_connection *connection,
                      const struct md_book_level *bids,
                      uint32_t bid_count,
                      const struct md_book_level *asks,
                      uint32_t ask_count,
                      uint64_t snapshot_id,
                      uint32_t asked,
                      int64_t ts_event,
                      int64_t ts_recv);

/* An answer was no book: if one is still wished for, wish for another. */
void md_book_refuse_snapshot(struct md_feed *feed, struct md_feed_symbol *symbol);

/* A venue's checksum of the book: count it, and when it differs take the book out of step. */
void md_book_checksum(struct md_feed *feed,
                      struct md_feed_symbol *symbol,
                      uint32_t connection,
                      int64_t ts_recv,
                      bool equal);

#endif
