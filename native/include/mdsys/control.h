/* The daemon's control socket: where it lies, and one line there and one back. See register.h.
 *
 * RUNDIR/INSTANCE.sock, a unix socket; a line is one JSON object. What the daemon says is believed
 * because the kernel names the process at the other end, and it is the one that writes the symbol
 * directory.
 */
#ifndef MDSYS_CONTROL_H
#define MDSYS_CONTROL_H

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "mdsys/bell.h"
#include "mdsys/segment.h"

#ifndef SO_PEERCRED
#define SO_PEERCRED 17 /* unix(7); strict C hides it. The same on x86-64 and aarch64 */
#endif

#define MD_REGISTER_NS INT64_C(5000000000) /* how long the daemon may take to answer */
#define MD_REQUEST_SIZE_MAX 4096u          /* bytes of a line, its feed not counted */

/* Append-only. */
enum md_register_result {
    MD_REGISTER_OK = 0,
    MD_REGISTER_SYSTEM = 1,        /* errno says why */
    MD_REGISTER_NO_DAEMON = 2,     /* none runs, or its run directory is not to be seen from here */
    MD_REGISTER_NO_PERMISSION = 3, /* its socket is there and does not let this user in */
    MD_REGISTER_REFUSED = 4,       /* registration->refusal says why */
    MD_REGISTER_TIMEOUT = 5,
    MD_REGISTER_BAD_ARGUMENT = 6, /* name, policy, wait or rings are none */
    MD_REGISTER_BAD_ANSWER = 7,   /* no line that can be understood */
    MD_REGISTER_BAD_PAGE = 8,     /* none came, or one of another layout */
    MD_REGISTER_NOT_GRANTED = 9,  /* a writer does not wait for us: dead, stuck, or has enough */
};

static inline const char *md_register_result_text(enum md_register_result result) {
    switch (result) {
    case MD_REGISTER_OK:
        return "registered";
    case MD_REGISTER_SYSTEM:
        return strerror(errno);
    case MD_REGISTER_NO_DAEMON:
        return "no daemon of this instance can be reached";
    case MD_REGISTER_NO_PERMISSION:
        return "its control socket does not let this user in";
    case MD_REGISTER_REFUSED:
        return "the daemon refused";
    case MD_REGISTER_TIMEOUT:
        return "the daemon did not answer in time";
    case MD_REGISTER_BAD_ARGUMENT:
        return "name, policy, wait or rings are none";
    case MD_REGISTER_BAD_ANSWER:
        return "the daemon's answer cannot be understood";
    case MD_REGISTER_BAD_PAGE:
        return "the daemon's answer came without a page of this version";
    case MD_REGISTER_NOT_GRANTED:
        return "a writer does not wait for this reader";
    }
    return "unknown result";
}

/* struct ucred, which strict C hides: who listens at the socket's other end, says the kernel. */
struct md_credentials {
    int32_t pid;
    uint32_t uid;
    uint32_t gid;
};

/* Connect to dir/INSTANCE.sock if process writer_pid listens there. Returns a socket, or -1 with
 * errno; ESRCH: somebody else listens. */
static inline int md_control_connect(const char *dir, const char *instance, uint32_t writer_pid) {
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    int size = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s.sock", dir, instance);
    if (size < 0 || (size_t)size >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    /* Of connect, where the daemon has no room to listen, and of send. */
    struct timeval patience = {MD_REGISTER_NS / 1000000000, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int failed;
    do {
        failed = connect(fd, (const struct sockaddr *)&address, sizeof address);
    } while (failed != 0 && errno == EINTR); /* a unix socket's connect has not begun then */
    struct md_credentials peer = {0, 0, 0};
    socklen_t peer_size = sizeof peer;
    if (failed == 0 && (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) != 0 ||
                        peer.pid <= 0 || (uint32_t)peer.pid != writer_pid)) {
        errno = ESRCH;
        failed = -1;
    }
    if (failed != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* Look for the daemon's socket where it may lie. Anybody may make a directory in /tmp, so only who
 * writes the symbol directory is believed. */
static inline enum md_register_result
md_control_find(int *out, const char *instance, uint32_t writer_pid) {
    char dirs[3][MD_PATH_SIZE];
    unsigned count = 0;
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    snprintf(dirs[count++], MD_PATH_SIZE, "/run/mdsys");
    if (runtime != NULL && runtime[0] != 0 && strlen(runtime) < MD_PATH_SIZE - sizeof "/mdsys") {
        snprintf(dirs[count++], MD_PATH_SIZE, "%s/mdsys", runtime);
    }
    snprintf(dirs[count++], MD_PATH_SIZE, "/tmp/mdsys-%u", (unsigned)getuid());
    enum md_register_result result = MD_REGISTER_NO_DAEMON;
    for (unsigned i = 0; i < count; i++) {
        *out = md_control_connect(dirs[i], instance, writer_pid);
        if (*out >= 0) {
            return MD_REGISTER_OK;
        }
        if (errno == EACCES || errno == EPERM) {
            result = MD_REGISTER_NO_PERMISSION;
        } else if (errno == EAGAIN && result == MD_REGISTER_NO_DAEMON) {
            result = MD_REGISTER_TIMEOUT;
        }
    }
    return result;
}

static inline int md_send_all(int fd, const char *data, size_t size) {
    while (size != 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent <= 0) {
            return -1;
        }
        data += sent;
        size -= (size_t)sent;
    }
    return 0;
}

/* ---- the answer ---------------------------------------------------------------------------- */

/* Receive what is there, and the one descriptor that may come with it. */
static inline ssize_t md_receive(int fd, char *out, size_t room, int *page_fd) {
    struct iovec part = {out, room};
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message;
    memset(&control, 0, sizeof control);
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = CMSG_LEN(sizeof(int)); /* the kernel closes what has no room */
    ssize_t size = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    const struct cmsghdr *header = size >= 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int))) {
        if (*page_fd >= 0) {
            close(*page_fd);
        }
        memcpy(page_fd, CMSG_DATA(header), sizeof *page_fd);
    }
    return size;
}

/* Read the answer's line into out, NUL-terminated. */
static inline enum md_register_result
md_receive_line(int fd, char *out, size_t room, int *page_fd) {
    int64_t deadline = md_monotonic_ns() + MD_REGISTER_NS;
    size_t size = 0;
    while (size == 0 || out[size - 1] != '\n') {
        int64_t left_ms = (deadline - md_monotonic_ns()) / 1000000;
        if (left_ms <= 0) {
            return MD_REGISTER_TIMEOUT;
        }
        if (size == room - 1) {
            return MD_REGISTER_BAD_ANSWER;
        }
        struct pollfd look = {fd, POLLIN, 0};
        if (poll(&look, 1, (int)left_ms) <= 0) {
            continue; /* a signal, or too late */
        }
        ssize_t got = md_receive(fd, out + size, room - 1 - size, page_fd);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (got <= 0) {
            return MD_REGISTER_NO_DAEMON; /* it ended before it answered */
        }
        size += (size_t)got;
    }
    out[size] = 0;
    return MD_REGISTER_OK;
}

/* Where the value of a key begins; NULL: the line has no such key. Enough for the daemon's lines:
 * flat where it matters, and a quote within a text is escaped, so no text looks like a key. */
static inline const char *md_json_value(const char *line, const char *quoted_key) {
    const char *at = strstr(line, quoted_key);
    if (at == NULL) {
        return NULL;
    }
    at += strlen(quoted_key);
    at += strspn(at, " ");
    if (*at != ':') {
        return NULL;
    }
    return at + 1 + strspn(at + 1, " ");
}

/* Copy a JSON text, unescaped where that is one character, as far as it fits. */
static inline void md_json_text(char *out, size_t room, const char *value) {
    size_t size = 0;
    if (value != NULL && *value == '"') {
        for (value++; *value != 0 && *value != '"' && size + 1 < room; value++) {
            if (*value == '\\' && (value[1] == '"' || value[1] == '\\' || value[1] == '/')) {
                value++;
            }
            out[size++] = *value;
        }
    }
    out[size] = 0;
}

#endif
