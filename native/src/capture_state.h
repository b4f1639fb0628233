/* What a feed knows when a recorder begins, and how a replay learns it: ids, holes, books.
 *
 * Frames alone do not tell which trades are duplicates, where a hole is or whether a checksum
 * holds: that follows from what came before. So the state goes into the capture, as entries of its
 * own between the frames: small things of all symbols at once, books piece by piece, since those of
 * 10,000 symbols are more than the ring holds. What is read here may be anything: it comes from a
 * file. */
#ifndef MDSYS_CAPTURE_STATE_H
#define MDSYS_CAPTURE_STATE_H

#include "capture.h"
#include "feed.h"

/* A symbol; then its name without the venue, what names it on the wire, and the decoder's own. */
struct md_capture_symbol {
    uint32_t symbol_id;
    uint32_t ring; /* index among the feed's */
    uint8_t price_scale;
    uint8_t size_scale;
    uint8_t price_decimals;
    uint8_t size_decimals;
    uint8_t name_size;
    uint8_t wire_size;
    uint16_t own_size;
    uint64_t venue_trade_id;
    uint64_t venue_book_id;
    uint64_t venue_quote_id;
    struct md_order_state trades;
    struct md_order_state books;
    struct md_record trade; /* of the cell; what comes again is held against it */
    struct md_record quote;
};

static_assert(sizeof(struct md_capture_symbol) == 296, "no padding goes into files");

/* A book; then its levels as struct md_book_level, bids before asks, the worst first. */
struct md_capture_book {
    uint32_t symbol_id;
    uint32_t socket;
    uint32_t count[2];
    uint64_t first_id;
    uint64_t last_id;
    int64_t known_to[2];
    uint8_t bounded[2];
    uint8_t in_step;
    uint8_t keep_gone;
    uint32_t reserved;
};

static_assert(sizeof(struct md_capture_book) == 56, "no padding goes into files");

/* A socket. Files of before end it at MD_CAPTURE_LINK_SIZE_MIN: no frame of it is missing. */
struct md_capture_link {
    uint32_t venue;
    uint32_t reserved;
    uint64_t sequence;
    struct md_order_state order;
};

#define MD_CAPTURE_LINK_SIZE_MIN offsetof(struct md_capture_link, order)

static_assert(sizeof(struct md_capture_link) == 80, "no padding goes into files");
static_assert(MD_CAPTURE_LINK_SIZE_MIN == 16, "it is in files");

/* Tell of every symbol of a venue. */
void md_capture_symbols(struct md_capture *capture,
                        uint32_t venue,
                        const struct md_feed *feed,
                        const struct md_symbols_header *symbols,
                        int64_t now_ns);

/* Tell of one. */
void md_capture_symbol(struct md_capture *capture,
                       uint32_t venue,
                       const struct md_feed *feed,
                       const struct md_feed_symbol *symbol,
                       const struct md_symbols_header *symbols,
                       int64_t now_ns);

/* Tell of a venue's books from *place on, at most about size_max bytes of them and not into the
 * last half of the ring. Returns whether these were all. */
bool md_capture_books(struct md_capture *capture,
                      uint32_t venue,
                      const struct md_feed *feed,
                      uint32_t *place,
                      size_t size_max,
                      int64_t now_ns);

/* Whether so many bytes are what md_capture_symbol wrote, and what names the symbol. */
bool md_capture_symbol_is_whole(const struct md_capture_symbol *state, size_t size);

/* Put a symbol of a replaying feed into the state that was told. Returns false when there is no
 * memory, or it is none. */
bool md_replay_symbol(struct md_feed_symbol *symbol,
                      const struct md_capture_symbol *state,
                      size_t size);
bool md_replay_book(struct md_feed_symbol *symbol,
                    const struct md_capture_book *state,
                    size_t size);

/* The same of a socket. Returns false when it is none. */
bool md_replay_link(struct md_connection *socket, const struct md_capture_link *state, size_t size);

#endif
