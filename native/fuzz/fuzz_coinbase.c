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
#define RIG_DEPTH 64
#include "rig.h"

#include "../src/decode_coinbase.c" /* both scanners by themselves */

static const char book[] = "{\"type\":\"snapshot\",\"product_id\":\"BTC-USD\","
                           "\"bids\":[[\"1.5\",\"2\"]],\"asks\":[[\"1.6\",\"3\"]]}";

static void rig_init(struct rig *rig) {
    rig_open(rig);
    rig_add(rig, "BTC-USD", 7, 8, 8);
    rig_add(rig, "A", 1, 0, 18);
    CHECK(md_decode_coinbase_exchange(&rig->feed, book, sizeof book - 1, 6, &rig->connection) ==
          MD_FRAME_OK);
    rig->cells[0].venue_trade_id = 280231; /* some frames continue, most do not */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct rig both, flat;
    if (size == 0) {
        return 0;
    }
    bool advanced = data[0] & 1;
    size--;
    char *frame = exact_copy(data + 1, size);
    rig_init(&both);
    rig_init(&flat);
    uint64_t before = both.ring.next;

    enum md_frame_result result, flat_result;
    if (advanced) {
        struct advanced_context context = {
            .feed = &flat.feed, .connection = &flat.connection, .ts_recv = 7, .ts_sent = MD_ABSENT};
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
    CHECK(rig_count(&both) == both.counters.records);
    /* A frame that the positional scanner gave up on may have left claimed slots behind. */
    for (uint64_t seq = both.ring.next < RIG_DEPTH ? 1 : both.ring.next - RIG_DEPTH / 2;
         seq < both.ring.next;
         seq++) {
        uint64_t slot = seq & (RIG_DEPTH - 1);
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
