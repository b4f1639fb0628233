/* A consumer whose ring is never silent and never has anything for it: does it look at its clock?
 *
 *     filtered_idle spin | adaptive | park
 *
 * The writer publishes the next unwanted record whenever the consumer has read the last one, from
 * inside the consumer's own stores, up to RECORDS. Prints how many it had published when the run
 * came back. Forbidden: a run that comes back only because there was nothing more.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void after_store(void);
#define MD_AFTER_STORE() after_store()

#include "../src/segment.c"
#include "mdsys/consumer.h"

enum { DEPTH = 1024, RECORDS = 100000000, UNWANTED = 2 };

static struct md_ring_writer ring;
static struct md_source source;
static int running, inside;

static void after_store(void) {
    if (running && !inside && source.reader.next == ring.next && ring.next <= RECORDS) {
        inside = 1;
        struct md_record record = {0};
        record.symbol_id = UNWANTED;
        record.kind = MD_KIND_TRADE;
        md_ring_publish(&ring, &record);
        inside = 0;
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        return 64;
    }
    static struct md_reader_page page;
    static struct md_record batch[64];
    uint64_t size = md_ring_size(DEPTH);
    struct md_ring_header *header = (struct md_ring_header *)aligned_alloc(4096, size);
    if (header == NULL) {
        return 3;
    }
    memset(header, 0, size);
    md_ring_create(header, size, DEPTH, 0, 0);
    md_segment_publish(&header->segment, 1);
    md_ring_take_over(header, &ring, 1, 1, 1);
    md_source_init(&source, header, &page, 0, MD_SHARE_ONE);
    uint64_t wanted[1] = {1u << 1};
    struct md_consumer consumer;
    memset(&consumer, 0, sizeof consumer);
    consumer.poller.sources = &source;
    consumer.poller.source_count = 1;
    consumer.poller.wanted = wanted;
    consumer.poller.wanted_count = 64;
    consumer.poller.page = &page;
    consumer.batch = batch;
    consumer.adaptive = 1;
    consumer.wait = strcmp(argv[1], "spin") == 0   ? MD_WAIT_SPIN
                    : strcmp(argv[1], "park") == 0 ? MD_WAIT_PARK
                                                   : MD_WAIT_ADAPTIVE;
    md_consumer_begin(&consumer, 8, 64);
    running = 1;
    enum md_consumer_result result = md_consumer_run(&consumer, md_monotonic_ns());
    running = 0;
    printf("result %d published %llu\n", (int)result, (unsigned long long)(ring.next - 1));
    free(header);
    return result == MD_CONSUMER_TIME && ring.next <= RECORDS ? 0 : 1;
}
