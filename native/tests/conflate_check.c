/* Merges what it is sent, for a test that knows by other means what must come of it
 * (tests/unit/consume/test_conflate.py).
 *
 *     conflate_check CAPACITY
 *
 * Asked, on its standard input, until it ends: u64 pieces, then each piece: u64 hole (close before
 * it), u64 count, count records. Answers each with u64 count and the merged records. One
 * md_conflation serves all, so that what one output leaves behind could harm the next.
 */
#include <stdio.h>
#include <stdlib.h>

#include "mdsys/conflate.h"

enum { OK = 0, SHORT_INPUT = 1, NO_MEMORY = 2, USAGE = 64 };

static int take(void *to, size_t size) {
    return size == 0 || fread(to, size, 1, stdin) == 1;
}

/* Room for exactly count records, so that a sanitizer sees the first byte too many. */
static struct md_record *room_for(uint64_t count) {
    struct md_record *room = (struct md_record *)malloc(count != 0 ? count * sizeof *room : 1);
    if (room == NULL) {
        exit(NO_MEMORY);
    }
    return room;
}

static int serve(struct md_conflation *conflation, uint64_t pieces) {
    struct md_record *out = room_for(0);
    uint64_t n = 0;
    md_conflation_close(conflation);
    for (uint64_t i = 0; i < pieces; i++) {
        uint64_t head[2]; /* hole, count */
        if (!take(head, sizeof head)) {
            return SHORT_INPUT;
        }
        struct md_record *piece = room_for(head[1]);
        struct md_record *grown = room_for(n + head[1]);
        if (!take(piece, head[1] * sizeof *piece)) {
            return SHORT_INPUT;
        }
        for (uint64_t k = 0; k < n; k++) {
            grown[k] = out[k];
        }
        if (head[0] != 0) {
            md_conflation_close(conflation);
        }
        n = md_conflate(conflation, grown, n, piece, head[1]);
        free(piece);
        free(out);
        out = grown;
    }
    fwrite(&n, sizeof n, 1, stdout);
    fwrite(out, sizeof *out, n, stdout);
    fflush(stdout);
    free(out);
    return OK;
}

int main(int argc, char **argv) {
    struct md_conflation conflation = {0};
    conflation.capacity = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
    if (conflation.capacity == 0) {
        return USAGE;
    }
    conflation.entries =
        (struct md_conflation_entry *)calloc(conflation.capacity, sizeof *conflation.entries);
    if (conflation.entries == NULL) {
        return NO_MEMORY;
    }
    int result = OK;
    uint64_t pieces;
    while (result == OK && take(&pieces, sizeof pieces)) {
        result = serve(&conflation, pieces);
    }
    free(conflation.entries);
    return result;
}
