/* The symbol directory: VENUE:SYMBOL -> dense id, and what never changes about a symbol.
 *
 * Segment mdsys.INSTANCE.symbols, always in MD_ROOT_DIR: the root from which the rest is found.
 * Written by the supervisor alone and only ever appended to, so readers need no lock: an entry is
 * whole before the index names it (S1 pairs with S2), and count is stored last.
 *
 *   header 4096 | entry[0..capacity], 128 bytes each, entry 0 unused | index u32[index_size]
 */
#ifndef MDSYS_SYMBOLS_H
#define MDSYS_SYMBOLS_H

#include <string.h>

#include "mdsys/atomic.h"
#include "mdsys/segment.h"
#include "mdsys/xxh3.h"

#define MD_NAME_SIZE_MAX 63u /* bytes of VENUE:SYMBOL */

struct md_symbol {
    uint64_t hash; /* xxh3_64 of name */
    uint32_t symbol_id;
    uint16_t ring;
    uint8_t name_size;  /* in [3, MD_NAME_SIZE_MAX] */
    uint8_t venue_size; /* name[venue_size] is the colon that ends the venue */
    uint8_t price_scale;
    uint8_t size_scale;
    uint8_t reserved0[6];
    uint64_t reserved1[5];
    char name[64]; /* VENUE:SYMBOL, NUL-terminated */
};

static_assert(sizeof(struct md_symbol) == 128, "meta line and name line");
static_assert(offsetof(struct md_symbol, symbol_id) == 8, "layout");
static_assert(offsetof(struct md_symbol, price_scale) == 16, "layout");
static_assert(offsetof(struct md_symbol, name) == 64, "layout");

struct md_symbols_header {
    struct md_segment_header segment;
    uint32_t capacity;   /* ids are in [1, capacity] */
    uint32_t count;      /* ids in use: [1, count] */
    uint32_t index_size; /* power of 2, >= 2 * capacity */
    uint32_t entry_stride;
    uint64_t entries_offset;
    uint64_t index_offset;
    uint32_t ring_count;
    uint32_t feed_count;
    uint64_t reserved0[3];
    char dir[MD_PATH_SIZE]; /* where the instance's other segments lie */
    char instance[MD_PATH_SIZE / 4];
};

static_assert(sizeof(struct md_symbols_header) == 512, "fits the header page");
static_assert(offsetof(struct md_symbols_header, capacity) == 128, "layout");
static_assert(offsetof(struct md_symbols_header, dir) == 192, "layout");

#define MD_SCHEMA_SYMBOLS UINT64_C(0x0001000000800200)

static inline enum md_segment_result md_symbols_verify(const struct md_symbols_header *symbols,
                                                       uint64_t mapped_size) {
    enum md_segment_result result =
        md_segment_verify(&symbols->segment, mapped_size, MD_SEGMENT_SYMBOLS, MD_SCHEMA_SYMBOLS);
    if (result != MD_SEGMENT_OK) {
        return result;
    }
    if (symbols->entry_stride != sizeof(struct md_symbol) || symbols->capacity == 0 ||
        symbols->index_size == 0 || (symbols->index_size & (symbols->index_size - 1)) != 0 ||
        symbols->index_size / 2 < symbols->capacity || symbols->ring_count == 0 ||
        md_load_acquire_u32(&symbols->count) > symbols->capacity ||
        symbols->ring_count > MD_RING_COUNT_MAX ||
        memchr(symbols->dir, 0, sizeof symbols->dir) == NULL ||
        memchr(symbols->instance, 0, sizeof symbols->instance) == NULL ||
        !md_segment_fits(&symbols->segment,
                         symbols->entries_offset,
                         sizeof(struct md_symbol),
                         (uint64_t)symbols->capacity + 1) ||
        !md_segment_fits(
            &symbols->segment, symbols->index_offset, sizeof(uint32_t), symbols->index_size)) {
        return MD_SEGMENT_BAD_GEOMETRY;
    }
    return MD_SEGMENT_OK;
}

static inline const struct md_symbol *md_symbols_entry(const struct md_symbols_header *symbols,
                                                       uint32_t symbol_id) {
    const char *base = (const char *)symbols + symbols->entries_offset;
    return (const struct md_symbol *)(const void *)(base +
                                                    (size_t)symbol_id * symbols->entry_stride);
}

static inline const uint32_t *md_symbols_index(const struct md_symbols_header *symbols) {
    return (const uint32_t *)(const void *)((const char *)symbols + symbols->index_offset);
}

/* Look a VENUE:SYMBOL up. size: in [0, 2^16). Returns NULL when it is not there (yet). O(1): the
 * index is at most half full. */
static inline const struct md_symbol *
md_symbols_find(const struct md_symbols_header *symbols, const char *name, size_t size) {
    if (size == 0 || size > MD_NAME_SIZE_MAX) {
        return NULL;
    }
    uint64_t hash = md_xxh3_64(name, size);
    uint32_t mask = symbols->index_size - 1;
    const uint32_t *index = md_symbols_index(symbols);
    for (uint32_t probe = 0; probe <= mask; probe++) {
        uint32_t id = md_load_acquire_u32(&index[((uint32_t)hash + probe) & mask]); /* S2 */
        if (id == 0 || id > symbols->capacity) {
            return NULL;
        }
        const struct md_symbol *entry = md_symbols_entry(symbols, id);
        if (entry->hash == hash && entry->name_size == size &&
            memcmp(entry->name, name, size) == 0) {
            return entry;
        }
    }
    return NULL;
}

#endif
