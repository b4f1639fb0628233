#include "decode_kraken.h"

#include "kraken_quick.h"
#include "kraken_v1.h"
#include "kraken_v2.h"

enum md_frame_result md_decode_kraken(struct md_feed *feed,
                                      const char *frame,
                                      size_t size,
                                      int64_t ts_recv,
                                      struct md_connection *connection) {
    const struct kraken_context context = {
        feed, connection, ts_recv, size < 8 ? frame : frame + size - 8};
    return kraken_quick(&context, frame, size) ? MD_FRAME_OK : v2_decode(&context, frame, size);
}

enum md_frame_result md_decode_kraken_v1(struct md_feed *feed,
                                         const char *frame,
                                         size_t size,
                                         int64_t ts_recv,
                                         struct md_connection *connection) {
    const struct kraken_context context = {
        feed, connection, ts_recv, size < 8 ? frame : frame + size - 8};
    return v1_decode(&context, frame, size);
}
