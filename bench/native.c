/* What the Python benches need of C: a call that does nothing, and the ping-pong floor between two
 * Python processes on the cores where they are. Built by bench/lib.py as the module _bench. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "bench.h"
#include "mdsys/atomic.h"

/* The yardstick of python.poll64: the least that a call from Python into C can do. */
static PyObject *noop(PyObject *self, PyObject *none) {
    (void)self;
    (void)none;
    Py_RETURN_NONE;
}

enum { TRIPS_MAX = 100000 };

/* ping_pong(buffer, me, first, count) -> median of half a round trip, in ticks of the counter
 *
 * buffer: two cache lines, shared. me: 0 begins, 1 answers. Each value from first on is used once,
 * so that neither end takes an old one for new. The loop of bench_ring_latency.c, "floor". */
static PyObject *ping_pong(PyObject *self, PyObject *arguments) {
    (void)self;
    static uint32_t samples[TRIPS_MAX];
    Py_buffer view;
    unsigned me;
    unsigned long long first, count;
    if (!PyArg_ParseTuple(arguments, "w*IKK", &view, &me, &first, &count)) {
        return NULL;
    }
    if (view.len < 128 || me > 1 || count == 0 || count > TRIPS_MAX) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "give 128 bytes, 0 or 1, and a count in [1, 100000]");
        return NULL;
    }
    uint64_t *out = (uint64_t *)view.buf + 8 * me;
    uint64_t *in = (uint64_t *)view.buf + 8 * (1 - me);
    Py_BEGIN_ALLOW_THREADS;
    uint64_t start = bench_ticks();
    for (uint64_t n = first; n < first + count; n++) {
        if (me == 0) {
            md_store_release_u64(out, n);
        }
        while (md_load_acquire_u64(in) != n) {
        }
        if (me == 1) {
            md_store_release_u64(out, n);
        }
        uint64_t now = bench_ticks();
        samples[n - first] = (uint32_t)(now - start);
        start = now;
    }
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&view);
    qsort(samples, count, sizeof *samples, bench_compare_u32);
    /* The mean of the middle half: the median, without the counter's steps. */
    double sum = 0;
    uint64_t low = count / 4, high = count - count / 4;
    for (uint64_t i = low; i < high; i++) {
        sum += samples[i];
    }
    return PyFloat_FromDouble(sum / (double)(high - low) / 2);
}

static PyObject *ns_per_tick(PyObject *self, PyObject *none) {
    (void)self;
    (void)none;
    return PyFloat_FromDouble(bench_ns_per_tick());
}

static PyMethodDef methods[] = {
    {"noop", noop, METH_NOARGS, "Do nothing."},
    {"ping_pong", ping_pong, METH_VARARGS, "Half a round trip of a cache line, in ticks."},
    {"ns_per_tick", ns_per_tick, METH_NOARGS, "Length of a tick."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_bench", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__bench(void) {
    return PyModule_Create(&module);
}
