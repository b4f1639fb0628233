#include "publish.h"

#include <stdlib.h>

#include "capture.h"

bool md_publish_repeats(const struct md_record *last,
                        enum md_kind kind,
                        int64_t ts_event,
                        int64_t body0,
                        int64_t body1,
                        int64_t body2,
                        int64_t body3) {
    return last->seq != 0 && last->kind == kind && last->ts_event == ts_event &&
           last->body.word[0] == body0 && last->body.word[1] == body1 &&
           last->body.word[2] == body2 && last->body.word[3] == body3;
}

enum md_order md_publish_quote_order(struct md_feed *feed,
                                     const struct md_feed_symbol *symbol,
                                     uint64_t update_id,
                                     int64_t ts_event,
                                     int64_t bid_price,
                                     int64_t ask_price,
                                     int64_t bid_size,
                                     int64_t ask_size) {
    const struct md_cell *cell = symbol->cell;
    if (update_id < cell->venue_quote_id) {
        if (feed->overlapping != 0) { /* the slower of two sockets */
            md_count(&feed->counters->duplicates, 1);
            return MD_ORDER_AGAIN;
        }
        md_count(&feed->counters->reordered, 1);
        return MD_ORDER_LATE;
    }
    if (md_publish_repeats(
            &cell->quote, MD_KIND_QUOTE, ts_event, bid_price, ask_price, bid_size, ask_size)) {
        md_count(&feed->counters->duplicates, 1);
        return MD_ORDER_AGAIN;
    }
    return MD_ORDER_NEXT; /* one id may tell of several changes */
}

void md_publish_late(struct md_feed *feed,
                     struct md_feed_symbol *symbol,
                     enum md_kind kind,
                     unsigned flags,
                     enum md_cache_part part,
                     int64_t ts_event,
                     int64_t ts_recv,
                     const int64_t body[4]) {
    struct md_counter_block *counters = feed->counters;
    const struct md_cell *cell = symbol->cell;
    const struct md_record *last = part == MD_CACHE_TRADE ? &cell->trade : &cell->quote;
    if (feed->overlapping != 0) { /* the slower of two sockets */
        md_count(&counters->duplicates, 1);
        return;
    }
    if (last->seq == 0 || (last->kind == kind && last->ts_event < ts_event)) {
        md_feed_publish(
            feed, symbol, kind, flags, part, ts_event, ts_recv, body[0], body[1], body[2], body[3]);
    } else {
        md_feed_publish_past_cell(
            feed, symbol, kind, flags, ts_event, ts_recv, body[0], body[1], body[2], body[3]);
    }
    if (kind == MD_KIND_TICKER) {
        md_store_relaxed_i64(&symbol->cell->heard_ticker, ts_recv);
    }
    md_count(&counters->reordered, 1);
    md_count(kind == MD_KIND_TRADE   ? &counters->trades
             : kind == MD_KIND_QUOTE ? &counters->quotes
                                     : &counters->tickers,
             1);
}

void md_publish_bar(struct md_feed *feed,
                    struct md_feed_symbol *symbol,
                    int64_t ts_event,
                    int64_t ts_recv,
                    const struct md_bar *bar) {
    struct md_ring_writer *ring = symbol->ring;
    uint64_t tag = symbol->tag | md_record_tag(0, MD_KIND_BAR, 0, 0, 0);
    md_slot_fill(md_ring_claim(ring, ring->next),
                 ts_event,
                 ts_recv,
                 tag,
                 bar->open,
                 bar->high,
                 bar->low,
                 bar->close);
    tag = symbol->tag | md_record_tag(0, MD_KIND_BAR_VOLUME, MD_FLAG_LAST, 0, 0);
    md_slot_fill(md_ring_claim(ring, ring->next + 1),
                 ts_event,
                 ts_recv,
                 tag,
                 bar->volume,
                 bar->vwap,
                 bar->trade_count,
                 bar->interval_ns);
    md_ring_release(ring, 2);
    /* No md_feed_note_event: a bar bears the time of its beginning, which is no clock's and no way.
     */
    md_store_relaxed_i64(&symbol->cell->heard_bar, ts_recv);
    md_count(&feed->counters->records, 2);
    md_count(&feed->counters->bars, 1);
}

/* ---- depth --------------------------------------------------------------------------------- */

/* Wish for a snapshot, once until it has come. */
static void wish(struct md_feed *feed, struct md_feed_symbol *symbol) {
    if (symbol->book_wanted) {
        return;
    }
    symbol->book_wanted = 1;
    if (feed->wish_count < MD_WISH_COUNT_MAX) {
        feed->wishes[feed->wish_count] = symbol->symbol_id;
    }
    feed->wish_count++;
}

/* Apply what is pending to the book. False: there was no memory for it. */
static bool apply(const struct md_levels *levels) {
    struct md_book *book = levels->symbol->book;
    if (book == NULL || levels->from_book) {
        return true;
    }
    if (!book->by_rest) {
        if (levels->flags != 0) {
            if (!levels->in_pieces) {
                md_book_clear(book);
            }
        } else if (!book->in_step) {
            return true; /* changes of what we do not have */
        }
    }
    uint64_t update_id = levels->update_id == MD_ABSENT ? 0 : (uint64_t)levels->update_id;
    for (uint64_t i = 0; i < levels->pending; i++) {
        const struct md_slot *slot = md_ring_slot(levels->ring, levels->ring->next + i);
        if (!md_book_set(book,
                         (unsigned)(slot->word[2] >> 40) & MD_FLAG_SIDE_MASK,
                         (int64_t)slot->word[3],
                         (int64_t)slot->word[4],
                         update_id,
                         (int64_t)slot->word[5])) {
            return false;
        }
    }
    return true;
}

static void release_levels(struct md_levels *levels) {
    struct md_feed *feed = levels->feed;
    md_ring_release(levels->ring, levels->pending);
    md_count(&feed->counters->records, levels->pending);
    md_count(&feed->counters->levels, levels->pending);
    levels->pending = 0;
}

void md_levels_piece(struct md_levels *levels) {
    if (levels->dropped) {
        levels->pending = 0;
        return;
    }
    bool whole = apply(levels);
    release_levels(levels);
    levels->in_pieces = true;
    if (!whole) { /* not before: a status would take the slots that are pending */
        md_book_unsync(levels->feed, levels->symbol, levels->connection->number, levels->ts_recv);
    }
}

/* The book has changed: let readers see its top, or that there is none. */
static void show_book(struct md_feed *feed,
                      struct md_feed_symbol *symbol,
                      uint64_t seq,
                      int64_t ts_event,
                      int64_t ts_recv) {
    if (!symbol->book->in_step) {
        return; /* the cell says so since it fell out of step */
    }
    struct md_book_top top = {
        .seq = seq, .ts_event = ts_event, .ts_recv = ts_recv, .flags = MD_BOOK_USABLE};
    if (!md_book_top(symbol->book, &top)) {
        top.flags |= MD_BOOK_PARTIAL;
        struct md_book *book = symbol->book;
        if (book->by_rest) {
            if (!book->keep_gone) { /* what went before has left no trace: an older answer is void
                                     */
                book->keep_gone = true;
                book->first_id = book->last_id + 1;
            }
            wish(feed, symbol);
        }
    }
    md_cell_store_book(symbol->cell, &top);
}

void md_levels_end(struct md_levels *levels) {
    struct md_feed *feed = levels->feed;
    struct md_feed_symbol *symbol = levels->symbol;
    if (levels->dropped) {
        md_count(&feed->counters->duplicates, 1);
        return;
    }
    struct md_book *book = symbol->book;
    bool whole = apply(levels);
    if (levels->flags != 0 && levels->pending == 0 && !levels->in_pieces) {
        md_levels_put(levels, 0, MD_ABSENT, MD_ABSENT, MD_ABSENT); /* or nobody would hear of it */
    }
    uint64_t seq = levels->ring->next + levels->pending - 1;
    if (levels->pending != 0) {
        struct md_slot *last = md_ring_slot(levels->ring, seq);
        md_slot_put(last, 2, last->word[2] | (uint64_t)MD_FLAG_LAST << 40);
    }
    if (book != NULL && !levels->from_book) {
        symbol->book_socket = levels->connection->socket;
        if (book->by_rest) {
            if (book->first_id == 0) {
                book->first_id = levels->first_id;
            }
            book->last_id = (uint64_t)levels->update_id;
            if (!book->in_step) {
                wish(feed, symbol);
            }
        } else if (levels->flags != 0) {
            md_book_complete(book);
            symbol->book_wanted = 0;
            md_count(&feed->counters->book_snapshots, 1);
        } else if (!book->in_step) {
            wish(feed, symbol);
        }
    }
    if (book != NULL && whole) {
        show_book(feed, symbol, seq, levels->ts_event, levels->ts_recv);
    }
    release_levels(levels);
    if (!whole) { /* not before: a status would take the slots that are pending */
        md_book_unsync(feed, symbol, levels->connection->number, levels->ts_recv);
    }
    md_feed_note_event(feed, levels->flags, levels->ts_event);
    md_store_relaxed_i64(&symbol->cell->heard_book, levels->ts_recv);
}

/* ---- books --------------------------------------------------------------------------------- */

/* Make a book void. Told where readers had one to use. */
static void make_void(struct md_feed *feed,
                      struct md_feed_symbol *symbol,
                      uint32_t connection,
                      int64_t ts_recv) {
    /* Of a snapshot in pieces the first has cleared the book, and readers still have the old one.
     */
    bool was_usable = symbol->book->in_step || symbol->cell->book_flags != 0;
    md_book_clear(symbol->book);
    if (was_usable) {
        md_cell_void_book(symbol->cell);
        md_count(&feed->counters->book_resyncs, 1);
        md_feed_publish_status(
            feed, symbol, MD_STATUS_RESYNC, MD_ABSENT, MD_ABSENT, (int64_t)connection, ts_recv);
    }
}

void md_book_unsync(struct md_feed *feed,
                    struct md_feed_symbol *symbol,
                    uint32_t connection,
                    int64_t ts_recv) {
    if (symbol->book != NULL) {
        make_void(feed, symbol, connection, ts_recv);
        wish(feed, symbol);
    }
}

static int by_id(const void *a, const void *b) {
    uint32_t first = (*(struct md_feed_symbol *const *)a)->symbol_id;
    uint32_t second = (*(struct md_feed_symbol *const *)b)->symbol_id;
    return (first > second) - (first < second);
}

static void unsync_one(struct md_feed *feed,
                       struct md_feed_symbol *symbol,
                       const struct md_connection *connection,
                       int64_t ts_recv,
                       bool ended) {
    if (ended) {
        make_void(feed, symbol, connection->number, ts_recv);
        symbol->book_socket = 0;
        symbol->book_wanted = 0;
    } else {
        md_book_unsync(feed, symbol, connection->number, ts_recv);
    }
}

/* In the order of ids, not of the table, whose order hangs on how it grew: a replay of what was
 * captured tells the same in the same order. */
void md_book_unsync_socket(struct md_feed *feed,
                           const struct md_connection *connection,
                           int64_t ts_recv,
                           bool ended) {
    struct md_feed_symbol **own =
        malloc((feed->symbol_count + 1) * sizeof(struct md_feed_symbol *));
    uint32_t count = 0;
    for (uint32_t i = 0; i <= feed->table_mask; i++) {
        struct md_feed_symbol *symbol = &feed->table[i];
        if (symbol->book == NULL || symbol->book_socket != connection->socket) {
            continue;
        }
        if (own != NULL) {
            own[count++] = symbol;
        } else { /* no memory: in any order */
            unsync_one(feed, symbol, connection, ts_recv, ended);
        }
    }
    if (own != NULL) {
        qsort(own, count, sizeof *own, by_id);
    }
    for (uint32_t i = 0; i < count; i++) {
        unsync_one(feed, own[i], connection, ts_recv, ended);
    }
    free(own);
}

void md_book_expect(struct md_feed *feed,
                    struct md_feed_symbol *symbol,
                    const struct md_connection *connection) {
    if (symbol->book == NULL || !symbol->book->by_rest) {
        return;
    }
    symbol->book_socket = connection->socket;
    if (!symbol->book->in_step) {
        symbol->book_wanted = 0;
        wish(feed, symbol);
    }
}

static void publish_side(struct md_levels *levels, unsigned side) {
    const struct md_book_side *from = md_book_side(levels->symbol->book, side);
    for (uint32_t i = 0; i < from->count; i++) {
        const struct md_book_level *level = md_book_level(from, i);
        md_levels_put(levels, side, level->price, level->size, level->orders);
    }
}

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
                      int64_t ts_recv) {
    struct md_book *book = symbol->book;
    if (book == NULL || !book->keep_gone || symbol->book_socket == 0) {
        return true;
    }
    bool fresh = book->first_id == 0; /* nothing has changed since we are subscribed */
    symbol->book_wanted = 0;
    switch (md_book_merge(book, bids, bid_count, asks, ask_count, snapshot_id, asked)) {
    case MD_BOOK_MERGED:
        break;
    case MD_BOOK_TOO_OLD:
        wish(feed, symbol);
        return true;
    case MD_BOOK_NO_MEMORY: /* one side may have been merged */
        md_book_unsync(feed, symbol, connection->number, ts_recv);
        return false;
    }
    md_count(&feed->counters->book_snapshots, 1);
    uint64_t *last = &symbol->cell->venue_book_id;
    if (fresh && *last != 0 && snapshot_id > *last) {
        md_feed_announce_gap(
            feed, symbol, (int64_t)(*last + 1), (int64_t)snapshot_id, connection->number, ts_recv);
    }
    if (fresh) {
        book->first_id = snapshot_id + 1;
    }
    struct md_levels levels = md_levels_begin(
        feed, symbol, connection, ts_event, ts_recv, (int64_t)book->last_id, MD_FLAG_SNAPSHOT);
    levels.from_book = true;
    publish_side(&levels, MD_FLAG_BUY);
    publish_side(&levels, MD_FLAG_SELL);
    md_levels_end(&levels);
    md_feed_note_sequence(last, book->last_id);
    return true;
}

void md_book_refuse_snapshot(struct md_feed *feed, struct md_feed_symbol *symbol) {
    if (symbol->book_wanted) {
        symbol->book_wanted = 0;
        wish(feed, symbol);
    }
}

void md_book_checksum(struct md_feed *feed,
                      struct md_feed_symbol *symbol,
                      uint32_t connection,
                      int64_t ts_recv,
                      bool equal) {
    md_count(&feed->counters->book_checksums, 1);
    if (!equal) {
        md_count(&feed->counters->book_mismatches, 1);
        md_book_unsync(feed, symbol, connection, ts_recv);
    }
}
