/* One writer of one cell at full speed, readers that copy its trade and its quote all the time.
 * Forbidden outcome: torn record delivered. And a reader never sees an older record than before.
 *
 *     cache_stress processes|threads LOADS
 *
 * The writer goes on until every reader has copied LOADS times.
 */
#include "stress.h"

#include "mdsys/cache.h"

enum { READERS = 2 };

struct shared {
    struct stress_control control;
    uint64_t wanted;
    struct result {
        uint64_t loads, busy, wrong;
    } result[READERS];
    struct md_cell cell;
};

static int is_torn(const struct md_record *record) {
    uint64_t word[8];
    memcpy(word, record, sizeof word);
    for (unsigned i = 0; i < 7; i++) {
        if (word[i + 1] != stress_word(record->seq, i)) {
            return 1;
        }
    }
    return 0;
}

static void read_all(void *argument, unsigned index) {
    struct shared *shared = (struct shared *)argument;
    struct result *result = &shared->result[index];
    uint64_t newest[2] = {0, 0};
    stress_ready(&shared->control);
    for (uint64_t i = 0; !stress_stopped(&shared->control); i++) {
        struct md_record record;
        enum md_cache_part part = i % 2 ? MD_CACHE_TRADE : MD_CACHE_QUOTE;
        switch (md_cell_load(&shared->cell, part, &record)) {
        case MD_CACHE_BUSY:
            result->busy++;
            continue;
        case MD_CACHE_NONE:
            result->wrong += newest[i % 2] != 0;
            continue;
        case MD_CACHE_OK:
            break;
        }
        if (is_torn(&record)) {
            stress_found_torn(&shared->control, index);
        }
        result->wrong += record.seq < newest[i % 2] || record.seq % 2 != i % 2;
        newest[i % 2] = record.seq;
        md_store_relaxed_u64(&result->loads, result->loads + 1);
    }
}

static int is_enough(const struct shared *shared) {
    for (unsigned i = 0; i < READERS; i++) {
        if (md_load_relaxed_u64(&shared->result[i].loads) < shared->wanted) {
            return stress_stopped(&shared->control);
        }
    }
    return 1;
}

int main(int argc, char **argv) {
    int threads = argc == 3 && strcmp(argv[1], "threads") == 0;
    if (argc != 3 || (!threads && strcmp(argv[1], "processes") != 0)) {
        return STRESS_USAGE;
    }
    struct shared *shared = (struct shared *)stress_memory(sizeof *shared);
    shared->wanted = strtoull(argv[2], NULL, 10);
    struct stress_worker workers[READERS];
    stress_start(workers, READERS, threads, read_all, shared, &shared->control);
    for (uint64_t seq = 1; seq % 64 != 0 || !is_enough(shared); seq++) {
        int64_t word[7];
        for (unsigned i = 0; i < 7; i++) {
            word[i] = (int64_t)stress_word(seq, i);
        }
        md_cell_store(&shared->cell,
                      seq % 2 ? MD_CACHE_TRADE : MD_CACHE_QUOTE,
                      seq,
                      word[0],
                      word[1],
                      (uint64_t)word[2],
                      word[3],
                      word[4],
                      word[5],
                      word[6]);
        for (unsigned rest = 0; rest < seq % 32; rest++) {
            md_pause(); /* else the readers never find it even */
        }
    }
    md_store_release_u64(&shared->control.stop, 1);
    stress_join(workers, READERS, threads);
    uint64_t torn = 0;
    uint64_t wrong = 0;
    for (unsigned i = 0; i < READERS; i++) {
        const struct result *result = &shared->result[i];
        wrong += result->wrong;
        torn += shared->control.torn[i];
        printf("reader %u loads %llu busy %llu\n",
               i,
               (unsigned long long)result->loads,
               (unsigned long long)result->busy);
    }
    if (torn != 0) {
        printf("torn record delivered\n");
        return STRESS_TORN;
    }
    if (wrong != 0) {
        printf("an older record, or of the other kind\n");
        return STRESS_COUNT;
    }
    return STRESS_OK;
}
