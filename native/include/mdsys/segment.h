/* What every shared-memory segment begins with, and how a program of any language checks it.
 *
 * An instance is a handful of files: mdsys.INSTANCE.symbols in MD_ROOT_DIR names the directory
 * that holds the rest (mdsys.INSTANCE.ring.N, .cache, .counters). One process writes each; the
 * others map it read-only. Offsets only, never pointers. A restarted writer adopts the file: same
 * bytes, same sequences, epoch + 1.
 */
#ifndef MDSYS_SEGMENT_H
#define MDSYS_SEGMENT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mdsys/atomic.h"

#define MD_ROOT_DIR "/dev/shm"
#define MD_MAGIC UINT64_C(0x314745535344454d) /* never changes; ABI changes go to abi_version */
#define MD_ABI_VERSION 4u
#define MD_PATH_SIZE 256u
#define MD_INSTANCE_SIZE 33u      /* [a-z0-9_-]{1,32} and its NUL */
#define MD_PAGE_HEADER_SIZE 4096u /* data begins on a page of its own */
#define MD_RING_COUNT_MAX 256u

enum md_segment_kind {
    MD_SEGMENT_SYMBOLS = 1,
    MD_SEGMENT_RING = 2,
    MD_SEGMENT_CACHE = 3,
    MD_SEGMENT_COUNTERS = 4,
    MD_SEGMENT_READER = 5, /* no file: a memfd, see reader_page.h */
};

enum md_segment_state {
    MD_STATE_NEW = 0,
    MD_STATE_RUNNING = 1,
    MD_STATE_STOPPED = 2,    /* its writer left in order; the next one adopts it */
    MD_STATE_SUPERSEDED = 3, /* unlinked: another file bears this name now, attach anew */
};

struct md_segment_header {
    uint64_t magic; /* published last on create, cleared first on unlink */
    uint32_t abi_version;
    uint32_t kind;        /* enum md_segment_kind */
    uint64_t size_bytes;  /* of the whole file */
    uint64_t schema_hash; /* of the layout's description: two builds agree or refuse */
    uint32_t state;       /* enum md_segment_state */
    uint32_t index;       /* which ring, in [0, ring_count) */
    uint64_t epoch;       /* one more at each writer that takes the segment over, from 1 */
    uint32_t writer_pid;
    uint32_t reserved0;
    uint64_t writer_start_ticks; /* /proc/PID/stat field 22: tells a reused pid apart */
    uint64_t geometry[4];        /* per kind, see there; with size_bytes what adoption compares */
    int64_t created_ns;
    int64_t heartbeat_ns; /* the writer was alive and had published all it had received */
    uint64_t reserved1[2];
};

static_assert(sizeof(struct md_segment_header) == 128, "two cache lines");
static_assert(offsetof(struct md_segment_header, state) == 32, "layout");
static_assert(offsetof(struct md_segment_header, epoch) == 40, "layout");
static_assert(offsetof(struct md_segment_header, writer_start_ticks) == 56, "layout");
static_assert(offsetof(struct md_segment_header, geometry) == 64, "layout");
static_assert(offsetof(struct md_segment_header, heartbeat_ns) == 104, "layout");

/* Append-only. Also what attach answers. */
enum md_segment_result {
    MD_SEGMENT_OK = 0,
    MD_SEGMENT_SYSTEM = 1,    /* errno says why */
    MD_SEGMENT_BAD_MAGIC = 2, /* not ours, or its creation was cut short */
    MD_SEGMENT_BAD_ABI = 3,   /* another version of mdsys wrote it */
    MD_SEGMENT_BAD_SIZE = 4,  /* the file is shorter than its header says */
    MD_SEGMENT_BAD_SCHEMA = 5,
    MD_SEGMENT_BAD_KIND = 6,
    MD_SEGMENT_SUPERSEDED = 7,
    MD_SEGMENT_BAD_GEOMETRY = 8, /* offsets, strides or counts that do not fit the file */
    MD_SEGMENT_NAME_TOO_LONG = 9,
};

/* Check a mapping of mapped_size bytes (>= MD_PAGE_HEADER_SIZE) before anything else is read of it.
 * Each kind then checks its own geometry. */
static inline enum md_segment_result md_segment_verify(const struct md_segment_header *segment,
                                                       uint64_t mapped_size,
                                                       enum md_segment_kind kind,
                                                       uint64_t schema_hash) {
    if (mapped_size < MD_PAGE_HEADER_SIZE) {
        return MD_SEGMENT_BAD_SIZE;
    }
    if (md_load_acquire_u64(&segment->magic) != MD_MAGIC) {
        return MD_SEGMENT_BAD_MAGIC;
    }
    if (segment->abi_version != MD_ABI_VERSION) {
        return MD_SEGMENT_BAD_ABI;
    }
    if (segment->kind != (uint32_t)kind) {
        return MD_SEGMENT_BAD_KIND;
    }
    if (segment->schema_hash != schema_hash) {
        return MD_SEGMENT_BAD_SCHEMA;
    }
    if (segment->size_bytes > mapped_size) {
        return MD_SEGMENT_BAD_SIZE;
    }
    if (md_load_acquire_u32(&segment->state) == MD_STATE_SUPERSEDED) {
        return MD_SEGMENT_SUPERSEDED;
    }
    return MD_SEGMENT_OK;
}

/* Whether count things of stride bytes from offset on lie behind the header page and in the file.
 */
static inline int md_segment_fits(const struct md_segment_header *segment,
                                  uint64_t offset,
                                  uint64_t stride,
                                  uint64_t count) {
    return offset >= MD_PAGE_HEADER_SIZE && offset <= segment->size_bytes && offset % 64 == 0 &&
           stride != 0 && count <= (segment->size_bytes - offset) / stride;
}

#endif
