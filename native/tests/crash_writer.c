/* A feed that dies by SIGKILL after any one of its stores to shared memory.
 *
 *     crash_writer INSTANCE publish|recover K FIRST ROUNDS [BURST]
 *
 * Takes ring 0 over as a feed does and publishes ROUNDS rounds, numbered from FIRST, of the symbols
 * 1 and 2. Dies after store K of what it publishes ("publish") or of taking over and repairing
 * ("recover"); 0: not at all, and prints how many stores there were. A round, in records:
 *
 *     trade of 1 | quote of 2 | three levels of 1, one frame | trade of 2 | quote of 1
 *
 * After each BURST rounds it sleeps a moment. Trade ids are consecutive. tests/system/test_crash.py
 * knows the same round.
 */
#include <signal.h>
#include <time.h>
#include <unistd.h>

static void after_store(void);
#define MD_AFTER_STORE() after_store()

#include "mdsys/attach.h"

#include "../src/audience.c"
#include "../src/book.c"
#include "../src/feed.c"
#include "../src/publish.c"
#include "../src/segment.c"

static const struct md_connection connection = {.number = 0, .socket = 1};
static int armed;
static unsigned long stores;
static unsigned long deadly;

static void after_store(void) {
    if (armed && ++stores == deadly) {
        kill(getpid(), SIGKILL);
    }
}

static void *map_writable(const char *dir, const char *instance, const char *part) {
    char path[MD_PATH_SIZE * 2];
    snprintf(path, sizeof path, "%s/mdsys.%s.%s", dir, instance, part);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        perror(path);
        exit(1);
    }
    void *base = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (base == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    return base;
}

static void publish_trade(struct md_feed *feed, struct md_feed_symbol *symbol, int64_t round) {
    md_publish_trade(feed,
                     symbol,
                     &connection,
                     round * 10 + 1,
                     round * 10 + 2,
                     MD_FLAG_BUY,
                     round * 10 + 3,
                     round * 10 + 4,
                     round + 1,
                     round * 10 + 5,
                     MD_IDS_CONTIGUOUS);
}

static void publish_quote(struct md_feed *feed, struct md_feed_symbol *symbol, int64_t round) {
    md_publish_quote(feed,
                     symbol,
                     round * 10 + 1,
                     round * 10 + 2,
                     round * 10 + 3,
                     round * 10 + 4,
                     round * 10 + 5,
                     round * 10 + 6,
                     MD_ABSENT);
}

static void publish_levels(struct md_feed *feed, struct md_feed_symbol *symbol, int64_t round) {
    struct md_levels levels = md_levels_begin(
        feed, symbol, &connection, round * 10 + 1, round * 10 + 2, round + 1, MD_FLAG_SNAPSHOT);
    for (int64_t i = 0; i < 3; i++) {
        md_levels_put(&levels, MD_FLAG_BUY, round * 10 + i, round * 10 + 4, MD_ABSENT);
    }
    md_levels_end(&levels);
}

static void publish_round(struct md_feed *feed,
                          struct md_feed_symbol *one,
                          struct md_feed_symbol *two,
                          int64_t round) {
    publish_trade(feed, one, round);
    publish_quote(feed, two, round);
    publish_levels(feed, one, round);
    publish_trade(feed, two, round);
    publish_quote(feed, one, round);
    md_feed_flush(feed, round);
}

int main(int argc, char **argv) {
    if (argc != 6 && argc != 7) {
        return 64;
    }
    int recover = strcmp(argv[2], "recover") == 0;
    int64_t first = atoll(argv[4]);
    int64_t rounds = atoll(argv[5]);
    int64_t burst = argc == 7 ? atoll(argv[6]) : rounds + 1;
    struct md_symbols_header *symbols =
        (struct md_symbols_header *)map_writable(MD_ROOT_DIR, argv[1], "symbols");
    const char *dir = symbols->dir;
    struct md_cache_header *cache = (struct md_cache_header *)map_writable(dir, argv[1], "cache");
    struct md_ring_header *header = (struct md_ring_header *)map_writable(dir, argv[1], "ring.0");
    char *counters = (char *)map_writable(dir, argv[1], "counters");
    uint64_t blocks = ((struct md_counters_header *)(void *)counters)->blocks_offset;
    struct md_feed feed;
    struct md_ring_writer ring;

    deadly = strtoul(argv[3], NULL, 10);
    armed = recover;
    md_ring_take_over(header, &ring, (uint32_t)getpid(), 1, first);
    md_cache_repair(cache, symbols, 0, &ring);
    armed = 0;

    md_feed_init(&feed, &ring, 1, (struct md_counter_block *)(void *)(counters + blocks), 2);
    for (uint32_t id = 1; id <= 2; id++) {
        const struct md_symbol *entry = md_symbols_entry(symbols, id);
        const char *name = entry->name + entry->venue_size + 1;
        struct md_cell *cell = (struct md_cell *)(void *)md_cache_cell(cache, id);
        if (md_feed_add_symbol(&feed, name, strlen(name), id, 0, 8, 8, cell) != 0) {
            return 1;
        }
    }
    struct md_feed_symbol *one = md_feed_find_symbol(&feed, "S1", 2);
    struct md_feed_symbol *two = md_feed_find_symbol(&feed, "S2", 2);
    armed = !recover;
    for (int64_t round = first; round < first + rounds; round++) {
        publish_round(&feed, one, two, round);
        if ((round - first) % burst == burst - 1) {
            nanosleep(&(struct timespec){0, 1}, NULL);
        }
    }
    armed = 0;
    printf("%lu\n", stores);
    md_feed_free(&feed);
    return 0;
}
