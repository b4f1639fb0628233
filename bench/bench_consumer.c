/* For bench_consumer.py: a consumer's native loop, and the C side of the handler that it compares.
 * A shared library, whose functions Python calls.
 */
#include "rings.h"

#include "mdsys/consumer.h"

enum { DEPTH = 16384, BATCH_MAX = 1024 };

/* What the handler keeps: the mid and its squared changes, turnover, and who was the stronger. */
struct book {
    double mid;
    double variance;
    double turnover;
    int64_t volume;
    int64_t position;
    int64_t quotes;
    int64_t trades;
};

/* A record at a time, as @mdsys.handler has it; both compilers inline it into the loop over a
 * batch. */
static inline void on_tick(const struct md_record *tick, struct book *book) {
    if (tick->kind == MD_KIND_QUOTE) {
        double mid =
            0.5 * ((double)tick->body.quote.bid_price + (double)tick->body.quote.ask_price);
        if (book->quotes != 0) {
            double change = mid - book->mid;
            book->variance += change * change;
        }
        book->mid = mid;
        book->quotes += 1;
    } else if (tick->kind == MD_KIND_TRADE) {
        book->volume += tick->body.trade.size;
        book->turnover += (double)tick->body.trade.price * (double)tick->body.trade.size;
        if ((double)tick->body.trade.price > book->mid) {
            book->position += tick->body.trade.size;
        } else {
            book->position -= tick->body.trade.size;
        }
        book->trades += 1;
    }
}

uint64_t bench_handle(const struct md_record *records, uint64_t count, void *state) {
    for (uint64_t i = 0; i < count; i++) {
        on_tick(&records[i], state);
    }
    return count;
}

/* A ring, a consumer of it and two handlers: the one that is measured, and one that ends the turn.
 */
struct lane {
    struct md_ring_writer writer;
    struct md_source source;
    struct md_reader_page page;
    struct md_consumer consumer;
    struct md_handler handlers[2];
    struct md_record batch[BATCH_MAX];
    uint64_t left; /* of the turn */
    uint32_t stop;
};

static uint64_t end_turn(const struct md_record *records, uint64_t count, void *state) {
    (void)records;
    struct lane *lane = state;
    lane->left -= count;
    lane->stop = lane->left == 0;
    return count;
}

/* batch: most records at a time, in [1, BATCH_MAX]. Lives as long as the program. */
struct lane *bench_open(md_handler_fn call, void *state, uint32_t batch) {
    struct lane *lane = bench_shared(sizeof *lane);
    struct md_ring_header *header = bench_ring(bench_shared(md_ring_size(DEPTH)), DEPTH, 0);
    lane->writer = md_writer_init(header, 1);
    md_source_init(&lane->source, header, &lane->page, 0, MD_SHARE_ONE);
    lane->handlers[0] = (struct md_handler){.call = call, .state = state};
    lane->handlers[1] = (struct md_handler){.call = end_turn, .state = lane};
    lane->consumer = (struct md_consumer){
        .poller = {.sources = &lane->source, .source_count = 1, .page = &lane->page},
        .waiter = {.stop = &lane->stop},
        .wait = MD_WAIT_SPIN,
        .batch = lane->batch,
        .handlers = lane->handlers,
        .handler_count = 2,
    };
    md_consumer_begin(&lane->consumer, batch, batch);
    return lane;
}

/* Publish count records, in [1, DEPTH], and have them handled. Returns the ns that the loop took,
 * -1 when it did anything else than that. */
int64_t bench_turn(struct lane *lane, const struct md_record *records, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        md_ring_publish(&lane->writer, &records[i]);
    }
    md_ring_flush(&lane->writer, 0);
    lane->left = count;
    lane->stop = 0;
    uint64_t received = lane->page.received + count;
    int64_t start_ns = bench_now_ns();
    enum md_consumer_result result;
    do {
        result = md_consumer_run(&lane->consumer, INT64_MAX);
    } while (result == MD_CONSUMER_TIME);
    int64_t took_ns = bench_now_ns() - start_ns;
    return result == MD_CONSUMER_STOP && lane->page.received == received ? took_ns : -1;
}
