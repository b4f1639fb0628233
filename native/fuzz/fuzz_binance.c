/* libFuzzer harness of the Binance decoders.
 *
 * Input: one byte for the market (bit 0: futures; the rest: with how many decimals prices and sizes
 * came before, which the USD-M scanner guesses by), then the frame. The frame lies in memory of its
 * very size, so AddressSanitizer sees any byte read beside it. Asserted besides: a refused frame
 * publishes nothing but the status that says so, and what the positional scanner takes the flat
 * one takes alike, record for record.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -Inative/include -Inative/src \
 *       native/fuzz/fuzz_binance.c native/src/{feed,publish,book}.c -o fuzz && ./fuzz corpus
 * native/fuzz/cases
 *
 * A find goes into native/fuzz/cases under a name that tells what it was;
 * tests/unit/feed/binance/test_fuzz_cases.py replays them. */
#define RIG_DEPTH 64
#include "rig.h"

#include "../src/decode_binance.c" /* both scanners by themselves */

static void rig_init(struct rig *rig, uint8_t decimals) {
    rig_open(rig);
    rig_add(rig, "BTCUSDT", 7, 8, 8);
    rig_add(rig, "A", 1, 0, 18);
    for (uint32_t i = 0; i <= rig->feed.table_mask; i++) {
        rig->feed.table[i].price_decimals = rig->feed.table[i].size_decimals = decimals;
    }
    /* Ids seen before: some frames continue, most do not. */
    rig->cells[0].venue_trade_id = 3735683258;
    rig->cells[0].venue_book_id = 50093239202;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct rig both, flat;
    if (size == 0) {
        return 0;
    }
    bool futures = data[0] & 1;
    size--;
    char *frame = exact_copy(data + 1, size);
    rig_init(&both, (data[0] >> 1) % 9);
    rig_init(&flat, 0);

    enum md_frame_result result =
        futures ? md_decode_binance_usdm(&both.feed, frame, size, 7, &both.connection)
                : md_decode_binance_spot(&both.feed, frame, size, 7, &both.connection);
    const struct binance_context context = {&flat.feed, 7, &flat.connection, futures, false};
    enum md_frame_result flat_result =
        size > MD_FRAME_SIZE_MAX ? MD_FRAME_TOO_LONG : flat_decode(&context, frame, size);
    CHECK(result == flat_result);

    uint64_t count = rig_count(&both);
    CHECK(count == both.counters.records);
    if (result != MD_FRAME_OK && result != MD_FRAME_VALUE) {
        CHECK(count == 0);
    }
    if (result == MD_FRAME_VALUE) { /* told, after the gap if there was one */
        CHECK(count == both.counters.statuses && count == 1 + both.counters.gaps);
    }
    CHECK(count == 0 || rig_ends_frame(&both));
    /* A frame that the positional scanner gave up on may have left claimed slots behind. */
    for (uint64_t seq = 1; seq < both.ring.next; seq++) {
        uint64_t slot = seq & (RIG_DEPTH - 1);
        CHECK(memcmp(&both.slots[slot], &flat.slots[slot], sizeof both.slots[slot]) == 0);
    }
    for (size_t i = 0; i < RIG_DEPTH; i++) { /* and nothing else: those are not released */
        CHECK(both.slots[i].seq < both.ring.next || both.slots[i].seq % RIG_DEPTH != i);
    }
    CHECK(both.ring.next == flat.ring.next);
    CHECK(memcmp(both.cells, flat.cells, sizeof both.cells) == 0);

    md_feed_free(&both.feed);
    md_feed_free(&flat.feed);
    free(frame);
    return 0;
}
