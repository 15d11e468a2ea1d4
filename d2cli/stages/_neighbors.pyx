# distutils: language = c++
# distutils: extra_compile_args = -O3 -ffp-contract=off
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""The loops that NumPy cannot express; signatures and meaning are in ``_neighbors.pyi``.

Sums run in a fixed order and no product is fused with a sum (``-ffp-contract=off``), so results
do not depend on threads, and equal those of the plain loops in the tests.
"""

from libc.math cimport INFINITY, nextafterf, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy
from libcpp.algorithm cimport nth_element, pop_heap, push_heap, sort
from libcpp.pair cimport pair
from libcpp.queue cimport priority_queue
from libcpp.vector cimport vector

import numpy as np

cdef extern from *:
    """
    // Wider vectors where the processor has them, chosen when the module is loaded. Every sum has
    // fixed lanes, so the result is the same with all of them.
    #if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__)
    #define D2_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
    #else
    #define D2_CLONES
    #endif

    template <typename T> static inline __attribute__((always_inline)) double d2_lanes(
        const T* a, const T* b, ptrdiff_t dim
    ) {
        double part[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        ptrdiff_t i = 0, lane;
        for (; i + 8 <= dim; i += 8)
            for (lane = 0; lane < 8; lane++) {
                double difference = (double)a[i + lane] - (double)b[i + lane];
                part[lane] += difference * difference;
            }
        for (lane = 0; i + lane < dim; lane++) {
            double difference = (double)a[i + lane] - (double)b[i + lane];
            part[lane] += difference * difference;
        }
        return ((part[0] + part[1]) + (part[2] + part[3]))
            + ((part[4] + part[5]) + (part[6] + part[7]));
    }

    D2_CLONES static double d2_square_of(const float* a, const float* b, ptrdiff_t dim) {
        return d2_lanes(a, b, dim);
    }

    D2_CLONES static double d2_square_of_wide(const double* a, const double* b, ptrdiff_t dim) {
        return d2_lanes(a, b, dim);
    }

    D2_CLONES static float d2_short_square(const float* a, const float* b, ptrdiff_t dim) {
        float part[16] = {0};
        ptrdiff_t i = 0, lane;
        for (; i + 16 <= dim; i += 16)
            for (lane = 0; lane < 16; lane++) {
                float difference = a[i + lane] - b[i + lane];
                part[lane] += difference * difference;
            }
        for (lane = 0; i + lane < dim; lane++) {
            float difference = a[i + lane] - b[i + lane];
            part[lane] += difference * difference;
        }
        float sum = 0;
        for (lane = 0; lane < 16; lane++) sum += part[lane];
        return sum;
    }

    // How many of n values low - 2 product are at most a limit.
    D2_CLONES static int d2_hits(
        const float* low, const float* product, float limit, ptrdiff_t n
    ) {
        int hits = 0;
        for (ptrdiff_t j = 0; j < n; j++) hits += (low[j] - 2 * product[j]) <= limit;
        return hits;
    }

    template <typename T> static inline __attribute__((always_inline)) double d2_l1_lanes(
        const T* a, const T* b, ptrdiff_t dim
    ) {
        double part[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        ptrdiff_t i = 0, lane;
        for (; i + 8 <= dim; i += 8)
            for (lane = 0; lane < 8; lane++)
                part[lane] += __builtin_fabs((double)a[i + lane] - (double)b[i + lane]);
        for (lane = 0; i + lane < dim; lane++)
            part[lane] += __builtin_fabs((double)a[i + lane] - (double)b[i + lane]);
        return ((part[0] + part[1]) + (part[2] + part[3]))
            + ((part[4] + part[5]) + (part[6] + part[7]));
    }

    D2_CLONES static double d2_l1_of(const float* a, const float* b, ptrdiff_t dim) {
        return d2_l1_lanes(a, b, dim);
    }

    D2_CLONES static double d2_l1_of_wide(const double* a, const double* b, ptrdiff_t dim) {
        return d2_l1_lanes(a, b, dim);
    }

    // About the l1 distances of one row to n others: float32 sums of terms that are not negative.
    D2_CLONES static void d2_l1_about(
        const float* a, const float* others, ptrdiff_t n, ptrdiff_t dim, float* out
    ) {
        for (ptrdiff_t j = 0; j < n; j++) {
            const float* b = others + j * dim;
            float part[32] = {0};
            ptrdiff_t i = 0, lane;
            for (; i + 32 <= dim; i += 32)
                for (lane = 0; lane < 32; lane++)
                    part[lane] += __builtin_fabsf(a[i + lane] - b[i + lane]);
            for (lane = 0; i + lane < dim; lane++)
                part[lane] += __builtin_fabsf(a[i + lane] - b[i + lane]);
            for (ptrdiff_t half = 16; half; half /= 2)
                for (lane = 0; lane < half; lane++) part[lane] += part[lane + half];
            out[j] = part[0];
        }
    }

    // The bits in which one code differs from n others.
    D2_CLONES static void d2_bits_between(
        const uint8_t* a, const uint8_t* others, ptrdiff_t n, ptrdiff_t dim, float* out
    ) {
        for (ptrdiff_t j = 0; j < n; j++) {
            const uint8_t* b = others + j * dim;
            uint64_t left, right, bits = 0;
            ptrdiff_t i = 0;
            for (; i + 8 <= dim; i += 8) {
                memcpy(&left, a + i, 8);
                memcpy(&right, b + i, 8);
                bits += __builtin_popcountll(left ^ right);
            }
            for (; i < dim; i++) bits += __builtin_popcountll((uint64_t)(a[i] ^ b[i]));
            out[j] = (float)bits;
        }
    }

    // Add a multiple of one row to each of four others: y_r += x_r u.
    D2_CLONES static void d2_add_multiples(
        double* y, ptrdiff_t stride, const double* u, const double* x, ptrdiff_t n
    ) {
        double *y0 = y, *y1 = y + stride, *y2 = y + 2 * stride, *y3 = y + 3 * stride;
        const double x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
        for (ptrdiff_t i = 0; i < n; i++) {
            const double v = u[i];
            y0[i] += x0 * v;
            y1[i] += x1 * v;
            y2[i] += x2 * v;
            y3[i] += x3 * v;
        }
    }
    """
    double d2_square_of(const float* a, const float* b, Py_ssize_t dim) nogil
    double d2_square_of_wide(const double* a, const double* b, Py_ssize_t dim) nogil
    float d2_short_square(const float* a, const float* b, Py_ssize_t dim) nogil
    int d2_hits(const float* low, const float* product, float limit, Py_ssize_t n) nogil
    double d2_l1_of(const float* a, const float* b, Py_ssize_t dim) nogil
    double d2_l1_of_wide(const double* a, const double* b, Py_ssize_t dim) nogil
    void d2_l1_about(
        const float* a, const float* others, Py_ssize_t n, Py_ssize_t dim, float* out
    ) nogil
    void d2_bits_between(
        const uint8_t* a, const uint8_t* others, Py_ssize_t n, Py_ssize_t dim, float* out
    ) nogil
    void d2_add_multiples(
        double* y, Py_ssize_t stride, const double* u, const double* x, Py_ssize_t n
    ) nogil

ctypedef fused real:
    float
    double

ctypedef fused item:
    uint8_t
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

    cdef void take(
        self,
        Py_ssize_t r,
        const float* product,
        const float* low,
        const float* high,
        Py_ssize_t n,
        Py_ssize_t first_column,
        Py_ssize_t own,
    ) noexcept nogil:
        """Take in n columns, at most 64, of one query."""
        cdef Py_ssize_t j
        cdef float value, limit = self.limit[r]
        cdef Candidate candidate
        if not d2_hits(low, product, limit, n):
            return
        for j in range(n):
            value = low[j] - 2 * product[j]
            if value <= limit and first_column + j != own:
                candidate.lower = value
                candidate.upper = high[j] - 2 * product[j]
                candidate.column = <int32_t>(first_column + j)
                self.rows[r].push_back(candidate)
        if self.rows[r].size() >= self.capacity[r]:
            self.tighten(r)
            if 2 * self.rows[r].size() > self.capacity[r]:
                self.capacity[r] *= 2

    def scan(
        self,
        const float[:, ::1] products,
        const float[::1] lower,
        const float[::1] upper,
        const int32_t[::1] own,
        Py_ssize_t first_column,
    ):
        cdef Py_ssize_t r, start, n_columns = products.shape[1]
        with nogil:
            for r in range(products.shape[0]):
                for start in range(0, n_columns, 64):
                    self.take(
                        r,
                        &products[r, start],
                        &lower[start],
                        &upper[start],
                        min(<Py_ssize_t>64, n_columns - start),
                        first_column + start,
                        own[r],
                    )

    def scan_transposed(
        self,
        const float[:, ::1] products,
        const float[::1] lower,
        const float[::1] upper,
        const int32_t[::1] own,
        Py_ssize_t first_column,
    ):
        cdef Py_ssize_t r, i, first, start, n, n_queries = products.shape[1]
        cdef Py_ssize_t n_columns = products.shape[0], at_once
        cdef float tile[16][64]
        with nogil:
            for start in range(0, n_columns, 64):
                n = min(<Py_ssize_t>64, n_columns - start)
                for first in range(0, n_queries, 16):
                    at_once = min(<Py_ssize_t>16, n_queries - first)
                    for i in range(n):
                        for r in range(at_once):
                            tile[r][i] = products[start + i, first + r]
                    for r in range(at_once):
                        self.take(
                            first + r,
                            &tile[r][0],
                            &lower[start],
                            &upper[start],
                            n,
                            first_column + start,
                            own[first + r],
                        )

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
    # Eight fixed partial sums: symmetric in a and b, and the same on every machine.
    if real is float:
        return <float>sqrt(d2_square_of(a, b, dim))
    else:
        return <float>sqrt(d2_square_of_wide(a, b, dim))


cdef inline void keep_first(
    vector[pair[float, int32_t]]& found, Py_ssize_t k, int32_t* nearest, float* near
) noexcept nogil:
    # Sorts what was found by (distance, number), and takes over the first k.
    cdef Py_ssize_t i
    sort(found.begin(), found.end())
    for i in range(min(k, <Py_ssize_t>found.size())):
        near[i] = found[i].first
        nearest[i] = found[i].second


def nearest_of(
    const real[:, ::1] vectors,
    const int64_t[::1] rows,
    const int32_t[::1] queries,
    const int64_t[::1] indptr,
    const int32_t[::1] candidates,
    Py_ssize_t k,
):
    cdef Py_ssize_t q, e, dim = vectors.shape[1], n = queries.shape[0]
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
            keep_first(found, k, &nearest[q, 0], &near[q, 0])
    return neighbors, distances


def nearest_among(
    const real[:, ::1] asking,
    const int32_t[::1] queries,
    const real[:, ::1] there,
    const int64_t[::1] indptr,
    const int32_t[::1] candidates,
    Py_ssize_t k,
):
    cdef Py_ssize_t q, e, dim = asking.shape[1], n = queries.shape[0]
    cdef const real* own
    cdef vector[pair[float, int32_t]] found
    neighbors = np.full((n, k), -1, dtype=np.int32)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    cdef int32_t[:, ::1] nearest = neighbors
    cdef float[:, ::1] near = distances
    with nogil:
        for q in range(n):
            found.clear()
            own = &asking[queries[q], 0]
            for e in range(indptr[q], indptr[q + 1]):
                found.push_back(
                    pair[float, int32_t](distance(own, &there[candidates[e], 0], dim), candidates[e])
                )
            keep_first(found, k, &nearest[q, 0], &near[q, 0])
    return neighbors, distances


def row_keys(const item[:, ::1] vectors, const int64_t[::1] rows):
    cdef Py_ssize_t i, j, lane, n = rows.shape[0], dim = vectors.shape[1], whole = dim - dim % 4
    cdef uint64_t bits
    cdef uint64_t[4] part
    cdef item value
    cdef const item* a
    keys = np.empty(n, dtype=np.uint64)
    cdef uint64_t[::1] out = keys
    with nogil:
        for i in range(n):
            a = &vectors[rows[i], 0]
            for lane in range(4):
                part[lane] = 0x9E3779B97F4A7C15ULL + lane
            j = 0
            while j < dim:
                for lane in range(4 if j < whole else dim - whole):
                    value = <item>(a[j + lane] + <item>0)  # -0.0 and 0.0 are the same place
                    bits = 0
                    memcpy(&bits, &value, sizeof(item))
                    part[lane] = (part[lane] ^ bits) * 0xD6E8FEB86659FD93ULL
                    part[lane] ^= part[lane] >> 32
                j += 4
            for lane in range(1, 4):
                part[0] = (part[0] ^ part[lane]) * 0xD6E8FEB86659FD93ULL
                part[0] ^= part[0] >> 32
            out[i] = part[0]
    return keys


def first_twins(
    const item[:, ::1] vectors, const int64_t[::1] rows, const uint64_t[::1] keys
):
    cdef Py_ssize_t i, j, n = rows.shape[0], dim = vectors.shape[1]
    cdef uint64_t key, mask
    cdef int32_t other
    cdef const item* a
    cdef const item* b
    cdef size_t size = 16
    cdef bint same
    while size < 2 * <size_t>n:
        size *= 2
    mask = size - 1
    cdef vector[int32_t] table
    first = np.empty(n, dtype=np.int32)
    cdef int32_t[::1] twin = first
    with nogil:
        table.assign(size, -1)
        for i in range(n):
            a = &vectors[rows[i], 0]
            key = keys[i] & mask
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


# --- graph: exact search by other measures ---------------------------------------------------------


cdef class ScannedSoFar:
    cdef vector[vector[pair[float, int32_t]]] rows
    cdef Py_ssize_t k

    def __init__(self, Py_ssize_t n, Py_ssize_t k):
        cdef Py_ssize_t r
        self.k = k
        self.rows.resize(n)
        for r in range(n):
            self.rows[r].reserve(k + 1)

    cdef inline float limit(self, Py_ssize_t r) noexcept nogil:
        """Return the distance that a nearer place has to reach."""
        return self.rows[r].front().first if <Py_ssize_t>self.rows[r].size() == self.k else INFINITY

    cdef inline void offer(self, Py_ssize_t r, float away, int32_t place) noexcept nogil:
        cdef pair[float, int32_t] found = pair[float, int32_t](away, place)
        if <Py_ssize_t>self.rows[r].size() == self.k:
            if not found < self.rows[r].front():
                return
            pop_heap(self.rows[r].begin(), self.rows[r].end())
            self.rows[r].pop_back()
        self.rows[r].push_back(found)
        push_heap(self.rows[r].begin(), self.rows[r].end())

    def finish(self):
        cdef Py_ssize_t r, i, n = self.rows.size()
        neighbors = np.full((n, self.k), -1, dtype=np.int32)
        distances = np.full((n, self.k), np.inf, dtype=np.float32)
        cdef int32_t[:, ::1] nearest = neighbors
        cdef float[:, ::1] near = distances
        with nogil:
            for r in range(n):
                sort(self.rows[r].begin(), self.rows[r].end())
                for i in range(<Py_ssize_t>self.rows[r].size()):
                    near[r, i] = self.rows[r][i].first
                    nearest[r, i] = self.rows[r][i].second
        return neighbors, distances


def scan_places(
    ScannedSoFar nearest,
    const item[:, ::1] queries,
    const item[:, ::1] targets,
    const int32_t[::1] own,
    Py_ssize_t first,
):
    cdef Py_ssize_t q, j, start, at_once, dim = queries.shape[1], n = targets.shape[0]
    cdef float about[32]
    cdef float limit
    # Float32 sums of dim terms stray from the true ones by less than this, whatever their order.
    cdef double stray = 1 + (dim + 64) * 2.0**-23
    with nogil:
        for start in range(0, n, 32):
            at_once = min(<Py_ssize_t>32, n - start)
            for q in range(queries.shape[0]):
                if item is uint8_t:
                    d2_bits_between(&queries[q, 0], &targets[start, 0], at_once, dim, about)
                    limit = nearest.limit(q)
                elif item is float:
                    d2_l1_about(&queries[q, 0], &targets[start, 0], at_once, dim, about)
                    limit = nextafterf(<float>(nearest.limit(q) * stray), INFINITY)
                else:
                    for j in range(at_once):
                        about[j] = <float>d2_l1_of_wide(
                            &queries[q, 0], &targets[start + j, 0], dim
                        )
                    limit = nearest.limit(q)
                for j in range(at_once):
                    if about[j] > limit or first + start + j == own[q]:
                        continue
                    if item is float:
                        about[j] = <float>d2_l1_of(&queries[q, 0], &targets[start + j, 0], dim)
                    nearest.offer(q, about[j], <int32_t>(first + start + j))


def whiten_rows(
    const real[:, ::1] vectors, const double[::1] mean, const double[:, ::1] transposed
):
    cdef Py_ssize_t first, r, i, j, n = vectors.shape[0], dim = vectors.shape[1]
    whitened = np.empty((n, dim), dtype=np.float32)
    cdef float[:, ::1] out = whitened
    cdef vector[double] sums
    cdef double away[4]
    with nogil:
        sums.resize(4 * dim)
        for first in range(0, n, 4):
            for i in range(4 * dim):
                sums[i] = 0
            for j in range(dim):
                for r in range(4):
                    away[r] = 0
                    if first + r < n:
                        away[r] = <double>vectors[first + r, j] - mean[j]
                d2_add_multiples(&sums[j], dim, &transposed[j, j], away, dim - j)
            for r in range(min(<Py_ssize_t>4, n - first)):
                for i in range(dim):
                    out[first + r, i] = <float>sums[r * dim + i]
    return whitened


# --- graph: approximate search -------------------------------------------------------------------


def smallest_columns(
    const float[:, ::1] products, const float[::1] norms, Py_ssize_t k
):
    cdef Py_ssize_t r, n_columns = products.shape[1]
    cdef vector[pair[float, int32_t]] best
    smallest = np.empty((products.shape[0], k), dtype=np.int32)
    cdef int32_t[:, ::1] out = smallest
    cdef Py_ssize_t i
    best.resize(k)
    with nogil:
        for r in range(products.shape[0]):
            for i in range(k):
                best[i] = pair[float, int32_t](INFINITY, -1)
            insert_columns(&products[r, 0], &norms[0], n_columns, 0, -1, best.data(), k)
            for i in range(k):
                out[r, i] = best[i].second
    return smallest


cdef void insert_columns(
    const float* product,
    const float* norms,
    Py_ssize_t n,
    int32_t first,
    int32_t own,
    pair[float, int32_t]* best,
    Py_ssize_t k,
) noexcept nogil:
    # best stays ascending by (value, number); the values are norm - 2 product.
    cdef Py_ssize_t start = 0, stop, j, at
    cdef pair[float, int32_t] one
    while start < n:
        stop = min(start + 64, n)
        if d2_hits(norms + start, product + start, best[k - 1].first, stop - start):
            for j in range(start, stop):
                one.first = norms[j] - 2 * product[j]
                one.second = first + <int32_t>j
                if one < best[k - 1] and one.second != own:
                    at = k - 1
                    while at > 0 and one < best[at - 1]:
                        best[at] = best[at - 1]
                        at -= 1
                    best[at] = one
        start = stop


cdef class NearestSoFar:
    cdef vector[pair[float, int32_t]] best
    cdef Py_ssize_t k
    cdef int32_t first

    def __init__(self, Py_ssize_t n, Py_ssize_t k):
        self.k = k
        self.best.assign(n * k, pair[float, int32_t](INFINITY, -1))

    def merge(
        self,
        const float[:, ::1] products,
        const float[::1] norms,
        const int32_t[::1] slots,
        const int32_t[::1] own,
        int32_t first,
    ):
        cdef Py_ssize_t r, slot
        with nogil:
            for r in range(products.shape[0]):
                slot = slots[r]
                insert_columns(
                    &products[r, 0],
                    &norms[0],
                    products.shape[1],
                    first,
                    own[slot],
                    self.best.data() + slot * self.k,
                    self.k,
                )

    def limits(self):
        cdef Py_ssize_t i, n = self.best.size() // self.k
        values = np.empty(n, dtype=np.float32)
        cdef float[::1] out = values
        for i in range(n):
            out[i] = self.best[(i + 1) * self.k - 1].first
        return values

    def stay_below(self, const float[::1] limits):
        cdef Py_ssize_t i, j
        for i in range(limits.shape[0]):
            for j in range(self.k):
                self.best[i * self.k + j] = pair[float, int32_t](limits[i], -1)

    def finish(self):
        cdef Py_ssize_t i, n = self.best.size()
        numbers = np.empty(n, dtype=np.int32)
        cdef int32_t[::1] out = numbers
        for i in range(n):
            out[i] = self.best[i].second
        return numbers.reshape(-1, self.k)


def keep_nearest(
    const int32_t[:, ::1] numbers,
    const float[:, ::1] values,
    const int32_t[::1] own,
    Py_ssize_t k,
):
    cdef Py_ssize_t r, j, at, i
    cdef pair[float, int32_t] one
    cdef vector[pair[float, int32_t]] best
    nearest = np.empty((numbers.shape[0], k), dtype=np.int32)
    cdef int32_t[:, ::1] out = nearest
    best.resize(k)
    with nogil:
        for r in range(numbers.shape[0]):
            for i in range(k):
                best[i] = pair[float, int32_t](INFINITY, -1)
            for j in range(numbers.shape[1]):
                one.first = values[r, j]
                one.second = numbers[r, j]
                if one.second >= 0 and one.second != own[r] and one < best[k - 1]:
                    at = k - 1
                    while at > 0 and one < best[at - 1]:
                        best[at] = best[at - 1]
                        at -= 1
                    best[at] = one
            for i in range(k):
                out[r, i] = best[i].second
    return nearest


def refine_neighbors(
    const float[:, ::1] points,
    const int32_t[:, ::1] neighbors,
    Py_ssize_t first,
    Py_ssize_t last,
    Py_ssize_t breadth,
):
    cdef Py_ssize_t i, a, b, at, k = neighbors.shape[1], dim = points.shape[1]
    cdef int32_t near, other
    cdef pair[float, int32_t] one
    cdef vector[pair[float, int32_t]] best
    cdef vector[int32_t] seen
    refined = np.empty((last - first, k), dtype=np.int32)
    cdef int32_t[:, ::1] out = refined
    best.resize(k)
    cdef size_t mask = 1, h
    while mask < 4 * <size_t>(k + breadth * breadth + 1):
        mask *= 2
    seen.resize(mask)
    mask -= 1
    with nogil:
        for i in range(first, last):
            seen.assign(mask + 1, -1)
            for a in range(k):
                best[a] = pair[float, int32_t](INFINITY, -1)
            for a in range(-1, breadth):
                # first the own list, then those of the nearest
                near = <int32_t>i if a < 0 else neighbors[i, a]
                if near < 0:
                    break
                for b in range(k if a < 0 else breadth):
                    other = neighbors[near, b]
                    if other < 0:
                        break
                    if other == i:
                        continue
                    h = (<size_t>other * 0x9E3779B1U) & mask
                    while seen[h] >= 0 and seen[h] != other:
                        h = (h + 1) & mask
                    if seen[h] == other:
                        continue
                    seen[h] = other
                    one.first = d2_short_square(&points[i, 0], &points[other, 0], dim)
                    one.second = other
                    if one < best[k - 1]:
                        at = k - 1
                        while at > 0 and one < best[at - 1]:
                            best[at] = best[at - 1]
                            at -= 1
                        best[at] = one
            for a in range(k):
                out[i - first, a] = best[a].second
    return refined
