/* A consumer in C: registers, falls behind as it asked to, and proves what it received.
 *
 *     cc -O2 -I "$(python -c 'import mdsys; print(mdsys.get_include())')" consumer.c -o consumer
 *     ./consumer default conflate park BINANCE:BTCUSDT
 *
 * POLICY: drop_oldest, conflate or lossless; WAIT: adaptive, spin or park. Without a daemon it goes
 * on unregistered, unless it is to be lossless. SIGTERM and SIGINT end it: what was published by
 * then is read and handled, then one line of JSON says what became of every record, and the exit
 * code is 0 only if not one is unaccounted for. A restarted daemon is registered with anew; an
 * instance that was replaced by another ends it (a service would call md_attach again).
 */
#define _GNU_SOURCE /* sched_setaffinity */

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdsys/attach.h"
#include "mdsys/consumer.h"
#include "mdsys/refresh.h"
#include "mdsys/register.h"

#define BATCH 256u
#define ROOM (BATCH * MD_PRESSED_FACTOR)
#define LOOK_NS INT64_C(1000000000) /* how often it looks after itself */

/* ---- what the strategy does ---------------------------------------------------------------- */

struct strategy {
    uint64_t handled;
    uint64_t trades;
    uint64_t statuses;
    uint64_t refreshed;
};

/* Every record, in its ring's order. Returns how many were handled: less than count is an error at
 * the next. */
static uint64_t on_batch(const struct md_record *records, uint64_t count, void *state) {
    struct strategy *strategy = state;
    for (uint64_t i = 0; i < count; i++) {
        strategy->statuses += records[i].kind == MD_KIND_STATUS;
    }
    strategy->handled += count;
    return count;
}

/* Trades, and the statuses, which every handler gets: they tell where the trades have holes. */
static uint64_t on_trades(const struct md_record *records, uint64_t count, void *state) {
    struct strategy *strategy = state;
    for (uint64_t i = 0; i < count; i++) {
        strategy->trades += records[i].kind == MD_KIND_TRADE;
    }
    return count;
}

/* ---- one reader of all rings --------------------------------------------------------------- */

struct program {
    struct md_instance md;
    const char *instance;
    enum md_policy policy;
    enum md_wait wait;
    struct md_registration registration;
    struct md_reader_page *own_page; /* where there is no registration */
    uint32_t rings[MD_RING_COUNT_MAX];
    uint64_t first[MD_RING_COUNT_MAX]; /* the sequence that each ring is read from */
    struct md_source sources[MD_RING_COUNT_MAX];
    struct md_conflation conflation;
    struct md_consumer consumer;
    struct md_handler handlers[2];
    struct strategy strategy;
};

static uint32_t stopped; /* the consumer's stop word */
static alignas(64) struct md_record batch[ROOM];
static alignas(64) struct md_record picked[ROOM];

static void stop(int signal_number) {
    (void)signal_number;
    md_store_release_u32(&stopped, 1);
}

static enum md_register_result register_reader(struct program *p, struct md_registration *out) {
    return md_register(
        out, &p->md, p->instance, "consumer-c", p->policy, p->wait, p->rings, p->md.ring_count, -1);
}

/* Run where the daemon's configuration says. */
static void pin(struct md_reader_page *page) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (page->core < CPU_SETSIZE) {
        CPU_SET(page->core, &set);
        if (sched_setaffinity(0, sizeof set, &set) == 0) {
            md_store_relaxed_u32(&page->core_now, page->core);
        }
    }
}

/* Begin to read all rings. Returns 0, or -1 having said why. */
static int begin(struct program *p) {
    struct md_poller *poller = &p->consumer.poller;
    uint64_t queue_max = UINT64_MAX; /* no more than the ring holds */
    uint32_t threshold = MD_SHARE_ONE / 10 * 8;
    for (uint32_t i = 0; i < p->md.ring_count; i++) {
        p->rings[i] = i;
    }
    enum md_register_result result = register_reader(p, &p->registration);
    if (result == MD_REGISTER_OK) {
        poller->page = p->registration.page;
        queue_max = poller->page->max_queue_size;
        threshold = poller->page->threshold;
        pin(poller->page);
    } else {
        fprintf(stderr, "consumer: not registered: %s", md_register_result_text(result));
        fprintf(stderr, result == MD_REGISTER_REFUSED ? ": %s\n" : "\n", p->registration.refusal);
        if (p->policy == MD_POLICY_LOSSLESS) {
            return -1; /* nobody would wait for us */
        }
        poller->page = p->own_page = md_page_private();
    }
    p->conflation.capacity = (uint64_t)p->md.symbols->capacity + 1;
    p->conflation.entries = calloc(p->conflation.capacity, sizeof *p->conflation.entries);
    if (poller->page == NULL || p->conflation.entries == NULL) {
        perror("consumer");
        return -1;
    }
    poller->policy = p->policy;
    poller->conflation = &p->conflation;
    poller->sources = p->sources;
    poller->source_count = p->md.ring_count;
    for (uint32_t i = 0; i < p->md.ring_count; i++) {
        md_source_init(&p->sources[i], p->md.ring[i], poller->page, queue_max, threshold);
        p->first[i] = p->sources[i].reader.next;
        p->sources[i].reader.missed = 0; /* all that was before: the first refresh tells of it */
    }
    if (p->policy == MD_POLICY_LOSSLESS &&
        md_wait_granted(&p->registration, &p->md, p->rings, p->md.ring_count, MD_GRANT_NS) !=
            MD_REGISTER_OK) {
        fprintf(stderr, "consumer: the writers do not wait for us\n");
        return -1;
    }
    p->handlers[0] = (struct md_handler){.call = on_batch, .state = &p->strategy};
    p->handlers[1] = (struct md_handler){
        .call = on_trades, .state = &p->strategy, .kinds = 1u << MD_KIND_TRADE, .picked = picked};
    p->consumer.handlers = p->handlers;
    p->consumer.handler_count = 2;
    p->consumer.batch = batch;
    p->consumer.wait = p->wait;
    p->consumer.waiter.stop = &stopped;
    p->consumer.adaptive = 1;
    md_consumer_begin(&p->consumer, BATCH, ROOM);
    return 0;
}

/* The newest values among what we missed, at the start and after each loss. */
static void refresh(struct program *p) {
    struct md_poller *poller = &p->consumer.poller;
    struct md_refresh progress = {0};
    uint64_t count;
    while (md_poller_has_missed(poller) &&
           (count = md_poller_refresh(
                poller, p->md.symbols, p->md.cache, &progress, batch, ROOM)) != 0) {
        p->strategy.refreshed += count; /* batch[0..count) are what is true now */
    }
}

/* A restarted daemon does not know us yet. */
static void keep_registered(struct program *p) {
    struct md_registration anew;
    if (p->registration.page != NULL && !md_registration_alive(&p->registration) &&
        register_reader(p, &anew) == MD_REGISTER_OK) {
        md_poller_move(&p->consumer.poller, anew.page);
        md_unregister(&p->registration);
        p->registration = anew;
    }
}

static void run(struct program *p) {
    for (;;) {
        if (md_poller_has_missed(&p->consumer.poller)) {
            refresh(p);
        }
        int superseded = md_instance_superseded(&p->md); /* asked first: the rest is to be read */
        switch (md_consumer_run(&p->consumer, md_monotonic_ns() + LOOK_NS)) {
        case MD_CONSUMER_STOP:
            return;
        case MD_CONSUMER_FAILED: /* a handler returned too few */
            fprintf(stderr, "consumer: failed at record %" PRIu64 "\n", p->consumer.failed.seq);
            return;
        case MD_CONSUMER_TIME:
            keep_registered(p);
            if (superseded && !md_poller_ready(&p->consumer.poller)) {
                fprintf(stderr, "consumer: the instance was replaced or cleaned\n");
                return;
            }
            break;
        case MD_CONSUMER_NEWS: /* lapped, jumped or under pressure: consumer.poller.page counts */
        case MD_CONSUMER_BATCH:
            break;
        }
    }
}

/* Read and handle what is published by now. */
static void drain(struct program *p) {
    p->consumer.waiter.stop = NULL;
    for (uint32_t i = 0; i < p->md.ring_count; i++) {
        const struct md_ring_reader *reader = &p->sources[i].reader;
        uint64_t head = md_ring_head(reader->header, reader->slots, reader->mask);
        while (reader->next <= head && md_consumer_run(&p->consumer, 0) != MD_CONSUMER_FAILED) {
        }
    }
}

/* What became of every record, as JSON. Returns 1 when none is unaccounted for. */
static int account(const struct program *p) {
    const struct md_reader_page *page = p->consumer.poller.page;
    uint64_t published = 0;
    for (uint32_t i = 0; i < p->md.ring_count; i++) {
        published += p->sources[i].reader.next - p->first[i];
    }
    int holds =
        p->strategy.handled == page->received &&
        page->received + page->filtered + page->conflated + page->dropped + page->lost == published;
    printf("{\"holds\": %s, \"published\": %" PRIu64 ", \"handled\": %" PRIu64
           ", \"trades\": %" PRIu64 ", \"statuses\": %" PRIu64,
           holds ? "true" : "false",
           published,
           p->strategy.handled,
           p->strategy.trades,
           p->strategy.statuses);
#define PRINT_COUNTER(name, type, family, labels, help)                                            \
    printf(", \"" #name "\": %" PRIu64, page->name);
    MD_READER_COUNTERS(PRINT_COUNTER)
    printf(", \"reader\": %" PRIu64 ", \"rings\": [", page->reader_id);
    for (uint32_t i = 0; i < p->md.ring_count; i++) {
        uint64_t from = 0, ejected = 0;
        md_reader_granted(p->md.ring[i], page->reader_id, &from, &ejected);
        printf("%s{\"first\": %" PRIu64 ", \"next\": %" PRIu64 ", \"granted_from\": %" PRIu64
               ", \"ejected\": %" PRIu64 "}",
               i == 0 ? "" : ", ",
               p->first[i],
               p->sources[i].reader.next,
               from,
               ejected);
    }
    printf("]}\n");
    return holds;
}

/* ---- the command line ---------------------------------------------------------------------- */

/* Returns the number of a name, or -1. */
static int number_of(const char *name, const char *(*text)(uint32_t)) {
    for (uint32_t i = 0; text(i) != NULL; i++) {
        if (strcmp(name, text(i)) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* Mark the wanted symbols in a bitmap over ids; none: everything. Returns 0, or -1 having said why.
 */
static int choose(struct program *p, char *const *names, int count) {
    struct md_poller *poller = &p->consumer.poller;
    uint64_t words = (uint64_t)p->md.symbols->capacity / 64 + 1;
    uint64_t *wanted = count == 0 ? NULL : calloc(words, sizeof *wanted);
    for (int i = 0; i < count; i++) {
        const struct md_symbol *symbol = md_symbols_find(p->md.symbols, names[i], strlen(names[i]));
        if (symbol == NULL || wanted == NULL) {
            fprintf(stderr, "consumer: no symbol %s in this instance\n", names[i]);
            free(wanted);
            return -1;
        }
        wanted[symbol->symbol_id / 64] |= UINT64_C(1) << (symbol->symbol_id % 64);
    }
    poller->wanted = wanted;
    poller->wanted_count = words * 64;
    return 0;
}

int main(int argc, char **argv) {
    static struct program program;
    struct program *p = &program;
    int policy = argc < 4 ? -1 : number_of(argv[2], md_policy_text);
    int wait = argc < 4 ? -1 : number_of(argv[3], md_wait_text);
    if (policy < 0 || wait < 0) {
        fprintf(stderr, "usage: %s INSTANCE POLICY WAIT [VENUE:SYMBOL]...\n", argv[0]);
        return 64;
    }
    p->instance = argv[1];
    p->policy = (enum md_policy)policy;
    p->wait = (enum md_wait)wait;
    enum md_segment_result result = md_attach(&p->md, p->instance);
    if (result != MD_SEGMENT_OK) {
        fprintf(stderr, "consumer: %s: %s\n", p->instance, md_segment_result_text(result));
        return 69;
    }
    if (choose(p, argv + 4, argc - 4) != 0) {
        return 64;
    }
    struct sigaction action = {.sa_handler = stop, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL); /* a second one ends it at once */
    sigaction(SIGTERM, &action, NULL);
    if (begin(p) != 0) {
        return 69;
    }
    fprintf(stderr, "consumer: reads %s, %u rings\n", p->instance, p->md.ring_count);
    run(p);
    drain(p);
    int holds = account(p);
    md_unregister(&p->registration);
    free(p->own_page);
    free(p->conflation.entries);
    free((void *)(uintptr_t)p->consumer.poller.wanted);
    md_detach(&p->md);
    return holds ? 0 : 1;
}
