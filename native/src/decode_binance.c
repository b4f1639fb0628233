#include "decode_binance.h"

#include "binance_flat.h"
#include "binance_positional.h"

/* Flat: one function for the fast way, ring and cache included; left to themselves compilers call
 * some of its pieces, which costs a tenth of the time and, with clang, a third. */
#define DECODER __attribute__((flatten)) enum md_frame_result

POSITIONAL_INLINE enum md_frame_result
decode(const struct binance_context *context, const char *frame, size_t size) {
    if (size > MD_FRAME_SIZE_MAX) {
        return MD_FRAME_TOO_LONG;
    }
    return positional_decode(context, frame, size) ? MD_FRAME_OK
                                                   : flat_decode(context, frame, size);
}

DECODER md_decode_binance_spot(struct md_feed *feed,
                               const char *frame,
                               size_t size,
                               int64_t ts_recv,
                               struct md_connection *connection) {
    const struct binance_context context = {feed, ts_recv, connection, .futures = false};
    return decode(&context, frame, size);
}

DECODER md_decode_binance_usdm(struct md_feed *feed,
                               const char *frame,
                               size_t size,
                               int64_t ts_recv,
                               struct md_connection *connection) {
    const struct binance_context context = {feed, ts_recv, connection, .futures = true};
    return decode(&context, frame, size);
}

DECODER md_decode_binance_coinm(struct md_feed *feed,
                                const char *frame,
                                size_t size,
                                int64_t ts_recv,
                                struct md_connection *connection) {
    const struct binance_context context = {
        feed, ts_recv, connection, .futures = true, .coinm = true};
    return decode(&context, frame, size);
}
