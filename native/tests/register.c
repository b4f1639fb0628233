/* Registers by the headers alone and prints what came of it. C17 and C++17.
 *
 *     register INSTANCE NAME POLICY WAIT CORE [RING]...
 *
 * Once registered it says so, waits for a line on stdin, prints whether it still is, leaves, and
 * waits for another line. A forked child holds the connection open meanwhile. Exit status: the enum
 * md_register_result, 100 when it could not attach.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "mdsys/register.h"

/* A child that lives until the descriptor that comes back is closed. */
static int fork_child(void) {
    int ends[2];
    char byte;
    if (pipe(ends) != 0) {
        return -1;
    }
    if (fork() == 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(ends[0]);
    return ends[1];
}

int main(int argc, char **argv) {
    static struct md_instance md;
    if (argc < 6 || md_attach(&md, argv[1]) != MD_SEGMENT_OK) {
        return 100;
    }
    uint32_t rings[2 * MD_RING_COUNT_MAX];
    uint32_t ring_count = 0;
    for (int i = 6; i < argc && ring_count < 2 * MD_RING_COUNT_MAX; i++) {
        rings[ring_count++] = (uint32_t)strtoul(argv[i], NULL, 10);
    }
    struct md_registration mine;
    enum md_register_result result = md_register(&mine,
                                                 &md,
                                                 argv[1],
                                                 argv[2],
                                                 (enum md_policy)atoi(argv[3]),
                                                 (enum md_wait)atoi(argv[4]),
                                                 rings,
                                                 ring_count,
                                                 atoi(argv[5]));
    printf("%s|%s\n", md_register_result_text(result), mine.refusal);
    if (result == MD_REGISTER_OK) {
        printf("%" PRIu64 " %s %" PRIu32 " %d\n",
               mine.reader_id,
               mine.page->name,
               mine.page->core,
               md_registration_alive(&mine));
        int child = fork_child();
        fflush(stdout);
        getchar();
        printf("%d\n", md_registration_alive(&mine));
        md_unregister(&mine);
        getchar();
        close(child);
    }
    md_unregister(&mine); /* twice, or never registered: nothing happens */
    printf("%d %d\n", md_registration_alive(&mine), mine.page != NULL);
    md_detach(&md);
    return (int)result;
}
