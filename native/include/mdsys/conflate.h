/* Conflation: of what piled up, the newest quote of each symbol and the sum of its trades.
 *
 * Records stay in the order in which their symbol and kind was first touched. Nothing is merged
 * that must not be:
 * - quotes and trades only, and no part of a snapshot;
 * - not past a status that concerns the symbol or the whole ring: what follows a gap stays behind
 * it;
 * - trades only of equal conditions, with price and size, and as long as the sum fits.
 * A merged record bears MD_FLAG_CONFLATED, and the sequence, times, price and ids of the newest
 * that went into it; a merged trade the sum of the sizes, and the side only if all had the same.
 */
#ifndef MDSYS_CONFLATE_H
#define MDSYS_CONFLATE_H

#include "mdsys/record.h"

#define MD_CONFLATION_NONE UINT32_MAX

/* Where in the output a symbol's records stand that may still take more. */
struct md_conflation_entry {
    uint64_t round; /* of another round: nowhere */
    uint32_t trade; /* index, or MD_CONFLATION_NONE */
    uint32_t quote;
};

struct md_conflation {
    struct md_conflation_entry *entries; /* zeroed at first, by symbol id */
    uint64_t capacity;                   /* symbols of higher ids are not merged */
    uint64_t round;
};

/* Nothing of before is merged into any more: a new output begins, or the whole ring has a status.
 */
static inline void md_conflation_close(struct md_conflation *conflation) {
    conflation->round++;
}

static inline uint32_t *md_conflation_place(struct md_conflation *conflation,
                                            const struct md_record *record) {
    if (record->symbol_id >= conflation->capacity) {
        return NULL;
    }
    struct md_conflation_entry *entry = &conflation->entries[record->symbol_id];
    if (entry->round != conflation->round) {
        entry->round = conflation->round;
        entry->trade = MD_CONFLATION_NONE;
        entry->quote = MD_CONFLATION_NONE;
    }
    return record->kind == MD_KIND_TRADE ? &entry->trade : &entry->quote;
}

static inline void md_conflate_quote(struct md_record *into, const struct md_record *record) {
    *into = *record;
    into->flags |= MD_FLAG_CONFLATED;
}

/* Returns 0 when they may not be one trade. */
static inline int md_conflate_trade(struct md_record *into, const struct md_record *record) {
    int64_t size;
    if (into->body.trade.conditions != record->body.trade.conditions ||
        into->body.trade.size == MD_ABSENT || record->body.trade.size == MD_ABSENT ||
        into->body.trade.price == MD_ABSENT || record->body.trade.price == MD_ABSENT ||
        into->price_scale != record->price_scale || into->size_scale != record->size_scale ||
        __builtin_add_overflow(into->body.trade.size, record->body.trade.size, &size) ||
        size == MD_ABSENT) {
        return 0;
    }
    unsigned flags = record->flags;
    if (((into->flags ^ flags) & MD_FLAG_SIDE_MASK) != 0) {
        flags &= ~(unsigned)MD_FLAG_SIDE_MASK;
    }
    *into = *record;
    into->flags = (uint8_t)(flags | MD_FLAG_CONFLATED);
    into->body.trade.size = size;
    return 1;
}

/* Merge count records into out[0..n), which has room for n + count. Returns the new n; n + count
 * minus that were merged away. out is the same array from one md_conflation_close to the next but
 * for what status records close. */
static inline uint64_t md_conflate(struct md_conflation *conflation,
                                   struct md_record *out,
                                   uint64_t n,
                                   const struct md_record *records,
                                   uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        const struct md_record *record = &records[i];
        if (record->kind == MD_KIND_TRADE || record->kind == MD_KIND_QUOTE) {
            uint32_t *place = md_conflation_place(conflation, record);
            if (place != NULL && (record->flags & MD_FLAG_SNAPSHOT) != 0) {
                *place = MD_CONFLATION_NONE;
            } else if (place != NULL) {
                if (*place != MD_CONFLATION_NONE) {
                    if (record->kind == MD_KIND_QUOTE) {
                        md_conflate_quote(&out[*place], record);
                        continue;
                    }
                    if (md_conflate_trade(&out[*place], record)) {
                        continue;
                    }
                }
                *place = (uint32_t)n;
            }
        } else if (record->kind == MD_KIND_STATUS) {
            if (record->symbol_id == MD_SYMBOL_WHOLE_RING) {
                md_conflation_close(conflation);
            } else if (record->symbol_id < conflation->capacity) {
                conflation->entries[record->symbol_id].round = 0; /* rounds begin at 1 */
            }
        }
        out[n++] = *record;
    }
    return n;
}

#endif
