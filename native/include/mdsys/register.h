/* Register a reader with the daemon, from C or C++, with nothing but these headers.
 *
 *     static struct md_registration mine;
 *     uint32_t rings[] = {0};
 *     enum md_register_result result = md_register(
 *         &mine, &md, "default", "s1", MD_POLICY_LOSSLESS, MD_WAIT_PARK, rings, 1, MD_ANY_CORE);
 *     ... md_source_init(&source, md.ring[0], mine.page, ...);
 *     ... md_wait_granted(&mine, &md, rings, 1, MD_GRANT_NS)    (lossless)
 *     md_unregister(&mine);
 *
 * Registered, a reader is seen by `mdsys stat`, woken by the writers' doorbell and, if it is
 * lossless, waited for. It is so as long as its process lives and the connection stays open. Who
 * cannot or will not register counts in a page of its own (md_page_private), sleeps by the clock,
 * and has every policy but lossless.
 *
 * docs/abi.md has the request and the answer, for other languages.
 */
#ifndef MDSYS_REGISTER_H
#define MDSYS_REGISTER_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdsys/attach.h"
#include "mdsys/bell.h"
#include "mdsys/control.h"
#include "mdsys/reader_page.h"

#define MD_ANY_CORE (-1)
#define MD_GRANT_NS INT64_C(2000000000) /* a feed looks at each flush, every 50 ms when idle */
#define MD_REFUSAL_SIZE 256u

struct md_registration {
    int socket; /* -1: not registered */
    pid_t pid;  /* whose: a forked child must read with pollers and pages of its own */
    uint64_t reader_id;
    struct md_reader_page *page; /* ours to write; NULL: not registered */
    size_t page_size;
    char refusal[MD_REFUSAL_SIZE]; /* of MD_REGISTER_REFUSED: the daemon's words */
};

/* By their names on the control socket; NULL: there is no such. */
static inline const char *md_policy_text(uint32_t policy) {
    static const char *const names[] = {"drop_oldest", "conflate", "lossless"};
    return policy < sizeof names / sizeof names[0] ? names[policy] : NULL;
}

static inline const char *md_wait_text(uint32_t wait) {
    static const char *const names[] = {"adaptive", "spin", "park"};
    return wait < sizeof names / sizeof names[0] ? names[wait] : NULL;
}

/* A page that nobody else sees, for a reader without a daemon; free() it. NULL: no memory. */
static inline struct md_reader_page *md_page_private(void) {
    void *memory;
    if (posix_memalign(&memory, 64, sizeof(struct md_reader_page)) != 0) {
        return NULL;
    }
    memset(memory, 0, sizeof(struct md_reader_page));
    struct md_reader_page *page = (struct md_reader_page *)memory;
    page->core = MD_CORE_NONE;
    page->core_now = MD_CORE_NONE;
    return page;
}

/* ---- the request --------------------------------------------------------------------------- */

/* So that it needs no quoting: [A-Za-z0-9._-]{1,31}. */
static inline int md_reader_name_is_valid(const char *name) {
    size_t size = strspn(name,
                         "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                         "0123456789._-");
    return size > 0 && size < MD_READER_NAME_SIZE && name[size] == 0;
}

/* Write the request's line. Returns its size, or 0 when it is none that the daemon would take. */
static inline size_t md_register_request(char out[MD_REQUEST_SIZE_MAX],
                                         const char *name,
                                         uint32_t policy,
                                         uint32_t wait,
                                         const uint32_t *rings,
                                         uint32_t ring_count,
                                         int core) {
    const char *policy_text = md_policy_text(policy);
    const char *wait_text = md_wait_text(wait);
    if (!md_reader_name_is_valid(name) || policy_text == NULL || wait_text == NULL ||
        ring_count == 0 || ring_count > MD_RING_COUNT_MAX) {
        return 0;
    }
    size_t room = MD_REQUEST_SIZE_MAX; /* more than 256 numbers and the longest words take */
    size_t size = (size_t)snprintf(out,
                                   room,
                                   "{\"op\":\"register\",\"name\":\"%s\",\"policy\":\"%s\","
                                   "\"wait\":\"%s\",\"core\":",
                                   name,
                                   policy_text,
                                   wait_text);
    if (core >= 0) {
        size += (size_t)snprintf(out + size, room - size, "%d", core);
    } else {
        size += (size_t)snprintf(out + size, room - size, "null");
    }
    for (uint32_t i = 0; i < ring_count; i++) {
        const char *before = i == 0 ? ",\"rings\":[" : ",";
        size += (size_t)snprintf(out + size, room - size, "%s%" PRIu32, before, rings[i]);
    }
    size += (size_t)snprintf(out + size, room - size, "]}\n");
    return size;
}

/* Map the page read-write, and check it before anything of it is believed. */
static inline enum md_register_result md_map_page(struct md_registration *out, int page_fd) {
    struct stat status;
    if (fstat(page_fd, &status) != 0 || status.st_size < (off_t)sizeof(struct md_reader_page)) {
        return MD_REGISTER_BAD_PAGE;
    }
    size_t size = (size_t)status.st_size;
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0);
    if (base == MAP_FAILED) {
        return MD_REGISTER_SYSTEM;
    }
    out->page = (struct md_reader_page *)base;
    out->page_size = size;
    if (md_reader_page_verify(out->page, size) != MD_SEGMENT_OK) {
        return MD_REGISTER_BAD_PAGE;
    }
    out->reader_id = out->page->reader_id;
    md_store_relaxed_u32(&out->page->core_now, MD_CORE_NONE); /* until it pins itself */
    return MD_REGISTER_OK;
}

static inline enum md_register_result
md_register_ask(struct md_registration *out, const char *request, size_t size, int *page_fd) {
    if (md_send_all(out->socket, request, size) != 0) {
        return errno == EAGAIN ? MD_REGISTER_TIMEOUT : MD_REGISTER_NO_DAEMON;
    }
    char line[MD_REQUEST_SIZE_MAX];
    enum md_register_result result = md_receive_line(out->socket, line, sizeof line, page_fd);
    if (result != MD_REGISTER_OK) {
        return result;
    }
    const char *ok = md_json_value(line, "\"ok\"");
    if (ok == NULL) {
        return MD_REGISTER_BAD_ANSWER;
    }
    if (strncmp(ok, "true", 4) != 0) {
        md_json_text(out->refusal, sizeof out->refusal, md_json_value(line, "\"error\""));
        return MD_REGISTER_REFUSED;
    }
    return *page_fd < 0 ? MD_REGISTER_BAD_PAGE : md_map_page(out, *page_fd);
}

/* ---- for strategies ------------------------------------------------------------------------ */

/* Leave the registry. The page goes too: no poller may count in it any more (md_poller_move). */
static inline void md_unregister(struct md_registration *registration) {
    int ours = registration->pid == getpid();
    if (registration->page != NULL && ours) {
        for (uint32_t i = 0; i < MD_RING_COUNT_MAX; i++) { /* nobody need wait for us */
            md_store_release_u64(&registration->page->ring[i].next, 0); /* A0: pairs with A1 */
        }
    }
    if (registration->socket >= 0) {
        if (ours) {
            shutdown(registration->socket, SHUT_RDWR); /* a forked child may hold it open */
        }
        close(registration->socket);
    }
    if (registration->page != NULL) {
        munmap(registration->page, registration->page_size);
    }
    registration->socket = -1;
    registration->page = NULL;
    registration->reader_id = 0;
}

/* Register a reader of some rings. Waits for the daemon's answer, MD_REGISTER_NS at most.
 *
 * instance: what md was attached by. name: for people, [A-Za-z0-9._-]{1,31}. rings: each in
 * [0, md->ring_count), each once. core: where it means to run, or MD_ANY_CORE; what the daemon's
 * configuration says stands in page->core. On failure *out is as md_unregister leaves it, but for
 * its refusal. */
static inline enum md_register_result md_register(struct md_registration *out,
                                                  const struct md_instance *md,
                                                  const char *instance,
                                                  const char *name,
                                                  enum md_policy policy,
                                                  enum md_wait wait,
                                                  const uint32_t *rings,
                                                  uint32_t ring_count,
                                                  int core) {
    memset(out, 0, sizeof *out);
    out->socket = -1;
    out->pid = getpid();
    char request[MD_REQUEST_SIZE_MAX];
    size_t size = md_register_request(
        request, name, (uint32_t)policy, (uint32_t)wait, rings, ring_count, core);
    if (size == 0) {
        return MD_REGISTER_BAD_ARGUMENT;
    }
    uint32_t writer_pid = md->symbols->segment.writer_pid;
    enum md_register_result result = md_control_find(&out->socket, instance, writer_pid);
    if (result != MD_REGISTER_OK) {
        return result;
    }
    int page_fd = -1;
    result = md_register_ask(out, request, size, &page_fd);
    int error = errno;
    if (page_fd >= 0) {
        close(page_fd);
    }
    if (result != MD_REGISTER_OK) {
        md_unregister(out);
    }
    errno = error;
    return result;
}

/* Whether the daemon still holds the entry; never waits. When not: register anew, md_poller_move to
 * the new page, md_unregister the old. */
static inline int md_registration_alive(const struct md_registration *registration) {
    char byte;
    if (registration->socket < 0) {
        return 0;
    }
    ssize_t size = recv(registration->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

/* What a ring's writer has promised a lossless reader: from sequence *from on nothing is
 * overwritten unread; from *ejected on it may be, 0: the promise stands. Returns 0 when there is no
 * promise. */
static inline int md_reader_granted(const struct md_ring_header *header,
                                    uint64_t reader_id,
                                    uint64_t *from,
                                    uint64_t *ejected) {
    for (unsigned i = 0; i < MD_GRANT_COUNT && reader_id != 0; i++) {
        const struct md_ring_grant *grant = &header->grants[i];
        if (md_load_acquire_u64(&grant->reader_id) == reader_id) { /* G2: pairs with G1 */
            *from = md_load_acquire_u64(&grant->from);
            *ejected = md_load_acquire_u64(&grant->ejected);           /* G4: pairs with G3 */
            if (md_load_relaxed_u64(&grant->reader_id) == reader_id) { /* still ours */
                return 1;
            }
        }
    }
    return 0;
}

/* Return once the writers of all these rings wait for us: call it when each ring's md_source_init
 * has shown where we begin. ns_max: MD_GRANT_NS is plenty where the feeds live. */
static inline enum md_register_result md_wait_granted(const struct md_registration *registration,
                                                      const struct md_instance *md,
                                                      const uint32_t *rings,
                                                      uint32_t ring_count,
                                                      int64_t ns_max) {
    int64_t deadline = md_monotonic_ns() + ns_max;
    for (uint32_t i = 0; i < ring_count;) {
        uint64_t from, ejected;
        if (md_reader_granted(md->ring[rings[i]], registration->reader_id, &from, &ejected)) {
            i++;
            continue;
        }
        if (md_monotonic_ns() >= deadline) {
            return MD_REGISTER_NOT_GRANTED;
        }
        struct timespec moment = {0, 1000000};
        nanosleep(&moment, NULL);
    }
    return MD_REGISTER_OK;
}

#endif
