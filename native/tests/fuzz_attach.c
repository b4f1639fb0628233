/* Garbage in an instance's headers, and md_attach on it, over and over. For sanitizers.
 *
 *     fuzz_attach INSTANCE SEED COUNT
 *
 * Each try overwrites a few bytes of one header, attaches and reads whatever attached, then puts
 * the bytes back. Prints how many tries attached and how many were refused.
 */
#include <stdlib.h>

#include "mdsys/attach.h"

enum { HEADER = 544, PARTS = 3 };

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static char *map_header(const char *instance, const char *part) {
    char path[MD_PATH_SIZE * 2];
    snprintf(path, sizeof path, MD_ROOT_DIR "/mdsys.%s.%s", instance, part);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *base = mmap(NULL, MD_PAGE_HEADER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (base == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    return (char *)base;
}

static void damage(char *header, uint64_t *random) {
    static const uint64_t edges[] = {0, 1, 63, 64, 128, 4096, UINT32_MAX, UINT64_MAX, INT64_MAX};
    for (uint64_t n = next_random(random) % 3 + 1; n-- > 0;) {
        uint64_t value = next_random(random);
        if (value % 2) {
            value = edges[value / 2 % (sizeof edges / sizeof edges[0])];
        }
        size_t size = (size_t)1 << next_random(random) % 4;
        size_t offset = (size_t)(next_random(random) % HEADER) & ~(size - 1);
        memcpy(header + offset, &value, size);
    }
}

static uint64_t use(const struct md_instance *md) {
    uint64_t sum = 0;
    struct md_record record;
    for (uint32_t id = 1; id <= md->symbols->count; id++) {
        sum += md_symbols_entry(md->symbols, id)->hash;
        sum += (uint64_t)md_cell_load(md_cache_cell(md->cache, id), MD_CACHE_TRADE, &record);
    }
    sum += md_symbols_find(md->symbols, "BINANCE:S1", 10) != NULL;
    sum += md_symbols_find(md->symbols, "BINANCE:NONE", 12) != NULL;
    for (uint32_t i = 0; i < md->ring_count; i++) {
        struct md_ring_reader reader = md_instance_reader(md, i);
        reader.next = 1;
        struct md_record records[16];
        for (int n = 0; n < 8; n++) {
            sum += md_reader_read(&reader, records, 16);
        }
    }
    return sum;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 64;
    }
    uint64_t random = strtoull(argv[2], NULL, 10) * 2 + 1;
    uint64_t attached = 0;
    uint64_t refused = 0;
    uint64_t sum = 0;
    char *header[PARTS] = {map_header(argv[1], "symbols"),
                           map_header(argv[1], "cache"),
                           map_header(argv[1], "ring.0")};
    for (uint64_t n = strtoull(argv[3], NULL, 10); n-- > 0;) {
        char *victim = header[next_random(&random) % PARTS];
        char before[HEADER];
        memcpy(before, victim, HEADER);
        damage(victim, &random);
        struct md_instance md;
        if (md_attach(&md, argv[1]) == MD_SEGMENT_OK) {
            sum += use(&md);
            md_detach(&md);
            attached++;
        } else {
            refused++;
        }
        memcpy(victim, before, HEADER);
    }
    printf(
        "attached %llu\nrefused %llu\n", (unsigned long long)attached, (unsigned long long)refused);
    return sum == 0;
}
