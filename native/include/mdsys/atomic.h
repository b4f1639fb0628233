/* Atomic loads and stores on plain integers, for C17 and C++17 alike.
 *
 * The shared structs are read by C++ programs too, where C's _Atomic does not exist, so they hold
 * plain integers and every access that crosses a process border goes through these. They compile
 * to the same instructions as <stdatomic.h>; on x86-64 all but the full fence are plain moves.
 */
#ifndef MDSYS_ATOMIC_H
#define MDSYS_ATOMIC_H

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mdsys segments are little-endian"
#endif

/* A place to die: tests define it to kill the writer after any one store (native/tests). */
#ifndef MD_AFTER_STORE
#define MD_AFTER_STORE() ((void)0)
#endif

static inline uint64_t md_load_relaxed_u64(const uint64_t *from) {
    return __atomic_load_n(from, __ATOMIC_RELAXED);
}

static inline uint64_t md_load_acquire_u64(const uint64_t *from) {
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

static inline void md_store_relaxed_u64(uint64_t *to, uint64_t value) {
    __atomic_store_n(to, value, __ATOMIC_RELAXED);
    MD_AFTER_STORE();
}

static inline void md_store_release_u64(uint64_t *to, uint64_t value) {
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
    MD_AFTER_STORE();
}

static inline int64_t md_load_acquire_i64(const int64_t *from) {
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

static inline int64_t md_load_relaxed_i64(const int64_t *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline void md_store_relaxed_i64(int64_t *to, int64_t value) {
    __atomic_store_n(to, value, __ATOMIC_RELAXED);
    MD_AFTER_STORE();
}

static inline void md_store_release_i64(int64_t *to, int64_t value) {
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
    MD_AFTER_STORE();
}

static inline uint32_t md_load_acquire_u32(const uint32_t *from) {
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

static inline void md_store_relaxed_u32(uint32_t *to, uint32_t value) {
    __atomic_store_n(to, value, __ATOMIC_RELAXED);
}

static inline void md_store_release_u32(uint32_t *to, uint32_t value) {
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
}

/* Copy one shared 64-bit word into private memory, where order means nothing. */
static inline void md_word_copy(void *to, const uint64_t *from) {
    uint64_t word = md_load_relaxed_u64(from);
    __builtin_memcpy(to, &word, sizeof word);
}

/* Two words at a 16-byte border, by one instruction where there is one: x86-64 without a sanitizer
 * that would take plain accesses for races. C11 has no word for it; ring.h says why it is enough
 * (md_slot_copy, md_slot_store). */
#if defined(__SANITIZE_THREAD__)
#define MD_WORD_BY_WORD
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MD_WORD_BY_WORD
#endif
#endif
#if defined(__SSE2__) && !defined(MD_WORD_BY_WORD)
#define MD_PAIRS 1
typedef long long md_pair __attribute__((vector_size(16), may_alias));

static inline void md_pair_copy(void *to, const void *from) {
    md_pair pair = *(const volatile md_pair *)from;
    __builtin_memcpy(to, &pair, sizeof pair);
}

static inline void md_pair_store(void *to, const void *from) {
    md_pair pair;
    __builtin_memcpy(&pair, from, sizeof pair);
    *(volatile md_pair *)to = pair;
    MD_AFTER_STORE();
}
#else
#define MD_PAIRS 0
static inline void md_pair_copy(void *to, const void *from) {
    md_word_copy(to, (const uint64_t *)from);
    md_word_copy((uint64_t *)to + 1, (const uint64_t *)from + 1);
}

static inline void md_pair_store(void *to, const void *from) {
    uint64_t pair[2];
    __builtin_memcpy(pair, from, sizeof pair);
    md_store_relaxed_u64((uint64_t *)to, pair[0]);
    md_store_relaxed_u64((uint64_t *)to + 1, pair[1]);
}
#endif

static inline void md_fence_acquire(void) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

static inline void md_fence_release(void) {
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static inline void md_fence_seq_cst(void) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Tells the core that this is a spin loop: frees the sibling thread and leaves the loop cleanly. */
static inline void md_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

#endif
