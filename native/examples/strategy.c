/* A strategy in C: attaches to a running instance and prints its ticks.
 *
 *     cc -O2 -I "$(python -c 'import mdsys; print(mdsys.get_include())')" strategy.c -o strategy
 *     ./strategy default BINANCE:BTCUSDT
 *
 * It needs the headers alone, maps everything read-only, and begins with the next record. Nobody
 * sees it read; consumer.c registers, waits at the doorbell, and has policies and handlers.
 */
#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mdsys/attach.h"
#include "mdsys/decimal.h"
#include "mdsys/poll.h"

#define BATCH 256

static volatile sig_atomic_t stopped;

static void stop(int signal_number) {
    (void)signal_number;
    stopped = 1;
}

/* ---- what the strategy does ---------------------------------------------------------------- */

static const char *decimal(char out[MD_DECIMAL_TEXT_SIZE], int64_t value, unsigned scale) {
    if (value == MD_ABSENT) {
        return "-";
    }
    md_decimal_format(value, scale, out);
    return out;
}

static const char *side(const struct md_record *tick) {
    static const char *const names[] = {"-", "buy", "sell", "-"};
    return names[tick->flags & MD_FLAG_SIDE_MASK];
}

static void on_tick(const struct md_instance *md, const struct md_record *tick) {
    char a[MD_DECIMAL_TEXT_SIZE], b[MD_DECIMAL_TEXT_SIZE];
    char c[MD_DECIMAL_TEXT_SIZE], d[MD_DECIMAL_TEXT_SIZE];
    const char *name = "*"; /* a status of the whole ring */
    if (tick->symbol_id != MD_SYMBOL_WHOLE_RING) {
        name = md_symbols_entry(md->symbols, tick->symbol_id)->name;
    }
    switch (tick->kind) {
    case MD_KIND_TRADE:
        printf("%s trade %s %s x %s id %" PRId64 "\n",
               name,
               side(tick),
               decimal(a, tick->body.trade.price, tick->price_scale),
               decimal(b, tick->body.trade.size, tick->size_scale),
               tick->body.trade.trade_id);
        break;
    case MD_KIND_QUOTE:
        printf("%s quote %s x %s | %s x %s\n",
               name,
               decimal(a, tick->body.quote.bid_price, tick->price_scale),
               decimal(b, tick->body.quote.bid_size, tick->size_scale),
               decimal(c, tick->body.quote.ask_price, tick->price_scale),
               decimal(d, tick->body.quote.ask_size, tick->size_scale));
        break;
    case MD_KIND_LEVEL:
        printf("%s level %s %s x %s update %" PRId64 "\n",
               name,
               side(tick),
               decimal(a, tick->body.level.price, tick->price_scale),
               decimal(b, tick->body.level.size, tick->size_scale),
               tick->body.level.update_id);
        break;
    case MD_KIND_STATUS:
        printf("%s status %" PRId64 " lost %" PRId64 "..%" PRId64 "\n",
               name,
               tick->body.status.what,
               tick->body.status.first_lost,
               tick->body.status.last_lost);
        break;
    default:
        printf("%s kind %u\n", name, (unsigned)tick->kind);
    }
}

/* ---- the loop ------------------------------------------------------------------------------ */

static void rest(void) {
    const struct timespec moment = {.tv_sec = 0, .tv_nsec = 100 * 1000};
    fflush(stdout);
    nanosleep(&moment, NULL);
}

static void run(const struct md_instance *md, struct md_poller *poller) {
    static struct md_record ticks[BATCH];
    while (!stopped) {
        int replaced =
            md_instance_superseded(md); /* asked first: what came before is still to be read */
        uint64_t count = md_poller_read(poller, ticks, BATCH);
        for (uint64_t i = 0; i < count; i++) {
            on_tick(md, &ticks[i]);
        }
        if (count == 0 && replaced) {
            fprintf(stderr, "strategy: the instance was replaced or cleaned\n");
            return;
        }
        if (count == 0) {
            rest();
        }
    }
}

/* Mark the wanted symbols in a bitmap over ids. Returns NULL, having said why, on failure. */
static uint64_t *
choose(const struct md_instance *md, struct md_poller *poller, char *const *names, int count) {
    poller->wanted_count = ((uint64_t)md->symbols->capacity / 64 + 1) * 64;
    uint64_t *wanted = calloc(poller->wanted_count / 64, sizeof *wanted);
    for (int i = 0; wanted != NULL && i < count; i++) {
        const struct md_symbol *symbol = md_symbols_find(md->symbols, names[i], strlen(names[i]));
        if (symbol == NULL) {
            fprintf(stderr, "strategy: no symbol %s in this instance\n", names[i]);
            free(wanted);
            return NULL;
        }
        wanted[symbol->symbol_id / 64] |= UINT64_C(1) << (symbol->symbol_id % 64);
    }
    poller->wanted = wanted;
    return wanted;
}

int main(int argc, char **argv) {
    if (argc < 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s INSTANCE [VENUE:SYMBOL]...\n", argv[0]);
        return 64;
    }
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    static struct md_instance md;
    enum md_segment_result result = md_attach(&md, argv[1]);
    if (result != MD_SEGMENT_OK) {
        fprintf(stderr, "strategy: instance %s: %s\n", argv[1], md_segment_result_text(result));
        return 69;
    }
    static struct md_reader_page page; /* of counts */
    static struct md_source sources[MD_RING_COUNT_MAX];
    for (uint32_t i = 0; i < md.ring_count; i++) {
        md_source_init(&sources[i], md.ring[i], &page, 0, MD_SHARE_ONE); /* 0: only laps lose */
    }
    struct md_poller poller = {.sources = sources, .source_count = md.ring_count, .page = &page};
    uint64_t *wanted = NULL;
    if (argc > 2 && (wanted = choose(&md, &poller, argv + 2, argc - 2)) == NULL) {
        md_detach(&md);
        return 64;
    }
    fprintf(stderr, "strategy: attached to %s, %u rings\n", argv[1], md.ring_count);
    run(&md, &poller);

    fprintf(stderr, "strategy: %" PRIu64 " received, %" PRIu64 " lost\n", page.received, page.lost);
    free(wanted);
    md_detach(&md);
    return 0;
}
