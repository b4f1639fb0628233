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
#define RIG_DEPTH 1024u
#include "rig.h"

#include "decode_kite.h"
#include "decode_openalgo.h"

static void rig_init(struct rig *rig) {
    rig_open(rig);
    rig_add(rig, "\0\x06:\x01", 4, 2, 0);
    rig_add(rig, "\0\x06:\x03", 4, 5, 12);
    rig_add(rig, "NSE:SBIN", 8, 8, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct rig rig;
    if (size == 0) {
        return 0;
    }
    md_decode_fn decode = data[0] & 1 ? md_decode_openalgo : md_decode_kite;
    size--;
    char *frame = exact_copy(data + 1, size);
    rig_init(&rig);
    rig.feed.channels = ~(uint32_t)(data[0] >> 1);
    enum md_frame_result result = decode(&rig.feed, frame, size, 7, &rig.connection);

    uint64_t count = rig_count(&rig);
    CHECK(count == rig.counters.records + rig.counters.statuses || count == rig.counters.records);
    CHECK((result != MD_FRAME_MALFORMED && result != MD_FRAME_CONTROL) || count == 0);
    CHECK(result != MD_FRAME_VALUE || rig.counters.statuses != 0);
    CHECK(rig.counters.trades == 0 && rig.counters.bars == 0);
    CHECK(count == 0 || rig_ends_frame(&rig));
    md_feed_free(&rig.feed);
    free(frame);
    return 0;
}
