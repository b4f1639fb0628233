/* One writer at full speed, three readers that cannot keep up. Forbidden outcome: torn record
 * delivered. And: received + lost == published, at every step and to the last record.
 *
 *     ring_stress processes|threads DEPTH OVERRUNS PUBLISHED
 *
 * The writer publishes, alone and in frames of up to DEPTH/4, until the readers were overrun
 * OVERRUNS times in all, or PUBLISHED records are out. Every payload word is a
 * function of its record's sequence. Readers: one record at a time; 64 at a time; and one that
 * waits until it is about to be lapped and then reads a whole ring, so that nearly every read is
 * overrun.
 */
#include "stress.h"

#include "../src/segment.c"

enum { READERS = 3, BATCH_MAX = 4096 };

struct shared {
    struct stress_control control;
    uint64_t overruns_wanted;
    uint64_t published_max;
    struct result {
        uint64_t start, received, lost, overruns, wrong;
    } result[READERS];
    struct md_ring_header *header;
};

static int is_torn(const struct md_record *record) {
    uint64_t word[8];
    memcpy(word, record, sizeof word);
    for (unsigned i = 0; i < MD_SLOT_WORDS; i++) {
        if (word[i + 1] != stress_word(record->seq, i)) {
            return 1;
        }
    }
    return 0;
}

/* Wait until the writer stands right behind us. */
static void dawdle(const struct md_ring_reader *reader, const struct stress_control *control) {
    uint64_t near = reader->next + reader->mask - 8;
    const uint64_t *seq = &reader->slots[near & reader->mask].seq;
    while (md_load_acquire_u64(seq) < near && !stress_stopped(control)) {
        md_pause();
    }
}

static void read_all(void *argument, unsigned index) {
    struct shared *shared = (struct shared *)argument;
    struct result *result = &shared->result[index];
    static _Thread_local struct md_record out[BATCH_MAX];
    struct md_ring_reader reader = md_reader_init(shared->header);
    uint64_t depth = reader.mask + 1;
    uint64_t batch = index == 0 ? 1 : index == 1 ? 64 : depth < BATCH_MAX ? depth : BATCH_MAX;
    result->start = reader.next;
    stress_ready(&shared->control);
    for (;;) {
        int stopped = stress_stopped(&shared->control);
        if (index == 2) {
            dawdle(&reader, &shared->control);
        }
        uint64_t next = reader.next;
        uint64_t lost = reader.lost;
        uint64_t n = md_reader_read(&reader, out, batch);
        next += reader.lost - lost;
        md_store_relaxed_u64(&result->overruns, result->overruns + (reader.lost != lost));
        for (uint64_t i = 0; i < n; i++) {
            if (is_torn(&out[i])) {
                stress_found_torn(&shared->control, index);
            }
            result->wrong += out[i].seq != next + i;
        }
        result->received += n;
        result->lost = reader.lost;
        result->wrong += reader.next != next + n;
        result->wrong += result->start + result->received + result->lost != reader.next;
        if (n == 0 && stopped) {
            return; /* the writer ended before this read: there is no more */
        }
    }
}

static int is_enough(const struct shared *shared) {
    uint64_t overruns = 0;
    for (unsigned i = 0; i < READERS; i++) {
        overruns += md_load_relaxed_u64(&shared->result[i].overruns);
    }
    return overruns >= shared->overruns_wanted || stress_stopped(&shared->control);
}

static void publish_all(struct shared *shared, struct md_ring_writer *writer) {
    uint64_t random = UINT64_C(0x2545F4914F6CDD1D);
    uint64_t quarter = (writer->mask + 1) / 4;
    for (uint64_t frame = 0; writer->next <= shared->published_max; frame++) {
        if (frame % 1024 == 0 && is_enough(shared)) {
            break;
        }
        uint64_t dice = stress_random(&random);
        uint64_t size = dice % 4 != 0 ? 1 : 1 + (dice >> 8) % quarter;
        int at_once = (dice >> 40) % 2 != 0;
        if (at_once) {
            md_ring_claim_batch(writer, size);
        }
        for (uint64_t i = 0; i < size; i++) {
            uint64_t seq = writer->next + i;
            struct md_slot *slot = at_once ? md_ring_slot(writer, seq) : md_ring_claim(writer, seq);
            for (unsigned word = 0; word < MD_SLOT_WORDS; word++) {
                md_slot_put(slot, word, stress_word(seq, word));
            }
        }
        if (dice % 64 == 1) {
            continue; /* an error: what is claimed is claimed anew */
        }
        md_ring_release(writer, size);
        if (dice % 16 == 2) {
            md_ring_flush(writer, 1);
        }
    }
    md_store_release_u64(&shared->control.stop, 1);
}

int main(int argc, char **argv) {
    int threads = argc == 5 && strcmp(argv[1], "threads") == 0;
    if (argc != 5 || (!threads && strcmp(argv[1], "processes") != 0)) {
        return STRESS_USAGE;
    }
    uint64_t depth = strtoull(argv[2], NULL, 10);
    struct shared *shared = (struct shared *)stress_memory(sizeof *shared);
    shared->overruns_wanted = strtoull(argv[3], NULL, 10);
    shared->published_max = strtoull(argv[4], NULL, 10);
    shared->header = (struct md_ring_header *)stress_memory(md_ring_size(depth));
    md_ring_create(shared->header, md_ring_size(depth), depth, 0, 0);
    md_segment_publish(&shared->header->segment, 1);
    if (md_ring_verify(shared->header, md_ring_size(depth)) != MD_SEGMENT_OK) {
        return STRESS_USAGE;
    }
    struct md_ring_writer writer;
    md_ring_take_over(shared->header, &writer, 1, 1, 1);
    struct stress_worker workers[READERS];
    stress_start(workers, READERS, threads, read_all, shared, &shared->control);
    publish_all(shared, &writer);
    stress_join(workers, READERS, threads);
    uint64_t torn = 0;
    uint64_t wrong = 0;
    for (unsigned i = 0; i < READERS; i++) {
        const struct result *result = &shared->result[i];
        wrong += result->wrong;
        wrong += result->received + result->lost != writer.next - result->start;
        torn += shared->control.torn[i];
        printf("reader %u received %llu lost %llu overruns %llu\n",
               i,
               (unsigned long long)result->received,
               (unsigned long long)result->lost,
               (unsigned long long)result->overruns);
    }
    printf("published %llu\n", (unsigned long long)(writer.next - 1));
    if (torn != 0) {
        printf("torn record delivered\n");
        return STRESS_TORN;
    }
    if (wrong != 0) {
        printf("received + lost != published, or out of order\n");
        return STRESS_COUNT;
    }
    return STRESS_OK;
}
