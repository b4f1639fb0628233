/* libFuzzer harness of the decoders of Kite and OpenAlgo.
 *
 * Input: one byte (bit 0: OpenAlgo; then the channels that are wanted), then the frame, which lies
 * in memory of its very size, so AddressSanitizer sees any byte read beside it. Asserted besides: a
 * frame that is refused as a whole publishes nothing, a value that is refused is told, and what is
 * published ends with the last record of something.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -Inative/include -Inative/src \
 *       native/fuzz/fuzz_brokers.c native/src/{decode_kite,decode_openalgo,feed,publish,book}.c \
 *       -o fuzz && ./fuzz corpus */
#include <stdio.h>
#include <stdlib.h>

#include "decode_kite.h"
#include "decode_openalgo.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "violated: %s\n", #condition);                                         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define DEPTH 1024u

/* A feed on private memory, one symbol for each decoder. */
struct rig {
    struct md_slot slots[DEPTH];
    struct md_ring_header header;
    struct md_ring_writer ring;
    struct md_counter_block counters;
    struct md_cell cells[3];
    struct md_feed feed;
    struct md_connection connection;
};

static void rig_init(struct rig *rig) {
    memset(rig, 0, sizeof *rig);
    rig->ring.slots = rig->slots;
    rig->ring.mask = DEPTH - 1;
    rig->ring.next = 1;
    rig->ring.limit = MD_NO_LIMIT;
    rig->ring.header = &rig->header;
    rig->connection.number = 3;
    rig->connection.socket = 1;
    CHECK(md_feed_init(&rig->feed, &rig->ring, 1, &rig->counters, 3) == 0);
    CHECK(md_feed_add_symbol(&rig->feed, "\0\x06:\x01", 4, 1, 0, 2, 0, &rig->cells[0]) == 0);
    CHECK(md_feed_add_symbol(&rig->feed, "\0\x06:\x03", 4, 2, 0, 5, 12, &rig->cells[1]) == 0);
    CHECK(md_feed_add_symbol(&rig->feed, "NSE:SBIN", 8, 3, 0, 8, 8, &rig->cells[2]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct rig rig;
    if (size == 0) {
        return 0;
    }
    md_decode_fn decode = data[0] & 1 ? md_decode_openalgo : md_decode_kite;
    size--;
    char *frame = malloc(size);
    if (frame == NULL) {
        return 0;
    }
    memcpy(frame, data + 1, size);
    rig_init(&rig);
    rig.feed.channels = ~(uint32_t)(data[0] >> 1);
    enum md_frame_result result = decode(&rig.feed, frame, size, 7, &rig.connection);

    uint64_t count = rig.ring.next - 1;
    CHECK(count == rig.counters.records + rig.counters.statuses || count == rig.counters.records);
    CHECK((result != MD_FRAME_MALFORMED && result != MD_FRAME_CONTROL) || count == 0);
    CHECK(result != MD_FRAME_VALUE || rig.counters.statuses != 0);
    CHECK(rig.counters.trades == 0 && rig.counters.bars == 0);
    if (count > 0) {
        CHECK((rig.slots[count & (DEPTH - 1)].word[2] >> 40 & MD_FLAG_LAST) != 0);
    }
    md_feed_free(&rig.feed);
    free(frame);
    return 0;
}
