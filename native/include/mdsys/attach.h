/* Attach to a running (or stopped) instance from C or C++, with nothing but these headers.
 *
 *     struct md_instance md;
 *     if (md_attach(&md, "default") != MD_SEGMENT_OK) { ... }
 *     struct md_ring_reader reader = md_instance_reader(&md, 0);
 *     struct md_record records[64];
 *     uint64_t n = md_reader_read(&reader, records, 64);
 *     md_detach(&md);
 *
 * Everything is mapped read-only: a stray write dies here and harms nobody.
 */
#ifndef MDSYS_ATTACH_H
#define MDSYS_ATTACH_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdsys/cache.h"
#include "mdsys/ring.h"
#include "mdsys/symbols.h"

#ifndef O_CLOEXEC
#error "needs POSIX.1-2008: compile with -std=gnu17 or -D_POSIX_C_SOURCE=200809L"
#endif

struct md_mapping {
    void *base; /* NULL: not mapped */
    size_t size;
};

struct md_instance {
    const struct md_symbols_header *symbols;
    const struct md_cache_header *cache;
    const struct md_ring_header *ring[MD_RING_COUNT_MAX];
    uint32_t ring_count;
    struct md_mapping mapping[MD_RING_COUNT_MAX + 2]; /* symbols, cache, rings */
};

static inline const char *md_segment_result_text(enum md_segment_result result) {
    switch (result) {
    case MD_SEGMENT_OK:
        return "attached";
    case MD_SEGMENT_SYSTEM:
        return strerror(errno);
    case MD_SEGMENT_BAD_MAGIC:
        return "not a finished mdsys segment";
    case MD_SEGMENT_BAD_ABI:
        return "written by another version of mdsys";
    case MD_SEGMENT_BAD_SIZE:
        return "file shorter than its header says";
    case MD_SEGMENT_BAD_SCHEMA:
        return "another record layout";
    case MD_SEGMENT_BAD_KIND:
        return "another kind of segment";
    case MD_SEGMENT_SUPERSEDED:
        return "superseded: attach anew";
    case MD_SEGMENT_BAD_GEOMETRY:
        return "damaged header";
    case MD_SEGMENT_NAME_TOO_LONG:
        return "instance name or directory too long";
    }
    return "unknown result";
}

/* Map a whole file read-only. The descriptor is closed again; the mapping keeps the file. */
static inline enum md_segment_result md_map_readonly(struct md_mapping *out, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* a FIFO would block */
    if (fd < 0) {
        return MD_SEGMENT_SYSTEM;
    }
    struct stat status;
    if (fstat(fd, &status) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return MD_SEGMENT_SYSTEM;
    }
    if (!S_ISREG(status.st_mode) || status.st_size < (off_t)MD_PAGE_HEADER_SIZE) {
        close(fd);
        return MD_SEGMENT_BAD_SIZE;
    }
    size_t size = (size_t)status.st_size;
    void *base = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    int error = errno;
    close(fd);
    if (base == MAP_FAILED) {
        errno = error;
        return MD_SEGMENT_SYSTEM;
    }
    out->base = base;
    out->size = size;
    return MD_SEGMENT_OK;
}

static inline void md_detach(struct md_instance *instance) {
    for (size_t i = 0; i < sizeof instance->mapping / sizeof instance->mapping[0]; i++) {
        if (instance->mapping[i].base != NULL) {
            munmap(instance->mapping[i].base, instance->mapping[i].size);
        }
    }
    memset(instance, 0, sizeof *instance);
}

static inline enum md_segment_result md_attach_part(struct md_mapping *mapping,
                                                    const char *dir,
                                                    const char *instance,
                                                    const char *part) {
    char path[MD_PATH_SIZE * 2];
    int size = snprintf(path, sizeof path, "%s/mdsys.%s.%s", dir, instance, part);
    if (size < 0 || (size_t)size >= sizeof path) {
        return MD_SEGMENT_NAME_TOO_LONG;
    }
    return md_map_readonly(mapping, path);
}

static inline enum md_segment_result md_attach_all(struct md_instance *md, const char *instance) {
    struct md_mapping *mapping = md->mapping;
    enum md_segment_result result = md_attach_part(mapping, MD_ROOT_DIR, instance, "symbols");
    if (result != MD_SEGMENT_OK) {
        return result;
    }
    md->symbols = (const struct md_symbols_header *)mapping->base;
    result = md_symbols_verify(md->symbols, mapping->size);
    if (result != MD_SEGMENT_OK) {
        return result;
    }
    const char *dir = md->symbols->dir;
    mapping++;
    result = md_attach_part(mapping, dir, instance, "cache");
    if (result != MD_SEGMENT_OK) {
        return result;
    }
    md->cache = (const struct md_cache_header *)mapping->base;
    result = md_cache_verify(md->cache, mapping->size);
    if (result != MD_SEGMENT_OK) {
        return result;
    }
    if (md->cache->capacity < md->symbols->capacity) {
        return MD_SEGMENT_BAD_GEOMETRY;
    }
    for (uint32_t i = 0; i < md->symbols->ring_count; i++) {
        char part[32];
        snprintf(part, sizeof part, "ring.%u", i);
        mapping++;
        result = md_attach_part(mapping, dir, instance, part);
        if (result != MD_SEGMENT_OK) {
            return result;
        }
        md->ring[i] = (const struct md_ring_header *)mapping->base;
        result = md_ring_verify(md->ring[i], mapping->size);
        if (result != MD_SEGMENT_OK) {
            return result;
        }
        if (md->ring[i]->segment.index != i) {
            return MD_SEGMENT_BAD_GEOMETRY;
        }
        md->ring_count = i + 1;
    }
    return MD_SEGMENT_OK;
}

/* Map and verify all of an instance. instance: [a-z0-9_-]{1,32}. On failure nothing is mapped; with
 * MD_SEGMENT_SYSTEM errno is set, ENOENT when no such instance was ever started. */
static inline enum md_segment_result md_attach(struct md_instance *md, const char *instance) {
    memset(md, 0, sizeof *md);
    enum md_segment_result result = md_attach_all(md, instance);
    if (result != MD_SEGMENT_OK) {
        int error = errno;
        md_detach(md);
        errno = error;
    }
    return result;
}

/* Whether the instance was started anew with another geometry, or cleaned: what was published is
 * still to be read, nothing more will come, and md_attach finds what took its place. */
static inline int md_instance_superseded(const struct md_instance *md) {
    return md_load_acquire_u32(&md->symbols->segment.state) == MD_STATE_SUPERSEDED;
}

/* A reader of one ring, from the next record on. ring: in [0, ring_count). */
static inline struct md_ring_reader md_instance_reader(const struct md_instance *md,
                                                       uint32_t ring) {
    return md_reader_init(md->ring[ring]);
}

#endif
