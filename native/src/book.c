#include "book.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS_FIRST = 32, SCAN_MAX = 8 };

struct md_book *md_book_create(bool by_rest) {
    struct md_book *book = calloc(1, sizeof *book);
    if (book != NULL) {
        book->by_rest = by_rest;
        book->keep_gone = by_rest;
    }
    return book;
}

void md_book_destroy(struct md_book *book) {
    if (book != NULL) {
        for (unsigned i = 0; i < 2; i++) {
            free(book->side[i].room);
        }
        free(book);
    }
}

void md_book_clear(struct md_book *book) {
    for (unsigned i = 0; i < 2; i++) {
        book->side[i].count = 0;
        book->side[i].bounded = false;
    }
    book->first_id = 0;
    book->last_id = 0;
    book->in_step = false;
    book->keep_gone = book->by_rest;
}

/* Whether a is the better price of the two, for this side. */
static inline bool better(bool asks, int64_t a, int64_t b) {
    return asks ? a < b : a > b;
}

/* The place of a price: the first, from the worst on, that is not worse. In [0, count]. */
static uint32_t find(const struct md_book_side *side, bool asks, int64_t price) {
    uint32_t end = side->count; /* all from here on are at least as good */
    uint32_t scan_to = end > SCAN_MAX ? end - SCAN_MAX : 0;
    while (end > scan_to) { /* most changes are near the top */
        if (better(asks, price, side->levels[end - 1].price)) {
            return end;
        }
        end--;
    }
    uint32_t begin = 0;
    while (begin < end) {
        uint32_t middle = begin + (end - begin) / 2;
        if (better(asks, price, side->levels[middle].price)) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return end;
}

/* Have room for one more at an end: there is some, or it is taken from the other end, or made. */
static bool make_room(struct md_book_side *side, bool in_front) {
    if (in_front ? side->front > 0 : side->front + side->count < side->capacity) {
        return true;
    }
    struct md_book_level *from = side->room, *to = from;
    uint32_t capacity = side->capacity;
    if (side->count >= capacity / 4 * 3) {
        capacity = capacity == 0 ? LEVELS_FIRST : 2 * capacity;
        to = malloc(capacity * sizeof *to);
        if (to == NULL) {
            return false;
        }
    }
    uint32_t front = (capacity - side->count + in_front) / 2;
    if (side->count != 0) { /* else there may be no room yet to move from */
        memmove(&to[front], side->levels, side->count * sizeof *to);
    }
    if (to != from) {
        free(from);
    }
    side->room = to;
    side->levels = &to[front];
    side->front = front;
    side->capacity = capacity;
    return true;
}

static void drop_from_front(struct md_book_side *side, uint32_t count) {
    side->levels += count;
    side->front += count;
    side->count -= count;
}

static void erase(struct md_book_side *side, uint32_t at) {
    struct md_book_level *levels = side->levels;
    if (at < side->count / 2) {
        memmove(&levels[1], &levels[0], at * sizeof *levels);
        drop_from_front(side, 1);
    } else {
        side->count--;
        memmove(&levels[at], &levels[at + 1], (side->count - at) * sizeof *levels);
    }
}

/* All levels are known up to this price; what was unknown before stays so. */
static void bound(struct md_book_side *side, bool asks, int64_t price) {
    if (!side->bounded || better(asks, price, side->known_to)) {
        side->known_to = price;
    }
    side->bounded = true;
}

/* Make room at a place by letting the worst level go. Returns the place as it is then. */
static uint32_t drop_worst(struct md_book_side *side, bool asks, uint32_t at) {
    bound(side, asks, side->levels[1].price);
    drop_from_front(side, 1);
    return at - 1;
}

static bool
insert(struct md_book_side *side, bool asks, uint32_t at, const struct md_book_level *level) {
    if (side->count == MD_BOOK_LEVELS_MAX) {
        if (at == 0) { /* worse than all: beyond what is known from now on */
            bound(side, asks, side->levels[0].price);
            return true;
        }
        at = drop_worst(side, asks, at);
    }
    bool in_front = at < side->count / 2;
    if (!make_room(side, in_front)) {
        return false;
    }
    struct md_book_level *levels = side->levels;
    if (in_front) {
        memmove(&levels[-1], &levels[0], at * sizeof *levels);
        side->levels = --levels;
        side->front--;
    } else {
        memmove(&levels[at + 1], &levels[at], (side->count - at) * sizeof *levels);
    }
    levels[at] = *level;
    side->count++;
    return true;
}

bool md_book_set(struct md_book *book,
                 unsigned flags,
                 int64_t price,
                 int64_t size,
                 uint64_t update_id,
                 int64_t orders) {
    struct md_book_side *side = md_book_side(book, flags);
    bool asks = side == &book->side[1];
    uint32_t at = find(side, asks, price);
    bool here = at < side->count && side->levels[at].price == price;
    struct md_book_level level = {price, size, update_id, orders};
    if (size == 0 && !book->keep_gone) {
        if (here) {
            erase(side, at);
        }
        return true;
    }
    if (here) {
        side->levels[at] = level;
        return true;
    }
    return insert(side, asks, at, &level);
}

void md_book_cut(struct md_book *book, uint32_t depth) {
    for (unsigned i = 0; i < 2; i++) {
        struct md_book_side *side = &book->side[i];
        if (side->count > depth) {
            drop_from_front(side, side->count - depth);
        }
    }
}

void md_book_complete(struct md_book *book) {
    book->in_step = true;
}

/* Merge one side: both are sorted, so one walk from the best on, into new room. */
static bool merge_side(struct md_book_side *side,
                       bool asks,
                       const struct md_book_level *theirs,
                       uint32_t their_count,
                       uint64_t snapshot_id,
                       bool cut_short) {
    uint32_t capacity = LEVELS_FIRST;
    while (capacity < side->count + their_count) {
        capacity *= 2;
    }
    struct md_book_level *out = malloc(capacity * sizeof *out);
    if (out == NULL) {
        return false;
    }
    uint32_t count = 0, mine = 0, their = 0;
    int64_t worst = their_count == 0 ? 0 : theirs[their_count - 1].price;
    while (mine < side->count || their < their_count) {
        const struct md_book_level *ours = mine < side->count ? md_book_level(side, mine) : NULL;
        const struct md_book_level *level = their < their_count ? &theirs[their] : NULL;
        if (ours != NULL && level != NULL && ours->price == level->price) {
            if (ours->update_id > snapshot_id) {
                level = ours;
            }
            mine++;
            their++;
        } else if (level == NULL || (ours != NULL && better(asks, ours->price, level->price))) {
            /* Only here. Older than a snapshot that would show it: it was gone by then. */
            bool shown = !cut_short || (their_count != 0 && !better(asks, worst, ours->price));
            level = ours->update_id > snapshot_id || !shown ? ours : NULL;
            mine++;
        } else {
            their++;
        }
        if (level != NULL && level->size != 0) {
            out[count++] = *level;
        }
    }
    for (uint32_t i = 0; i < count / 2; i++) { /* worst first */
        struct md_book_level swap = out[i];
        out[i] = out[count - 1 - i];
        out[count - 1 - i] = swap;
    }
    free(side->room);
    side->room = out;
    side->levels = out;
    side->front = 0;
    side->count = count;
    side->capacity = capacity;
    side->bounded = cut_short;
    side->known_to = worst;
    return true;
}

enum md_book_merge md_book_merge(struct md_book *book,
                                 const struct md_book_level *bids,
                                 uint32_t bid_count,
                                 const struct md_book_level *asks,
                                 uint32_t ask_count,
                                 uint64_t snapshot_id,
                                 uint32_t asked) {
    if (book->first_id > snapshot_id + 1) {
        return MD_BOOK_TOO_OLD;
    }
    if (!merge_side(&book->side[0],
                    false,
                    bids,
                    bid_count,
                    snapshot_id,
                    asked != 0 && bid_count >= asked) ||
        !merge_side(
            &book->side[1], true, asks, ask_count, snapshot_id, asked != 0 && ask_count >= asked)) {
        return MD_BOOK_NO_MEMORY;
    }
    md_book_cut(book, MD_BOOK_LEVELS_MAX);
    if (snapshot_id > book->last_id) {
        book->last_id = snapshot_id;
    }
    book->in_step = true;
    book->keep_gone = false;
    return MD_BOOK_MERGED;
}

static uint8_t
top_side(const struct md_book_side *side, bool asks, struct md_cell_level *out, bool *known) {
    uint8_t count = 0;
    for (uint32_t i = 0; i < side->count && count < MD_CACHE_LEVELS; i++) {
        const struct md_book_level *level = md_book_level(side, i);
        if (level->size != 0) {
            out[count++] = (struct md_cell_level){level->price, level->size};
        }
    }
    if (side->bounded &&
        (count < MD_CACHE_LEVELS || better(asks, side->known_to, out[count - 1].price))) {
        *known = false;
    }
    return count;
}

bool md_book_top(const struct md_book *book, struct md_book_top *top) {
    bool known = true;
    top->bid_count = top_side(&book->side[0], false, top->bid, &known);
    top->ask_count = top_side(&book->side[1], true, top->ask, &known);
    return known;
}
