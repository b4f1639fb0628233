/* Fetches the lines that frames to come will need while those before them are decoded.
 *
 * With many symbols a frame's symbol, and then its cell, lie in memory and in no cache: three
 * misses in a row cost several times what decoding does. A read mostly brings several frames, so
 * whose they are can be known beforehand:
 *
 *   8 frames ahead: find the name, fetch the symbol's line     4 ahead: fetch the cell's lines
 *
 * Nothing is decided here: what is fetched for nothing is no mistake. One thread's.
 */
#ifndef MDSYS_FORESEE_H
#define MDSYS_FORESEE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif

#include "feed.h"

enum {
    MD_FORESEE_SYMBOLS_MIN = 2048, /* fewer stay in a second-level cache */
    MD_FORESEE_AHEAD = 8,
    MD_FORESEE_CELL = 4,
    MD_FORESEE_PLACES = 16, /* a power of two above the frames that are foreseen at a time */
    MD_FORESEE_OFFSETS = 4, /* a venue's kinds of frames have their names in as many places */
    MD_FORESEE_LOOK_MAX = 256,
};

/* What the frames of one socket look like; zeroed but for the first two. */
struct md_foresight {
    const char *marker;                   /* what stands before a name; NULL: nothing to go by */
    size_t marker_size;                   /* at least 1 */
    uint16_t offsets[MD_FORESEE_OFFSETS]; /* where it stood lately; 0: nowhere yet */
    uint32_t replaced;                    /* how many of them have been written */
    uint32_t symbols;                     /* how many frames' symbols have been fetched */
    uint32_t cells;                       /* and how many's cells; at most as many */
    uint32_t hashes[MD_FORESEE_PLACES];   /* of their names */
};

static_assert(MD_FORESEE_AHEAD < MD_FORESEE_PLACES, "none is overwritten that is still to come");

static inline bool
md_foresee_marked(const struct md_foresight *sight, const char *frame, size_t size, size_t offset) {
    return offset + sight->marker_size <= size &&
           memcmp(frame + offset, sight->marker, sight->marker_size) == 0;
}

/* Return where the name stands, behind its marker; 0: not near the front. */
static inline size_t md_foresee_name(struct md_foresight *sight, const char *frame, size_t size) {
    for (unsigned i = 0; i < MD_FORESEE_OFFSETS; i++) {
        if (sight->offsets[i] != 0 && md_foresee_marked(sight, frame, size, sight->offsets[i])) {
            return sight->offsets[i] + sight->marker_size;
        }
    }
    size_t look = size < MD_FORESEE_LOOK_MAX ? size : MD_FORESEE_LOOK_MAX;
    const char *found = memmem(frame, look, sight->marker, sight->marker_size);
    if (found == NULL) {
        return 0;
    }
    size_t offset = (size_t)(found - frame);
    sight->offsets[sight->replaced++ % MD_FORESEE_OFFSETS] = (uint16_t)offset;
    return offset + sight->marker_size;
}

static inline struct md_feed_symbol *md_foresee_at(const struct md_feed *feed, uint32_t hash) {
    return &feed->table[hash & feed->table_mask]; /* mostly: others may stand in its way */
}

/* A read begins: what was foreseen in the last one is past. */
static inline void md_foresee_begin(struct md_foresight *sight) {
    sight->cells = sight->symbols;
}

/* Look at the frame that comes MD_FORESEE_AHEAD frames after the one in hand. */
static inline void md_foresee_symbol(const struct md_feed *feed,
                                     struct md_foresight *sight,
                                     const char *frame,
                                     size_t size) {
    size_t name = md_foresee_name(sight, frame, size);
    uint32_t hash = 0;
    if (name != 0 && size - name > MD_SHORT_NAME_SIZE_MAX) {
        size_t length = 0;
        while (length < MD_SHORT_NAME_SIZE_MAX && frame[name + length] != '"') {
            length++;
        }
        hash = (uint32_t)md_short_name_hash(md_short_name_of(frame + name, length));
        __builtin_prefetch(md_foresee_at(feed, hash));
    }
    sight->hashes[sight->symbols++ % MD_FORESEE_PLACES] = hash;
}

/* Go on to the cell of the next frame whose symbol has been looked at; there is one. */
static inline void md_foresee_cell(const struct md_feed *feed, struct md_foresight *sight) {
    uint32_t hash = sight->hashes[sight->cells++ % MD_FORESEE_PLACES];
    const struct md_feed_symbol *symbol = md_foresee_at(feed, hash);
    if (symbol->symbol_id != 0) {
        __builtin_prefetch(symbol->cell);
        __builtin_prefetch(&symbol->cell->trade);
        __builtin_prefetch(&symbol->cell->quote);
    }
}

#endif
