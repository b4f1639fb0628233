/* After a loss: the newest values among what was missed, from the last-value cache. */
#ifndef MDSYS_REFRESH_H
#define MDSYS_REFRESH_H

#include "mdsys/cache.h"
#include "mdsys/poll.h"
#include "mdsys/symbols.h"

/* How far a refresh has come; zeroed to begin one. */
struct md_refresh {
    uint32_t symbol_id; /* done up to this one */
    uint32_t busy;      /* cells that were half-written: only a dead feed leaves them so */
};

static inline struct md_source *md_poller_source_of(const struct md_poller *poller, uint32_t ring) {
    for (uint32_t i = 0; i < poller->source_count; i++) {
        if (poller->sources[i].ring == ring) {
            return &poller->sources[i];
        }
    }
    return NULL;
}

/* Whether the poller has missed anything that a refresh could bring. */
static inline int md_poller_has_missed(const struct md_poller *poller) {
    for (uint32_t i = 0; i < poller->source_count; i++) {
        const struct md_ring_reader *reader = &poller->sources[i].reader;
        if (reader->missed != reader->resumed) {
            return 1;
        }
    }
    return 0;
}

/* Copy the last trades and quotes among what the poller has missed into out, flagged as snapshot.
 *
 * What is returned here the ring has not brought and never will; what is newer it brings. count:
 * room in out, >= 2. Returns how many, in [0, count]; more may come until refresh->symbol_id has
 * passed the last symbol, and then the missed stretches are forgotten, unless a cell was busy. */
static inline uint64_t md_poller_refresh(struct md_poller *poller,
                                         const struct md_symbols_header *symbols,
                                         const struct md_cache_header *cache,
                                         struct md_refresh *refresh,
                                         struct md_record *out,
                                         uint64_t count) {
    static const enum md_cache_part parts[] = {MD_CACHE_TRADE, MD_CACHE_QUOTE};
    uint32_t last = md_load_acquire_u32(&symbols->count);
    last = last < symbols->capacity ? last : symbols->capacity;
    uint64_t n = 0;
    while (refresh->symbol_id < last && count - n >= 2) {
        uint32_t id = ++refresh->symbol_id;
        if (poller->wanted != NULL && !md_bitmap_has(poller->wanted, poller->wanted_count, id)) {
            continue;
        }
        struct md_source *source = md_poller_source_of(poller, md_symbols_entry(symbols, id)->ring);
        if (source == NULL || source->reader.missed == source->reader.resumed) {
            continue;
        }
        const struct md_cell *cell = md_cache_cell(cache, id);
        for (unsigned part = 0; part < 2; part++) {
            enum md_cache_result result = md_cell_load(cell, parts[part], &out[n]);
            refresh->busy += result == MD_CACHE_BUSY;
            if (result == MD_CACHE_OK && out[n].seq >= source->reader.missed &&
                out[n].seq < source->reader.resumed) {
                out[n++].flags |= MD_FLAG_SNAPSHOT;
            }
        }
    }
    if (refresh->symbol_id >= last && refresh->busy == 0) {
        for (uint32_t i = 0; i < poller->source_count; i++) {
            poller->sources[i].reader.missed = poller->sources[i].reader.resumed;
        }
    }
    md_count(&poller->page->refreshed, n);
    return n;
}

#endif
