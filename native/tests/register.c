/* Registers by the headers alone and prints what came of it. C17 and C++17.
 *
 *     register INSTANCE NAME POLICY WAIT CORE [RING]...
 *
 * Once registered it says so, waits for a line on stdin, and prints whether it still is. Exit
 * status: the enum md_register_result, 100 when it could not attach.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "mdsys/register.h"

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
        fflush(stdout);
        getchar();
        printf("%d\n", md_registration_alive(&mine));
    }
    md_unregister(&mine);
    printf("%d %d\n", md_registration_alive(&mine), mine.page != NULL);
    md_detach(&md);
    return (int)result;
}
