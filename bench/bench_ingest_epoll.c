/* The yardstick: the least that a C program can do between socket and ring. A program, not a bench.
 *
 *     epoll_wait -> recv -> WebSocket header by hand -> the same decoder -> the same ring
 *
 * One connection, text frames of a server (unmasked, whole); anything else ends it. With "spin" it
 * polls without sleeping. Use: bench_ingest_epoll PORT RING_FILE sleep|spin SYMBOL...
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "bench.h"
#include "decode_binance.h"
#include "segment.h"

enum { BUFFER_SIZE = 256 * 1024, SYMBOLS_MAX = 256 };

static char buffer[BUFFER_SIZE];

static int64_t realtime_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void send_all(int fd, const char *text, size_t size) {
    while (size != 0) {
        ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            bench_die("send");
        }
        text += sent;
        size -= (size_t)sent;
    }
}

/* Connect and upgrade. The accept key is not checked: the server is our own. Reads byte by byte, so
 * that nothing behind the answer is taken. */
static int open_socket(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        bench_die("connect");
    }
    static const char request[] = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    send_all(fd, request, sizeof request - 1);
    uint32_t last = 0; /* the last four bytes, big-endian */
    while (last != 0x0d0a0d0a) {
        unsigned char byte;
        if (recv(fd, &byte, 1, 0) != 1) {
            bench_die("handshake");
        }
        last = last << 8 | byte;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* Ask for the symbols in one message: masked with zeros, which leaves the text as it is. */
static void subscribe(int fd, char **symbols, size_t count) {
    static char text[64 * 1024];
    size_t size = 8; /* header 2 + 2, mask 4 */
    size += (size_t)sprintf(text + size, "{\"method\":\"SUBSCRIBE\",\"params\":[");
    for (size_t i = 0; i < count && size < sizeof text - 256; i++) {
        size += (size_t)sprintf(text + size,
                                "%s\"%s@trade\",\"%s@bookTicker\"",
                                i == 0 ? "" : ",",
                                symbols[i],
                                symbols[i]);
    }
    size += (size_t)sprintf(text + size, "],\"id\":1}");
    text[0] = (char)0x81;
    text[1] = (char)(0x80 | 126);
    text[2] = (char)((size - 8) >> 8);
    text[3] = (char)((size - 8) & 0xff);
    send_all(fd, text, size);
}

static struct md_connection connection = {.number = 1, .socket = 1};

/* Take every whole frame out of text[0..size). Returns the bytes taken. */
static size_t take_frames(struct md_feed *feed, const char *text, size_t size) {
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *end = at + size;
    int64_t now_ns = realtime_ns();
    while (end - at >= 2) {
        size_t header = 2, payload = at[1];
        if (at[0] != 0x81 || payload > 126) {
            errno = EPROTO;
            bench_die("a frame that is no short text");
        }
        if (payload == 126) {
            if (end - at < 4) {
                break;
            }
            header = 4;
            payload = (size_t)at[2] << 8 | at[3];
        }
        if ((size_t)(end - at) < header + payload) {
            break;
        }
        enum md_frame_result result =
            md_decode_binance_usdm(feed, (const char *)at + header, payload, now_ns, &connection);
        if (result != MD_FRAME_OK && result != MD_FRAME_CONTROL) {
            errno = EPROTO;
            bench_die("a frame that the decoder refuses");
        }
        md_count(&feed->counters->frames, 1);
        md_count(&feed->counters->bytes, payload);
        at += header + payload;
    }
    md_feed_flush(feed, now_ns);
    return size - (size_t)(end - at);
}

static void run(struct md_feed *feed, int fd, bool spin) {
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        bench_die("epoll");
    }
    size_t held = 0; /* of a frame whose rest has not come */
    for (;;) {
        if (epoll_wait(epoll, &event, 1, spin ? 0 : -1) != 1) {
            continue;
        }
        ssize_t got = recv(fd, buffer + held, sizeof buffer - held, MSG_DONTWAIT);
        if (got == 0) {
            return;
        }
        if (got < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                continue;
            }
            bench_die("recv");
        }
        size_t size = held + (size_t)got;
        size_t taken = take_frames(feed, buffer, size);
        held = size - taken;
        memmove(buffer, buffer + taken, held);
    }
}

static struct md_ring_header *map_ring(const char *path) {
    int fd = open(path, O_RDWR);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        bench_die(path);
    }
    void *base = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        bench_die("mmap");
    }
    return base;
}

int main(int argc, char **argv) {
    if (argc < 5 || argc - 4 > SYMBOLS_MAX) {
        fprintf(stderr, "use: %s PORT RING_FILE sleep|spin SYMBOL...\n", argv[0]);
        return 64;
    }
    size_t symbol_count = (size_t)argc - 4;
    static struct md_cell cells[SYMBOLS_MAX];
    static struct md_counter_block counters;
    struct md_ring_writer ring;
    struct md_feed feed;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    md_ring_take_over(map_ring(argv[2]), &ring, (uint32_t)getpid(), 1, realtime_ns());
    if (md_feed_init(&feed, &ring, 1, &counters, (uint32_t)symbol_count) != 0) {
        bench_die("md_feed_init");
    }
    for (size_t i = 0; i < symbol_count; i++) {
        const char *name = argv[4 + i];
        uint32_t id = (uint32_t)i + 1;
        if (md_feed_add_symbol(&feed, name, strlen(name), id, 0, 8, 8, &cells[i]) != 0) {
            bench_die(name);
        }
    }
    int fd = open_socket((uint16_t)atoi(argv[1]));
    subscribe(fd, argv + 4, symbol_count);
    run(&feed, fd, strcmp(argv[3], "spin") == 0);
    return 0;
}
