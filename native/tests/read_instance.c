/* Attaches by the headers alone and prints what it finds. C17 and C++17.
 *
 *     read_instance INSTANCE [SYMBOL]...    what stands in the rings, then each symbol's last
 * values
 *
 * Exit status: 0, or 1 with the reason on stderr.
 */
#include <inttypes.h>

#include "mdsys/attach.h"

static void print_record(const char *label, const struct md_record *r) {
    printf("%s %" PRIu64 " %" PRId64 " %" PRId64 " %" PRIu32 " %u %u %u %u",
           label,
           r->seq,
           r->ts_event,
           r->ts_recv,
           r->symbol_id,
           r->kind,
           r->flags,
           r->price_scale,
           r->size_scale);
    for (unsigned i = 0; i < 4; i++) {
        printf(" %" PRId64, r->body.word[i]);
    }
    printf("\n");
}

static void print_last(const struct md_instance *md, const struct md_symbol *symbol) {
    const struct md_cell *cell = md_cache_cell(md->cache, symbol->symbol_id);
    struct md_record record;
    if (md_cell_load(cell, MD_CACHE_TRADE, &record) == MD_CACHE_OK) {
        print_record("trade", &record);
    }
    if (md_cell_load(cell, MD_CACHE_QUOTE, &record) == MD_CACHE_OK) {
        print_record("quote", &record);
    }
}

int main(int argc, char **argv) {
    struct md_instance md;
    enum md_segment_result result = argc > 1 ? md_attach(&md, argv[1]) : MD_SEGMENT_NAME_TOO_LONG;
    if (result != MD_SEGMENT_OK) {
        fprintf(stderr, "%d %s\n", (int)result, md_segment_result_text(result));
        return 1;
    }
    printf("symbols %" PRIu32 " rings %" PRIu32 "\n", md.symbols->count, md.ring_count);
    for (uint32_t i = 0; i < md.ring_count; i++) {
        struct md_ring_reader reader = md_instance_reader(&md, i);
        uint64_t head = reader.next - 1;
        uint64_t depth = reader.mask + 1;
        reader.next = head > depth ? head - depth + 1 : 1; /* all that is still there */
        struct md_record record;
        while (md_reader_read(&reader, &record, 1) == 1) {
            print_record("ring", &record);
        }
        printf("next %" PRIu64 " lost %" PRIu64 "\n", reader.next, reader.lost);
    }
    for (int i = 2; i < argc; i++) {
        const struct md_symbol *symbol = md_symbols_find(md.symbols, argv[i], strlen(argv[i]));
        if (symbol == NULL) {
            printf("%s absent\n", argv[i]);
            continue;
        }
        printf("%s %" PRIu32 " %u %u %u\n",
               symbol->name,
               symbol->symbol_id,
               symbol->ring,
               symbol->price_scale,
               symbol->size_scale);
        print_last(&md, symbol);
    }
    md_detach(&md);
    return 0;
}
