#include "decode_coinbase.h"

#include "coinbase_advanced.h"
#include "coinbase_exchange.h"
#include "coinbase_positional.h"

enum md_frame_result md_decode_coinbase_exchange(struct md_feed *feed,
                                                 const char *frame,
                                                 size_t size,
                                                 int64_t ts_recv,
                                                 struct md_connection *connection) {
    if (size > MD_FRAME_SIZE_MAX) {
        return MD_FRAME_TOO_LONG;
    }
    if (positional_exchange(feed, connection, frame, size, ts_recv)) {
        return MD_FRAME_OK;
    }
    const struct exchange_context context = {feed, connection, ts_recv};
    return exchange_flat(&context, frame, size);
}

enum md_frame_result md_decode_coinbase_advanced(struct md_feed *feed,
                                                 const char *frame,
                                                 size_t size,
                                                 int64_t ts_recv,
                                                 struct md_connection *connection) {
    if (size > MD_FRAME_SIZE_MAX) {
        return MD_FRAME_TOO_LONG;
    }
    if (positional_advanced(feed, connection, frame, size, ts_recv)) {
        return MD_FRAME_OK;
    }
    struct advanced_context context = {feed, connection, ts_recv, MD_ABSENT, false};
    return advanced_flat(&context, frame, size);
}
