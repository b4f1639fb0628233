/* libFuzzer harness of the Kraken decoders.
 *
 * Input: one byte (bit 0: v1), then frames, a line each, of one socket. Each lies in memory of its
 * very size, so AddressSanitizer sees any byte read beside it. Asserted besides: a malformed frame
 * publishes nothing, what is published ends a frame, and a book in step is never deeper than its
 * subscription.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -Inative/include -Inative/src \
 *       native/fuzz/fuzz_kraken.c native/src/{audience,book,feed,publish}.c -o fuzz && ./fuzz
 * corpus
 *
 * tests/unit/feed/kraken/test_fuzz.py runs it for a moment. */
#define RIG_DEPTH 64
#include "rig.h"

#include "../src/decode_kraken.c"

static void rig_init(struct rig *rig) {
    rig_open(rig);
    rig_add(rig, "BTC/USD", 7, 8, 8);
    rig_add(rig, "XBT/USD", 7, 0, 18);
}

static void check_books(const struct rig *rig) {
    for (uint32_t i = 0; i <= rig->feed.table_mask; i++) {
        const struct md_feed_symbol *symbol = &rig->feed.table[i];
        if (symbol->symbol_id == 0 || !symbol->book->in_step) {
            continue;
        }
        const struct kraken_own *own = symbol->own;
        CHECK(own != NULL && symbol->book->side[0].count <= own->depth);
        CHECK(symbol->book->side[1].count <= own->depth);
    }
}

/* Decode one frame, and hold what it published against what may be. */
static void decode(struct rig *rig, bool v1, const uint8_t *data, size_t size, int64_t ts_recv) {
    struct md_connection connection = {.number = 3, .socket = 1}; /* each frame's a fresh one */
    char *frame = exact_copy(data, size);
    uint64_t next = rig->ring.next, statuses = rig->counters.statuses;
    enum md_frame_result result = (v1 ? md_decode_kraken_v1 : md_decode_kraken)(
        &rig->feed, frame, size, ts_recv, &connection);
    uint64_t count = rig->ring.next - next;
    if (result == MD_FRAME_MALFORMED || result == MD_FRAME_CONTROL ||
        result == MD_FRAME_UNKNOWN_EVENT || result == MD_FRAME_TOO_LONG) {
        CHECK(count == 0);
    }
    CHECK(result != MD_FRAME_VALUE || rig->counters.statuses > statuses ||
          rig->counters.duplicates > 0);
    CHECK(rig->counters.records == rig_count(rig));
    CHECK(count == 0 || rig_ends_frame(rig));
    check_books(rig);
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct rig rig;
    if (size == 0) {
        return 0;
    }
    bool v1 = data[0] & 1;
    const uint8_t *at = data + 1, *end = data + size;
    rig_init(&rig);
    for (int64_t ts_recv = 7;; ts_recv++) {
        const uint8_t *line = memchr(at, '\n', (size_t)(end - at));
        decode(&rig, v1, at, (size_t)((line == NULL ? end : line) - at), ts_recv);
        if (line == NULL) {
            break;
        }
        at = line + 1;
    }
    md_feed_free(&rig.feed);
    return 0;
}
