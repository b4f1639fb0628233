/* libFuzzer harness of the Coinbase decoders.
 *
 * Input: one byte for the feed (bit 0: Advanced Trade), then the frame. The frame lies in memory of
 * its very size, so AddressSanitizer sees any byte read beside it. A book stands before, so that
 * frames which spoil it are told. Asserted besides: what the positional scanner takes the flat one
 * takes alike, record for record, and a frame that is refused whole publishes nothing but that its
 * book is out of step.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -Inative/include -Inative/src \
 *       native/fuzz/fuzz_coinbase.c native/src/{feed,publish,book}.c -o fuzz && ./fuzz corpus */
#include <stdio.h>
#include <stdlib.h>

#include "feed.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "violated: %s\n", #condition);                                         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#include "../src/decode_coinbase.c" /* both scanners by themselves */

#define DEPTH 64

/* A feed on private memory. */
struct rig {
    struct md_slot slots[DEPTH];
    struct md_ring_header header;
    struct md_ring_writer ring;
    struct md_counter_block counters;
    struct md_cell cells[2];
    struct md_connection connection;
    struct md_feed feed;
};

static const char book[] = "{\"type\":\"snapshot\",\"product_id\":\"BTC-USD\","
                           "\"bids\":[[\"1.5\",\"2\"]],\"asks\":[[\"1.6\",\"3\"]]}";

static void rig_init(struct rig *rig) {
    memset(rig, 0, sizeof *rig);
    rig->ring = (struct md_ring_writer){.slots = rig->slots,
                                        .mask = DEPTH - 1,
                                        .next = 1,
                                        .limit = MD_NO_LIMIT,
                                        .header = &rig->header};
    rig->connection = (struct md_connection){.number = 3, .socket = 1};
    CHECK(md_feed_init(&rig->feed, &rig->ring, 1, &rig->counters, 2) == 0);
    CHECK(md_feed_add_symbol(&rig->feed, "BTC-USD", 7, 1, 0, 8, 8, &rig->cells[0]) == 0);
    CHECK(md_feed_add_symbol(&rig->feed, "A", 1, 2, 0, 0, 18, &rig->cells[1]) == 0);
    CHECK(md_decode_coinbase_exchange(&rig->feed, book, sizeof book - 1, 6, &rig->connection) ==
          MD_FRAME_OK);
    rig->cells[0].venue_trade_id = 280231; /* some frames continue, most do not */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct rig both, flat;
    if (size == 0) {
        return 0;
    }
    bool advanced = data[0] & 1;
    size--;
    char *frame = malloc(size);
    if (frame == NULL) {
        return 0;
    }
    memcpy(frame, data + 1, size);
    rig_init(&both);
    rig_init(&flat);
    uint64_t before = both.ring.next;

    enum md_frame_result result, flat_result;
    if (advanced) {
        struct advanced_context context = {&flat.feed, &flat.connection, 7, MD_ABSENT};
        result = md_decode_coinbase_advanced(&both.feed, frame, size, 7, &both.connection);
        flat_result = advanced_flat(&context, frame, size);
    } else {
        const struct exchange_context context = {&flat.feed, &flat.connection, 7};
        result = md_decode_coinbase_exchange(&both.feed, frame, size, 7, &both.connection);
        flat_result = exchange_flat(&context, frame, size);
    }
    CHECK(result == flat_result);

    if (result == MD_FRAME_MALFORMED || result == MD_FRAME_CONTROL) {
        CHECK(both.ring.next - before == both.counters.book_resyncs);
    }
    CHECK(both.ring.next == flat.ring.next);
    CHECK(both.ring.next - 1 == both.counters.records);
    /* A frame that the positional scanner gave up on may have left claimed slots behind. */
    for (uint64_t seq = both.ring.next < DEPTH ? 1 : both.ring.next - DEPTH / 2;
         seq < both.ring.next;
         seq++) {
        uint64_t slot = seq & (DEPTH - 1);
        CHECK(memcmp(&both.slots[slot], &flat.slots[slot], sizeof both.slots[slot]) == 0);
    }
    CHECK(memcmp(both.cells, flat.cells, sizeof both.cells) == 0);
    CHECK(memcmp(&both.counters, &flat.counters, sizeof both.counters) == 0);
    CHECK(both.connection.sequence == flat.connection.sequence);

    md_feed_free(&both.feed);
    md_feed_free(&flat.feed);
    free(frame);
    return 0;
}
