/* How long a writer waits for a lossless reader, by a clock that the test turns.
 *
 *     wait_budget creeps    a reader that moves by one record whenever the writer has spun a while
 *     wait_budget yields    one that catches up, but only while the writer has given its core away
 *
 * Prints: waited NS in a pass, ejected COUNT. Forbidden: a reader that is in the way for longer
 * than its share and stays; one that has caught up and is ejected all the same.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "audience.h"
#include "mdsys/bell.h"

enum { DEPTH = 1024, FLUSH_EVERY = 512, RECORDS = 100000 };

static struct md_reader_page page;
static struct md_ring_writer the_writer;
static int creeps;
static int64_t turned_ns;
static uint64_t pause_count;

static int64_t turned_clock(void) {
    return turned_ns;
}

static void turned_pause(void) {
    turned_ns += 40;
    if (creeps && ++pause_count % 200 == 0) {
        md_store_release_u64(&page.ring[0].next, page.ring[0].next + 1);
    }
}

static int turned_yield(void) {
    turned_ns += 4 * MD_LOSSLESS_WAIT_NS; /* a time slice of somebody else */
    if (!creeps) {
        md_store_release_u64(&page.ring[0].next, the_writer.next);
    }
    return 0;
}

#define md_monotonic_ns turned_clock
#define md_pause turned_pause
#define sched_yield turned_yield
#include "../src/audience.c"

int main(int argc, char **argv) {
    if (argc != 2) {
        return 64;
    }
    creeps = strcmp(argv[1], "creeps") == 0;
    size_t size = MD_PAGE_HEADER_SIZE + DEPTH * sizeof(struct md_slot);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return 3;
    }
    struct md_ring_header *header = (struct md_ring_header *)memory;
    header->depth = DEPTH;
    header->slots_offset = MD_PAGE_HEADER_SIZE;
    the_writer = md_writer_init(header, 1);
    static struct md_counter_block counters;
    static struct md_audience audience;
    md_audience_init(&audience, &the_writer, &counters, MD_LOSSLESS_WAIT_NS);
    page.ring[0].next = 1;
    md_audience_add(&audience, 7, &page.ring[0], 1);
    md_audience_flush(&audience, 0);
    int64_t longest_ns = 0, began_ns = 0;
    for (int i = 0; i < RECORDS; i++) {
        if (i % FLUSH_EVERY == 0) {
            md_audience_flush(&audience, 0);
            began_ns = turned_ns;
        }
        struct md_record record = {0};
        md_ring_publish(&the_writer, &record);
        longest_ns = turned_ns - began_ns > longest_ns ? turned_ns - began_ns : longest_ns;
    }
    printf("waited %lld in a pass, ejected %llu\n",
           (long long)longest_ns,
           (unsigned long long)counters.readers_ejected);
    return 0;
}
