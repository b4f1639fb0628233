/* One writer at full speed and the readers that it knows. Forbidden outcomes: torn record
 * delivered; a record lost that was promised.
 *
 *     audience_stress processes|threads DEPTH PUBLISHED PATIENCE_MS COMPANY
 *
 * Two honest lossless readers, one record at a time and 64 at a time, that park when there is
 * nothing; a reader that is registered, not lossless and slow; and by COMPANY:
 *
 *     honest   nobody else: nobody may be ejected
 *     stuck    a lossless reader that reads once and never again: it alone is ejected, and told so
 *     liar     a lossless reader that never reads and writes random words where it says how far it
 *              is and whether it sleeps: whatever becomes of it, nobody else may suffer
 *
 * PATIENCE_MS takes the place of the 1 ms that the writer waits in a pass: where there are more
 * workers than cores an honest reader may not run for longer than that.
 */
#include "stress.h"

#include "../src/segment.c"
#include "audience.c" /* the test's own, where it breaks it on purpose */

#include "mdsys/bell.h"

enum { READERS = 4, BATCH = 64, HONEST = 2, LOSSY = 2, COMPANY = 3, STRESS_PROMISE = 4 };

struct shared {
    struct stress_control control;
    uint64_t published; /* in all, when stop is set */
    uint64_t depth;
    enum { HONEST_COMPANY, STUCK, LIAR } company;
    struct md_ring_header *header;
    struct md_counter_block counters;
    struct result {
        uint64_t start, next, from, ejected, broken, wrong;
    } result[READERS];
    struct md_reader_page pages[READERS];
};

static int is_torn(const struct md_record *record) {
    uint64_t word[8];
    memcpy(word, record, sizeof word);
    for (unsigned i = 0; i < MD_SLOT_WORDS; i++) {
        if (i != 2 && word[i + 1] != stress_word(record->seq, i)) { /* 2 is the tag */
            return 1;
        }
    }
    return 0;
}

/* What stands in our grant: G2 and G4. */
static void look_at_grant(struct result *result, const struct shared *shared, unsigned index) {
    const struct md_ring_grant *grants = shared->header->grants;
    for (unsigned i = 0; i < MD_GRANT_COUNT; i++) {
        if (md_load_acquire_u64(&grants[i].reader_id) == index + 1) {
            result->from = grants[i].from;
            result->ejected = md_load_acquire_u64(&grants[i].ejected);
        }
    }
}

static void lie(struct shared *shared) {
    struct md_reader_ring *place = &shared->pages[COMPANY].ring[0];
    uint64_t random = UINT64_C(0x9E3779B97F4A7C15);
    while (!stress_stopped(&shared->control)) {
        uint64_t dice = stress_random(&random);
        uint64_t cursor = md_load_acquire_u64(&shared->header->cursor);
        uint64_t near = cursor + dice % (4 * shared->depth) - 2 * shared->depth;
        md_store_relaxed_u64(&place->next, dice & 1 ? stress_random(&random) : near);
        uint64_t bell = md_load_acquire_u32(&shared->header->bell);
        md_store_relaxed_u64(&place->asleep, dice & 2 ? dice : bell + dice % 3);
    }
}

static void read_all(void *argument, unsigned index) {
    struct shared *shared = (struct shared *)argument;
    struct result *result = &shared->result[index];
    struct md_reader_page *page = &shared->pages[index];
    struct md_source source;
    struct md_poller poller = {.sources = &source, .source_count = 1, .page = page};
    struct md_waiter waiter = {0};
    static _Thread_local struct md_record out[BATCH];
    poller.policy = index == LOSSY ? MD_POLICY_DROP_OLDEST : MD_POLICY_LOSSLESS;
    md_source_init(&source, shared->header, page, index == LOSSY ? shared->depth : 0, 500000);
    result->start = source.reader.next;
    stress_ready(&shared->control);
    if (index == COMPANY && shared->company == LIAR) {
        lie(shared);
        return;
    }
    for (;;) {
        int stopped = stress_stopped(&shared->control);
        uint64_t next = source.reader.next;
        uint64_t lost = source.reader.lost;
        uint64_t n = md_poller_read(&poller, out, index == 0 ? 1 : BATCH);
        uint64_t first = next + source.reader.lost - lost;
        look_at_grant(result, shared, index);
        for (uint64_t i = 0; i < n; i++) {
            if (out[i].kind != MD_KIND_STATUS && is_torn(&out[i])) {
                stress_found_torn(&shared->control, index);
            }
            result->wrong += out[i].seq != first + i;
        }
        /* Of [next, first), which is lost, what had been promised? */
        uint64_t end = result->ejected != 0 ? result->ejected : UINT64_MAX;
        if (first != next && result->from != 0 && first > result->from && next < end) {
            result->broken++;
            md_store_release_u64(&shared->control.stop, 1);
        }
        result->wrong +=
            page->received + page->lost + page->dropped != source.reader.next - result->start;
        result->next = source.reader.next;
        if (index == COMPANY && shared->company == STUCK && result->from != 0) {
            return;
        }
        if (n == 0 && stopped) {
            return; /* the writer ended before this read: there is no more */
        }
        if (n == 0) {
            md_park(&poller, &waiter, MD_PARK_NS_MAX);
        } else if (index == LOSSY) {
            for (unsigned i = 0; i < 2000; i++) {
                md_pause();
            }
        }
    }
}

static void publish_all(struct shared *shared, struct md_ring_writer *writer, uint64_t count) {
    struct md_audience *audience = (struct md_audience *)writer->audience;
    struct md_ejection ejections[MD_READER_COUNT_MAX];
    uint64_t random = UINT64_C(0x2545F4914F6CDD1D);
    uint64_t quarter = (writer->mask + 1) / 4;
    uint64_t tag = md_record_tag(1, MD_KIND_TRADE, 0, 8, 8);
    while (writer->next <= count && !stress_stopped(&shared->control)) {
        uint64_t dice = stress_random(&random);
        uint64_t size = dice % 4 != 0 ? 1 : 1 + (dice >> 8) % quarter;
        for (uint64_t i = 0; i < size; i++) {
            uint64_t seq = writer->next + i;
            struct md_slot *slot = md_ring_claim(writer, seq);
            for (unsigned word = 0; word < MD_SLOT_WORDS; word++) {
                md_slot_put(slot, word, word == 2 ? tag : stress_word(seq, word));
            }
        }
        if (dice % 64 == 1) {
            continue; /* an error: what is claimed is claimed anew */
        }
        md_ring_release(writer, size);
        if (dice % 16 == 2) {
            md_audience_flush(audience, 1);
            md_audience_take_ejections(audience, ejections);
        }
    }
    md_audience_flush(audience, 1);
    shared->published = writer->next - 1;
    md_store_release_u64(&shared->control.stop, 1);
    md_store_release_u32(&shared->header->bell, shared->header->bell + 1); /* to all who sleep */
    syscall(SYS_futex, &shared->header->bell, MD_FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

int main(int argc, char **argv) {
    int threads = argc == 6 && strcmp(argv[1], "threads") == 0;
    if (argc != 6 || (!threads && strcmp(argv[1], "processes") != 0)) {
        return STRESS_USAGE;
    }
    uint64_t depth = strtoull(argv[2], NULL, 10);
    int64_t patience_ns = strtoll(argv[4], NULL, 10) * 1000000;
    struct shared *shared = (struct shared *)stress_memory(sizeof *shared);
    shared->depth = depth;
    shared->company = argv[5][0] == 'h' ? HONEST_COMPANY : argv[5][0] == 's' ? STUCK : LIAR;
    shared->header = (struct md_ring_header *)stress_memory(md_ring_size(depth));
    md_ring_create(shared->header, md_ring_size(depth), depth, 0, 0);
    md_segment_publish(&shared->header->segment, 1);
    struct md_ring_writer writer;
    md_ring_take_over(shared->header, &writer, 1, 1, 1);
    static struct md_audience audience;
    md_audience_init(&audience, &writer, &shared->counters, patience_ns);
    unsigned count = shared->company == HONEST_COMPANY ? READERS - 1 : READERS;
    for (unsigned i = 0; i < count; i++) {
        md_reader_page_create(
            &shared->pages[i], sizeof shared->pages[i], i + 1, "reader", 1, 1, 1, 1, MD_CORE_NONE);
        md_audience_add(&audience, i + 1, &shared->pages[i].ring[0], i != LOSSY);
    }
    struct stress_worker workers[READERS];
    stress_start(workers, count, threads, read_all, shared, &shared->control);
    md_audience_flush(&audience, 1); /* grants */
    publish_all(shared, &writer, strtoull(argv[3], NULL, 10));
    stress_join(workers, count, threads);
    uint64_t torn = 0;
    uint64_t wrong = 0;
    uint64_t broken = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct result *result = &shared->result[i];
        const struct md_reader_page *page = &shared->pages[i];
        int quits = i == COMPANY;
        if (quits) { /* it did not look itself, and what it wrote must not stand in its grant */
            look_at_grant(&shared->result[i], shared, i);
            wrong += result->from == 0 || result->from > shared->published + shared->depth;
            wrong += result->ejected > shared->published + 1;
        }
        torn += shared->control.torn[i];
        broken += result->broken;
        wrong += result->wrong + (!quits && result->next != shared->published + 1);
        if (i < HONEST) {
            broken += page->lost != 0 || result->ejected != 0 || result->from != result->start;
        }
        printf("reader %u received %llu lost %llu dropped %llu parks %llu ejected %llu\n",
               i,
               (unsigned long long)page->received,
               (unsigned long long)page->lost,
               (unsigned long long)page->dropped,
               (unsigned long long)page->parks,
               (unsigned long long)result->ejected);
    }
    uint64_t ejected = shared->counters.readers_ejected;
    printf("published %llu ejected %llu waits %llu bells %llu\n",
           (unsigned long long)shared->published,
           (unsigned long long)ejected,
           (unsigned long long)shared->counters.lossless_waits,
           (unsigned long long)shared->counters.bells);
    if (torn != 0) {
        printf("torn record delivered\n");
        return STRESS_TORN;
    }
    if (broken != 0) {
        printf("a record lost that was promised\n");
        return STRESS_PROMISE;
    }
    if (wrong != 0 || (shared->company != LIAR && ejected != (shared->company == STUCK))) {
        printf("received + lost + dropped != published, out of order, or the wrong one ejected\n");
        return STRESS_COUNT;
    }
    return STRESS_OK;
}
