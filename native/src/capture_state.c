#include "capture_state.h"

#include <stdlib.h>

/* ---- the feed ------------------------------------------------------------------------------ */

static size_t append(char *to, size_t at, const void *from, size_t size) {
    if (size != 0) {
        memcpy(to + at, from, size);
    }
    return at + size;
}

enum { OWN_SIZE_MAX = 512 };

void md_capture_symbol(struct md_capture *capture,
                       uint32_t venue,
                       const struct md_feed *feed,
                       const struct md_feed_symbol *symbol,
                       const struct md_symbols_header *symbols,
                       int64_t now_ns) {
    const struct md_symbol *entry = md_symbols_entry(symbols, symbol->symbol_id);
    size_t venue_size = (size_t)entry->venue_size + 1; /* and the colon */
    const struct md_cell *cell = symbol->cell;
    struct md_capture_symbol state = {
        .symbol_id = symbol->symbol_id,
        .ring = (uint32_t)(symbol->ring - feed->rings),
        .price_scale = symbol->price_scale,
        .size_scale = symbol->size_scale,
        .price_decimals = symbol->price_decimals,
        .size_decimals = symbol->size_decimals,
        .name_size = (uint8_t)(entry->name_size - venue_size),
        .wire_size = symbol->name_size,
        .own_size = (uint16_t)(symbol->own_size <= OWN_SIZE_MAX ? symbol->own_size : 0),
        .venue_trade_id = cell->venue_trade_id,
        .venue_book_id = cell->venue_book_id,
        .venue_quote_id = cell->venue_quote_id,
        .trades = symbol->trades,
        .books = symbol->books,
        .trade = cell->trade,
        .quote = cell->quote,
    };
    char entry_text[sizeof state + 2 * 256 + OWN_SIZE_MAX];
    size_t size = append(entry_text, 0, &state, sizeof state);
    size = append(entry_text, size, entry->name + venue_size, state.name_size);
    size = append(entry_text, size, symbol->name, state.wire_size);
    size = append(entry_text, size, symbol->own, state.own_size);
    md_capture_put(capture, MD_CAPTURE_SYMBOL, entry_text, size, now_ns, venue, 0);
}

void md_capture_symbols(struct md_capture *capture,
                        uint32_t venue,
                        const struct md_feed *feed,
                        const struct md_symbols_header *symbols,
                        int64_t now_ns) {
    for (uint32_t i = 0; i <= feed->table_mask; i++) {
        if (feed->table[i].symbol_id != 0) {
            md_capture_symbol(capture, venue, feed, &feed->table[i], symbols, now_ns);
        }
    }
}

static size_t put_book(struct md_capture *capture,
                       uint32_t venue,
                       const struct md_feed_symbol *symbol,
                       int64_t now_ns) {
    const struct md_book *book = symbol->book;
    const struct md_book_side *bids = &book->side[0], *asks = &book->side[1];
    const struct md_capture_book state = {
        .symbol_id = symbol->symbol_id,
        .socket = symbol->book_socket,
        .count = {bids->count, asks->count},
        .first_id = book->first_id,
        .last_id = book->last_id,
        .known_to = {bids->known_to, asks->known_to},
        .bounded = {bids->bounded, asks->bounded},
        .in_step = book->in_step,
        .keep_gone = book->keep_gone,
    };
    size_t bids_size = bids->count * sizeof *bids->levels;
    size_t asks_size = asks->count * sizeof *asks->levels;
    size_t size = sizeof state + bids_size + asks_size;
    char *text = malloc(size);
    if (text == NULL) {
        return 0; /* a replay takes the book as void until its next snapshot */
    }
    size_t at = append(text, 0, &state, sizeof state);
    at = append(text, at, bids->levels, bids_size);
    append(text, at, asks->levels, asks_size);
    md_capture_put(capture, MD_CAPTURE_BOOK, text, size, now_ns, venue, 0);
    free(text);
    return size;
}

bool md_capture_books(struct md_capture *capture,
                      uint32_t venue,
                      const struct md_feed *feed,
                      uint32_t *place,
                      size_t size_max,
                      int64_t now_ns) {
    size_t size = 0;
    for (; *place <= feed->table_mask; ++*place) {
        const struct md_feed_symbol *symbol = &feed->table[*place];
        if (symbol->symbol_id == 0 || symbol->book == NULL) {
            continue;
        }
        uint64_t used = capture->head - md_load_acquire_u64(&capture->header->tail);
        if (size >= size_max || used > capture->mask / 2) {
            return false;
        }
        size += put_book(capture, venue, symbol, now_ns);
    }
    return true;
}

/* ---- the replay ---------------------------------------------------------------------------- */

bool md_capture_symbol_is_whole(const struct md_capture_symbol *state, size_t size) {
    return size >= sizeof *state && state->symbol_id != 0 && state->price_scale <= 18 &&
           state->size_scale <= 18 && state->price_decimals <= 18 && state->size_decimals <= 18 &&
           state->name_size != 0 && state->wire_size != 0 && state->wire_size <= MD_NAME_SIZE_MAX &&
           state->own_size <= OWN_SIZE_MAX &&
           size == sizeof *state + state->name_size + state->wire_size + state->own_size;
}

bool md_replay_symbol(struct md_feed_symbol *symbol,
                      const struct md_capture_symbol *state,
                      size_t size) {
    if (!md_capture_symbol_is_whole(state, size) || state->trades.hole_count > MD_HOLE_COUNT_MAX ||
        state->books.hole_count > MD_HOLE_COUNT_MAX) {
        return false;
    }
    free(symbol->own);
    symbol->own = NULL;
    symbol->own_size = 0;
    if (state->own_size != 0) {
        symbol->own = calloc(1, OWN_SIZE_MAX); /* never less than the decoder takes it for */
        if (symbol->own == NULL) {
            return false;
        }
        symbol->own_size = state->own_size;
        memcpy(symbol->own,
               (const char *)state + sizeof *state + state->name_size + state->wire_size,
               state->own_size);
    }
    symbol->price_decimals = state->price_decimals;
    symbol->size_decimals = state->size_decimals;
    symbol->trades = state->trades;
    symbol->books = state->books;
    struct md_cell *cell = symbol->cell;
    md_store_relaxed_u64(&cell->venue_trade_id, state->venue_trade_id);
    md_store_relaxed_u64(&cell->venue_book_id, state->venue_book_id);
    md_store_relaxed_u64(&cell->venue_quote_id, state->venue_quote_id);
    return true;
}

bool md_replay_book(struct md_feed_symbol *symbol,
                    const struct md_capture_book *state,
                    size_t size) {
    struct md_book *book = symbol->book;
    uint64_t count = (uint64_t)state->count[0] + state->count[1];
    if (size < sizeof *state || count > 2 * (uint64_t)MD_BOOK_LEVELS_MAX ||
        size != sizeof *state + count * sizeof(struct md_book_level)) {
        return false;
    }
    if (book == NULL) {
        return true;
    }
    md_book_clear(book);
    book->keep_gone = true; /* what stands here of size 0 stays */
    const char *at = (const char *)state + sizeof *state;
    for (unsigned side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < state->count[side]; i++, at += sizeof(struct md_book_level)) {
            struct md_book_level level;
            memcpy(&level, at, sizeof level);
            if (!md_book_set(book,
                             side == 0 ? MD_FLAG_BUY : MD_FLAG_SELL,
                             level.price,
                             level.size,
                             level.update_id,
                             level.orders)) {
                md_book_clear(book);
                return false;
            }
        }
        book->side[side].bounded = state->bounded[side] != 0;
        book->side[side].known_to = state->known_to[side];
    }
    book->first_id = state->first_id;
    book->last_id = state->last_id;
    book->in_step = state->in_step != 0;
    book->keep_gone = state->keep_gone != 0;
    symbol->book_socket = state->socket;
    return true;
}

bool md_replay_link(struct md_connection *socket,
                    const struct md_capture_link *state,
                    size_t size) {
    if (size == sizeof *state && state->order.hole_count <= MD_HOLE_COUNT_MAX) {
        socket->order = state->order;
    } else if (size != MD_CAPTURE_LINK_SIZE_MIN) {
        return false;
    }
    socket->sequence = state->sequence;
    return true;
}
