/* A symbol's whole book, as its feed keeps it: private memory, one thread.
 *
 * Two sides, each a sorted array with the best price last and room at both ends: a change moves the
 * levels on the nearer side of it, so those at the top, which are most, move little, and a snapshot
 * may begin with the best or with the worst. It grows by doubling, up to MD_BOOK_LEVELS_MAX levels
 * a side, and then lets the worst go; after it has grown nothing allocates.
 *
 *   void ──snapshot──▶ in step ──hole, checksum, lost connection──▶ void
 *
 * Two ways to a snapshot. By stream: it replaces whatever stands here. By REST: changes are applied
 * while the book is void too, each level with the id of its last change, removed ones kept as
 * levels of size 0; when the answer comes, of each level the newer wins. So changes need not be
 * buffered, and an answer may be minutes old. Rules: Binance, "How to manage a local order book
 * correctly" (spot and futures), read 2026-11.
 *
 * An answer of so many levels a side as were asked for says nothing beyond its worst price
 * (known_to): there only what has changed since is known. When the top that readers see reaches
 * beyond, the book is marked partial and refreshed by another answer, merged in the same way. */
#ifndef MDSYS_BOOK_H
#define MDSYS_BOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mdsys/cache.h"
#include "mdsys/record.h"

#define MD_BOOK_LEVELS_MAX 16384u /* of a side */

struct md_book_level {
    int64_t price;
    int64_t size;       /* 0: gone, kept while a REST answer may come */
    uint64_t update_id; /* of its last change; 0: the venue numbers none */
    int64_t orders;     /* MD_ABSENT: the venue sends none */
};

struct md_book_side {
    struct md_book_level *room;   /* for capacity levels; NULL: none yet */
    struct md_book_level *levels; /* &room[front]: worst first */
    uint32_t count;
    uint32_t capacity;
    uint32_t front;
    int64_t known_to; /* with `bounded`: the worst price up to which all levels are known */
    bool bounded;
};

struct md_book {
    struct md_book_side side[2]; /* 0 bids, 1 asks */
    uint64_t first_id;           /* changes are here without a hole from this id on; 0: none yet */
    uint64_t last_id;            /* up to this one */
    bool in_step;
    bool by_rest;
    bool keep_gone; /* a REST answer is awaited: removed levels stay, as of size 0 */
};

/* by_rest: its snapshots come by REST. Returns NULL when there is no memory. */
struct md_book *md_book_create(bool by_rest);
void md_book_destroy(struct md_book *book); /* NULL is fine */

/* Forget everything; the book is void. */
void md_book_clear(struct md_book *book);

/* flags: MD_FLAG_BUY or MD_FLAG_SELL. */
static inline struct md_book_side *md_book_side(struct md_book *book, unsigned flags) {
    return &book->side[(flags & MD_FLAG_SIDE_MASK) == MD_FLAG_SELL];
}

/* The i-th level of a side, best first, removed ones among them. i: in [0, count). */
static inline const struct md_book_level *md_book_level(const struct md_book_side *side,
                                                        uint32_t i) {
    return &side->levels[side->count - 1 - i];
}

/* Set one level; size 0 removes it. False: there was no memory, the book must be voided. */
bool md_book_set(struct md_book *book,
                 unsigned flags,
                 int64_t price,
                 int64_t size,
                 uint64_t update_id,
                 int64_t orders);

/* Keep the best depth levels of each side. */
void md_book_cut(struct md_book *book, uint32_t depth);

/* The snapshot that replaces everything is here, each of its levels set since md_book_clear. */
void md_book_complete(struct md_book *book);

enum md_book_merge {
    MD_BOOK_MERGED = 0,
    MD_BOOK_TOO_OLD = 1, /* changes between it and the first that is here are missing */
    MD_BOOK_NO_MEMORY = 2,
};

/* Merge a REST snapshot that covers everything up to snapshot_id. bids, asks: best first, sizes >
 * 0. asked: how many levels were asked for; 0: all there are. */
enum md_book_merge md_book_merge(struct md_book *book,
                                 const struct md_book_level *bids,
                                 uint32_t bid_count,
                                 const struct md_book_level *asks,
                                 uint32_t ask_count,
                                 uint64_t snapshot_id,
                                 uint32_t asked);

/* Fill in levels and counts of the top. Returns whether it lies within what is known. */
bool md_book_top(const struct md_book *book, struct md_book_top *top);

#endif
