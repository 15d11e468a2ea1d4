# distutils: language = c++
# distutils: extra_compile_args = -O3 -ffp-contract=off
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""The loops that NumPy cannot express; signatures and meaning are in ``_neighbors.pyi``.

Sums run in a fixed order and no product is fused with a sum (``-ffp-contract=off``), so results
do not depend on threads, and equal those of the plain loops in the tests.
"""

from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy
from libcpp.algorithm cimport nth_element, sort
from libcpp.pair cimport pair
from libcpp.queue cimport priority_queue
from libcpp.vector cimport vector

import numpy as np

ctypedef fused real:
    float
    double

cdef struct Candidate:
    float lower
    float upper
    int32_t column


# --- graph: exact search --------------------------------------------------------------------


cdef class CandidateBlock:
    cdef vector[vector[Candidate]] rows
    cdef vector[size_t] capacity
    cdef vector[float] limit
    cdef vector[float] margin
    cdef vector[float] uppers
    cdef Py_ssize_t k

    def __init__(self, const float[::1] margin, Py_ssize_t k):
        cdef Py_ssize_t r, n = margin.shape[0]
        self.k = k
        self.rows.resize(n)
        self.capacity.assign(n, max(4 * k, 64))
        self.limit.assign(n, INFINITY)
        self.margin.resize(n)
        for r in range(n):
            self.margin[r] = margin[r]
            self.rows[r].reserve(self.capacity[r])

    cdef void tighten(self, Py_ssize_t r) noexcept nogil:
        cdef size_t i, kept = 0, n = self.rows[r].size()
        if n < <size_t>self.k:
            return
        self.uppers.resize(n)
        for i in range(n):
            self.uppers[i] = self.rows[r][i].upper
        nth_element(
            self.uppers.begin(), self.uppers.begin() + (self.k - 1), self.uppers.end()
        )
        self.limit[r] = self.uppers[self.k - 1] + self.margin[r]
        for i in range(n):
            if self.rows[r][i].lower <= self.limit[r]:
                self.rows[r][kept] = self.rows[r][i]
                kept += 1
        self.rows[r].resize(kept)

    def scan(
        self,
        const float[:, ::1] products,
        const float[::1] lower,
        const float[::1] upper,
        const int32_t[::1] own,
        Py_ssize_t first_column,
    ):
        cdef Py_ssize_t r, j, start, stop, n_columns = products.shape[1]
        cdef const float* product
        cdef const float* low = &lower[0]
        cdef float limit, value
        cdef int hits
        cdef Candidate candidate
        with nogil:
            for r in range(products.shape[0]):
                product = &products[r, 0]
                start = 0
                while start < n_columns:
                    stop = min(start + 64, n_columns)
                    limit = self.limit[r]
                    hits = 0
                    for j in range(start, stop):  # a plain count, so that it is vectorised
                        hits += (low[j] - 2 * product[j]) <= limit
                    if hits:
                        for j in range(start, stop):
                            value = low[j] - 2 * product[j]
                            if value <= limit and first_column + j != own[r]:
                                candidate.lower = value
                                candidate.upper = upper[j] - 2 * product[j]
                                candidate.column = <int32_t>(first_column + j)
                                self.rows[r].push_back(candidate)
                        if self.rows[r].size() >= self.capacity[r]:
                            self.tighten(r)
                            if 2 * self.rows[r].size() > self.capacity[r]:
                                self.capacity[r] *= 2
                    start = stop

    def finish(self):
        cdef Py_ssize_t r, i, at = 0, n = self.rows.size()
        indptr = np.zeros(n + 1, dtype=np.int64)
        cdef int64_t[::1] ends = indptr
        with nogil:
            for r in range(n):
                self.tighten(r)
                ends[r + 1] = ends[r] + <int64_t>self.rows[r].size()
        columns = np.empty(ends[n], dtype=np.int32)
        cdef int32_t[::1] flat = columns
        with nogil:
            for r in range(n):
                for i in range(<Py_ssize_t>self.rows[r].size()):
                    flat[at] = self.rows[r][i].column
                    at += 1
        return indptr, columns


# --- graph: true distances, the k nearest, twins -----------------------------------------------


cdef inline float distance(const real* a, const real* b, Py_ssize_t dim) noexcept nogil:
    # Eight fixed partial sums: symmetric in a and b, the same on every run, and vectorised.
    cdef double[8] part
    cdef double difference
    cdef Py_ssize_t i, lane, whole = dim - dim % 8
    for lane in range(8):
        part[lane] = 0
    i = 0
    while i < whole:
        for lane in range(8):
            difference = <double>a[i + lane] - <double>b[i + lane]
            part[lane] += difference * difference
        i += 8
    for lane in range(dim - whole):
        difference = <double>a[whole + lane] - <double>b[whole + lane]
        part[lane] += difference * difference
    return <float>sqrt(
        ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]))
    )


def nearest_of(
    const real[:, ::1] vectors,
    const int64_t[::1] rows,
    const int32_t[::1] queries,
    const int64_t[::1] indptr,
    const int32_t[::1] candidates,
    Py_ssize_t k,
):
    cdef Py_ssize_t q, e, i, dim = vectors.shape[1], n = queries.shape[0]
    cdef int32_t own, other
    cdef vector[pair[float, int32_t]] found
    neighbors = np.full((n, k), -1, dtype=np.int32)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    cdef int32_t[:, ::1] nearest = neighbors
    cdef float[:, ::1] near = distances
    with nogil:
        for q in range(n):
            found.clear()
            own = queries[q]
            for e in range(indptr[q], indptr[q + 1]):
                other = candidates[e]
                if other >= 0 and other != own:
                    found.push_back(
                        pair[float, int32_t](
                            distance(&vectors[rows[own], 0], &vectors[rows[other], 0], dim), other
                        )
                    )
            sort(found.begin(), found.end())
            for i in range(min(k, <Py_ssize_t>found.size())):
                near[q, i] = found[i].first
                nearest[q, i] = found[i].second
    return neighbors, distances


def first_twins(const real[:, ::1] vectors, const int64_t[::1] rows):
    cdef Py_ssize_t i, j, n = rows.shape[0], dim = vectors.shape[1]
    cdef uint64_t key, bits, mask
    cdef int32_t other
    cdef double value
    cdef const real* a
    cdef const real* b
    cdef size_t size = 16
    cdef bint same
    while size < 2 * <size_t>n:
        size *= 2
    mask = size - 1
    cdef vector[int32_t] table
    cdef vector[uint64_t] keys
    first = np.empty(n, dtype=np.int32)
    cdef int32_t[::1] twin = first
    with nogil:
        table.assign(size, -1)
        keys.resize(n)
        for i in range(n):
            a = &vectors[rows[i], 0]
            key = 0x9E3779B97F4A7C15ULL
            for j in range(dim):
                value = <double>a[j] + 0.0  # -0.0 and 0.0 are the same place
                memcpy(&bits, &value, 8)
                key = (key ^ bits) * 0xD6E8FEB86659FD93ULL
                key ^= key >> 32
            keys[i] = key
            key &= mask
            while True:
                other = table[key]
                if other < 0:
                    table[key] = <int32_t>i
                    twin[i] = <int32_t>i
                    break
                if keys[other] == keys[i]:
                    b = &vectors[rows[other], 0]
                    same = True
                    for j in range(dim):
                        if a[j] != b[j]:
                            same = False
                            break
                    if same:
                        twin[i] = other
                        break
                key = (key + 1) & mask
    return first


def spread_to_twins(
    const int32_t[:, ::1] neighbors,
    const float[:, ::1] distances,
    const int64_t[::1] indptr,
    const int32_t[::1] members,
    Py_ssize_t n,
    Py_ssize_t k,
):
    cdef Py_ssize_t u, c, e, i, taken, n_places = neighbors.shape[0]
    cdef int64_t first, last
    cdef int32_t row
    cdef vector[pair[float, int32_t]] found
    spread = np.full((n, k), -1, dtype=np.int32)
    lengths = np.full((n, k), np.inf, dtype=np.float32)
    cdef int32_t[:, ::1] nearest = spread
    cdef float[:, ::1] near = lengths
    with nogil:
        for u in range(n_places):
            found.clear()
            # k + 1 members are enough: one of them may be the row that asks.
            for e in range(indptr[u], min(indptr[u + 1], indptr[u] + k + 1)):
                found.push_back(pair[float, int32_t](0, members[e]))
            for c in range(neighbors.shape[1]):
                if neighbors[u, c] < 0:
                    break
                first = indptr[neighbors[u, c]]
                last = indptr[neighbors[u, c] + 1]
                for e in range(first, min(last, first + k)):
                    found.push_back(pair[float, int32_t](distances[u, c], members[e]))
            sort(found.begin(), found.end())
            for e in range(indptr[u], indptr[u + 1]):
                row = members[e]
                taken = 0
                for i in range(<Py_ssize_t>found.size()):
                    if taken == k:
                        break
                    if found[i].second != row:
                        near[row, taken] = found[i].first
                        nearest[row, taken] = found[i].second
                        taken += 1
    return spread, lengths
