# distutils: language = c++
# distutils: extra_compile_args = -O3 -ffp-contract=off
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""The loops that divide rows along a graph; signatures and meaning are in ``_graph_cut.pyi``."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t
from libcpp.vector cimport vector

import numpy as np

cdef Py_ssize_t PIECE = 1 << 16  # rows between two looks at signals


def breadth_first(const int64_t[::1] indptr, const int32_t[::1] indices):
    cdef Py_ssize_t n = indptr.shape[0] - 1, head = 0, tail = 0, first, start, e
    cdef int32_t i, j
    order = np.empty(n, dtype=np.int32)
    cdef int32_t[::1] out = order
    cdef unsigned char[::1] seen = np.zeros(n, dtype=np.uint8)
    for first in range(0, n, PIECE):
        with nogil:
            for start in range(first, min(first + PIECE, n)):
                if seen[start]:
                    continue
                seen[start] = 1
                out[tail] = start
                tail += 1
                while head < tail:
                    i = out[head]
                    head += 1
                    for e in range(indptr[i], indptr[i + 1]):
                        j = indices[e]
                        if not seen[j]:
                            seen[j] = 1
                            out[tail] = j
                            tail += 1
        PyErr_CheckSignals()
    return order


def stream(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const int32_t[::1] order,
    int32_t[::1] part,
    int64_t[::1] size,
    int64_t most,
):
    cdef Py_ssize_t n = order.shape[0], n_parts = size.shape[0], first, t, e, c
    cdef int32_t i, p, old, best
    cdef int64_t inside = 0
    cdef double worth, found
    cdef vector[int32_t] near
    cdef int32_t[::1] count = np.zeros(n_parts, dtype=np.int32)
    for first in range(0, n, PIECE):
        with nogil:
            for t in range(first, min(first + PIECE, n)):
                i = order[t]
                near.clear()
                for e in range(indptr[i], indptr[i + 1]):
                    p = part[indices[e]]
                    if p >= 0:
                        if not count[p]:
                            near.push_back(p)
                        count[p] += 1
                old = best = part[i]
                found = 0
                if old >= 0:
                    size[old] -= 1
                    found = count[old] * (1 - <double>size[old] / most)
                for c in range(<Py_ssize_t>near.size()):
                    p = near[c]
                    if size[p] < most:
                        worth = count[p] * (1 - <double>size[p] / most)
                        if worth > found or (worth == found and best != old and p < best):
                            found, best = worth, p
                if best < 0:
                    best = 0
                    for c in range(1, n_parts):
                        if size[c] < size[best]:
                            best = c
                part[i] = best
                size[best] += 1
                inside += count[best]
                for c in range(<Py_ssize_t>near.size()):
                    count[near[c]] = 0
        PyErr_CheckSignals()
    return inside
