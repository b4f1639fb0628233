/* The writing side's life cycle of segments: lay out, publish, take over, repair. Not for readers.
 */
#ifndef MDSYS_SRC_SEGMENT_H
#define MDSYS_SRC_SEGMENT_H

#include "mdsys/cache.h"
#include "mdsys/counters.h"
#include "mdsys/reader_page.h"
#include "mdsys/ring.h"
#include "mdsys/symbols.h"

/* Bytes a segment needs. */
uint64_t md_ring_size(uint64_t depth);
uint64_t md_symbols_size(uint32_t capacity);
uint64_t md_cache_size(uint32_t capacity);
uint64_t md_counters_size(uint32_t block_count);

/* Lay out a zeroed mapping. The magic stays 0 until md_segment_publish. */
void md_ring_create(
    struct md_ring_header *header, uint64_t size, uint64_t depth, uint32_t index, uint32_t feed);
void md_symbols_create(struct md_symbols_header *symbols,
                       uint64_t size,
                       uint32_t capacity,
                       uint32_t ring_count,
                       uint32_t feed_count,
                       const char *dir,
                       const char *instance);
void md_cache_create(struct md_cache_header *cache, uint64_t size, uint32_t capacity);
void md_counters_create(struct md_counters_header *counters, uint64_t size, uint32_t block_count);

/* name: at most 31 bytes. threshold: of MD_SHARE_ONE, >= 1. core: MD_CORE_NONE or one. */
void md_reader_page_create(struct md_reader_page *page,
                           uint64_t size,
                           uint64_t reader_id,
                           const char *name,
                           uint32_t batch_size,
                           uint32_t adaptive,
                           uint32_t threshold,
                           uint32_t max_queue_size,
                           uint32_t core);

/* Readers may attach from now on. */
void md_segment_publish(struct md_segment_header *segment, int64_t now_ns);

/* Take a segment over: epoch + 1, ours. */
void md_segment_take_over(struct md_segment_header *segment,
                          uint32_t pid,
                          uint64_t start_ticks,
                          int64_t now_ns);

void md_segment_set_state(struct md_segment_header *segment, enum md_segment_state state);

/* Before unlinking: whoever is attached sees it, whoever comes is refused. */
void md_segment_supersede(struct md_segment_header *segment);

/* Become a ring's writer, behind whoever wrote last, killed or not. Slots that were claimed and
 * never released need no repair: their sequence is below what readers wait for. From the second
 * epoch on, the first record is a writer_restarted status. */
void md_ring_take_over(struct md_ring_header *header,
                       struct md_ring_writer *writer,
                       uint32_t pid,
                       uint64_t start_ticks,
                       int64_t now_ns);

struct md_cache_repair {
    uint32_t torn;        /* cells that were being written: the part is the ring's newest again */
    uint32_t republished; /* records that reached the cell and not the ring: in the ring now */
};

/* Make the cells of one ring's symbols whole again and agree with the ring. Call after
 * md_ring_take_over, before anything else is published. */
struct md_cache_repair md_cache_repair(struct md_cache_header *cache,
                                       const struct md_symbols_header *symbols,
                                       uint32_t ring_index,
                                       struct md_ring_writer *writer);

/* Append a symbol. Returns its id, or 0 when the directory is full, the name is there already or
 * has no VENUE: in front. size: in [3, MD_NAME_SIZE_MAX]. */
uint32_t md_symbols_add(struct md_symbols_header *symbols,
                        const char *name,
                        size_t size,
                        uint32_t ring,
                        unsigned price_scale,
                        unsigned size_scale);

#endif
