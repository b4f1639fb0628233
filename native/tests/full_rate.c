/* A feed at full rate: registered readers and all, without a venue, which would be slower.
 *
 *     full_rate INSTANCE CHANNEL PATIENCE_MS
 *
 * Takes ring 0 over. CHANNEL: the descriptor over which a supervisor tells of the readers
 * (mdsys/feed/report.py). PATIENCE_MS takes the place of the 1 ms that a lossless reader is waited
 * for: with more processes than cores an honest one may not run for longer than that.
 *
 * Standard input: g publish, p pause, each answered with a line; end of file: the end. It pauses at
 * first. A line, one every 50 ms besides, is what was published by then, as a JSON object.
 * Half of the records are trades of symbol 1, half of 2; each FRAMES_A_STATUS frames one is a gap
 * of the whole ring, of symbol 1, of symbol 2 and of symbol 3 in turn.
 */
#define _GNU_SOURCE /* the system calls of mdsys/bell.h */

#include <inttypes.h>
#include <poll.h>
#include <sys/socket.h>

#include "../src/audience.c"
#include "../src/segment.c"

#include "mdsys/attach.h"
#include "mdsys/control.h"

enum { FRAME = 64, FRAMES_A_STATUS = 16, FRAMES_A_LOOK = 256, SCOPES = 4, IDLE_MS = 5 };
#define REPORT_NS INT64_C(50000000)

static struct md_ring_writer ring;
static struct md_audience audience;
static int channel;
static uint64_t trades[SCOPES], statuses[SCOPES]; /* by symbol id; 0: the whole ring */
static uint64_t answered;                         /* commands */
static int64_t reported_ns;

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

static void report(void) {
    struct md_counter_block *counters = audience.counters;
    reported_ns = md_monotonic_ns();
    printf("{\"answered\": %" PRIu64 ", \"published\": %" PRIu64 ", \"trades\": [0, %" PRIu64
           ", %" PRIu64 "], \"statuses\": [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
           "], \"ejected\": %" PRIu64 ", \"waits\": %" PRIu64 ", \"ms\": %" PRId64 "}\n",
           answered,
           ring.next - 1,
           trades[1],
           trades[2],
           statuses[0] + counters->readers_ejected - audience.ejection_count,
           statuses[1],
           statuses[2],
           statuses[3],
           counters->readers_ejected,
           counters->lossless_waits,
           reported_ns / 1000000);
    fflush(stdout);
}

static void publish_frame(uint64_t number) {
    static struct md_record frame[FRAME];
    uint64_t at = number % FRAMES_A_STATUS == 0 ? number / FRAMES_A_STATUS % SCOPES : SCOPES;
    int64_t now = md_realtime_ns();
    for (uint32_t i = 0; i < FRAME; i++) {
        int is_status = i == 0 && at != SCOPES;
        frame[i].ts_event = frame[i].ts_recv = now;
        frame[i].symbol_id = is_status ? (uint32_t)at : 1 + i % 2;
        frame[i].kind = is_status ? MD_KIND_STATUS : MD_KIND_TRADE;
        frame[i].flags = MD_FLAG_BUY;
        frame[i].price_scale = frame[i].size_scale = 8;
        frame[i].body.word[0] = is_status ? MD_STATUS_GAP : (int64_t)number;
        frame[i].body.word[1] = 1;
        frame[i].body.word[2] = (int64_t)number;
        (is_status ? statuses : trades)[frame[i].symbol_id]++;
    }
    md_ring_publish_batch(&ring, frame, FRAME);
    md_audience_flush(&audience, now);
}

/* An order of the supervisor's: {"do":"reader_add","reader":1,"policy":...} or reader_remove. */
static void obey(const char *order, int fd) {
    const char *reader = md_json_value(order, "\"reader\"");
    uint64_t number = reader == NULL ? 0 : strtoull(reader, NULL, 10);
    if (fd < 0) {
        md_audience_remove(&audience, number); /* its page stays mapped: there are not many */
        return;
    }
    const char *policy = md_json_value(order, "\"policy\"");
    size_t size = sizeof(struct md_reader_page);
    const struct md_reader_page *page =
        (const struct md_reader_page *)mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    int lossless = policy != NULL && strncmp(policy, "\"lossless\"", 10) == 0;
    if (page == MAP_FAILED || md_audience_add(&audience, number, &page->ring[0], lossless) != 0) {
        fprintf(stderr, "cannot be obeyed: %s\n", order);
        exit(1);
    }
}

static void take_orders(void) {
    for (;;) {
        char order[MD_REQUEST_SIZE_MAX], room[CMSG_SPACE(sizeof(int))];
        struct iovec part = {order, sizeof order - 1};
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
        ssize_t size = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (size <= 0) {
            return;
        }
        int fd = -1;
        struct cmsghdr *first = CMSG_FIRSTHDR(&message);
        if (first != NULL) {
            memcpy(&fd, CMSG_DATA(first), sizeof fd);
        }
        order[size] = 0;
        obey(order, fd);
        if (fd >= 0) {
            close(fd);
        }
    }
}

static void report_ejected(void) {
    static struct md_ejection ejections[MD_READER_COUNT_MAX];
    uint32_t count = md_audience_take_ejections(&audience, ejections);
    for (uint32_t i = 0; i < count; i++) {
        char text[256];
        int size = snprintf(text,
                            sizeof text,
                            "{\"event\":\"reader_ejected\",\"reader\":%" PRIu64
                            ",\"ring\":0,\"sequence\":%" PRIu64 "}",
                            ejections[i].reader_id,
                            ejections[i].sequence);
        if (send(channel, text, (size_t)size, 0) != size) {
            perror("report");
            exit(1);
        }
    }
}

/* Orders first: who has seen a reader leave, and then has a command answered, knows it gone here.
 * Returns 0 at the end of the commands. */
static int look(int *publishing) {
    take_orders();
    report_ejected();
    struct pollfd watched[] = {{STDIN_FILENO, POLLIN, 0}, {channel, POLLIN, 0}};
    poll(watched, 2, *publishing ? 0 : IDLE_MS);
    take_orders();
    char command;
    if (watched[0].revents != 0) {
        if (read(STDIN_FILENO, &command, 1) != 1) {
            return 0;
        }
        answered++;
        *publishing = command == 'g';
        if (!*publishing) { /* what was ejected by now is told, for the figures to add up */
            md_audience_flush(&audience, md_realtime_ns());
            report_ejected();
        }
        report();
    } else if (md_monotonic_ns() - reported_ns >= REPORT_NS) {
        report();
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 64;
    }
    const struct md_symbols_header *symbols =
        (const struct md_symbols_header *)map_writable(MD_ROOT_DIR, argv[1], "symbols");
    struct md_ring_header *header =
        (struct md_ring_header *)map_writable(symbols->dir, argv[1], "ring.0");
    char *counters = (char *)map_writable(symbols->dir, argv[1], "counters");
    uint64_t blocks = ((struct md_counters_header *)(void *)counters)->blocks_offset;
    channel = atoi(argv[2]);
    md_ring_take_over(header, &ring, (uint32_t)getpid(), 1, md_realtime_ns());
    md_audience_init(&audience,
                     &ring,
                     (struct md_counter_block *)(void *)(counters + blocks),
                     atoll(argv[3]) * 1000000);
    int publishing = 0;
    uint64_t frame = 0;
    while (look(&publishing)) {
        for (int i = 0; publishing && i < FRAMES_A_LOOK; i++) {
            publish_frame(frame++);
        }
        if (!publishing) {
            md_audience_flush(&audience, md_realtime_ns());
        }
    }
    return 0;
}
