# distutils: language = c++
# distutils: extra_compile_args = -O3 -ffp-contract=off
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""The loops that NumPy cannot express; signatures and meaning are in ``_kernels.pyi``.

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


# --- messages ------------------------------------------------------------------------------------


def undirected_union(const int32_t[:, ::1] neighbors, const float[:, ::1] distances):
    cdef Py_ssize_t i, c, at, a, b, end_a, end_b, n = neighbors.shape[0], k = neighbors.shape[1]
    cdef int32_t j, left, right
    cdef vector[int64_t] incoming
    cdef vector[pair[int32_t, float]] sources, own
    indptr = np.zeros(n + 1, dtype=np.int64)
    cdef int64_t[::1] ends = indptr
    cdef int32_t[::1] columns
    cdef float[::1] values
    with nogil:
        # incoming[j + 1] is first where the next edge into j goes, then where those of j + 1 begin.
        incoming.assign(n + 2, 0)
        for i in range(n):
            for c in range(k):
                if neighbors[i, c] >= 0:
                    incoming[neighbors[i, c] + 2] += 1
        for i in range(n + 1):
            incoming[i + 1] += incoming[i]
        sources.resize(incoming[n + 1])
        for i in range(n):  # sources end up ascending in every list
            for c in range(k):
                j = neighbors[i, c]
                if j >= 0:
                    sources[incoming[j + 1]] = pair[int32_t, float](<int32_t>i, distances[i, c])
                    incoming[j + 1] += 1
    indices = np.empty(2 * incoming[n], dtype=np.int32)
    merged = np.empty(2 * incoming[n], dtype=np.float32)
    columns = indices
    values = merged
    at = 0
    with nogil:
        for i in range(n):
            own.clear()
            for c in range(k):
                if neighbors[i, c] >= 0:
                    own.push_back(pair[int32_t, float](neighbors[i, c], distances[i, c]))
            sort(own.begin(), own.end())
            a = 0
            end_a = own.size()
            b = incoming[i]
            end_b = incoming[i + 1]
            while a < end_a or b < end_b:
                left = own[a].first if a < end_a else <int32_t>2147483647
                right = sources[b].first if b < end_b else <int32_t>2147483647
                if left <= right:
                    columns[at] = left
                    values[at] = own[a].second
                    a += 1
                    if left == right:
                        b += 1
                else:
                    columns[at] = right
                    values[at] = sources[b].second
                    b += 1
                at += 1
            ends[i + 1] = at
    return indptr, indices[:at], merged[:at]


def sum_messages(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const double[::1] weights,
    const double[::1] values,
):
    cdef Py_ssize_t i, e, n = indptr.shape[0] - 1
    cdef double total
    sums = np.empty(n, dtype=np.float64)
    cdef double[::1] out = sums
    with nogil:
        for i in range(n):
            total = 0
            for e in range(indptr[i], indptr[i + 1]):
                total += weights[e] * values[indices[e]]
            out[i] = total
    return sums


def nearest_marked(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const float[::1] distances,
    const unsigned char[::1] marked,
):
    cdef Py_ssize_t i, e, n = indptr.shape[0] - 1
    cdef float best
    nearest = np.empty(n, dtype=np.float32)
    cdef float[::1] out = nearest
    with nogil:
        for i in range(n):
            best = INFINITY
            for e in range(indptr[i], indptr[i + 1]):
                if marked[indices[e]] and distances[e] < best:
                    best = distances[e]
            out[i] = best
    return nearest


# --- selection --------------------------------------------------------------------------------


cdef inline void climb(double[::1] tree, Py_ssize_t leaf, double value) noexcept nogil:
    cdef double best
    tree[leaf] = value
    leaf >>= 1
    while leaf:
        best = max(tree[2 * leaf], tree[2 * leaf + 1])
        if tree[leaf] == best:
            return
        tree[leaf] = best
        leaf >>= 1


cdef class Tournament:
    """A maximum over rows; of equal values the row that is first in the tie order wins.

    Leaf t holds the row that is t-th in the tie order, so the leftmost maximum is the winner.
    """

    cdef double[::1] tree
    cdef int32_t[::1] leaf
    cdef const int32_t[::1] order
    cdef Py_ssize_t size

    def __init__(self, const int32_t[::1] order):
        cdef Py_ssize_t i, n = order.shape[0]
        self.size = 1
        while self.size < n:
            self.size *= 2
        self.order = order
        self.tree = np.full(2 * self.size, -np.inf, dtype=np.float64)
        self.leaf = np.empty(n, dtype=np.int32)
        for i in range(n):
            self.leaf[order[i]] = <int32_t>i

    cdef void enter(self, Py_ssize_t row, double value) noexcept nogil:
        self.tree[self.size + self.leaf[row]] = value

    cdef void begin(self) noexcept nogil:
        cdef Py_ssize_t node
        for node in range(self.size - 1, 0, -1):
            self.tree[node] = max(self.tree[2 * node], self.tree[2 * node + 1])

    cdef void put(self, Py_ssize_t row, double value) noexcept nogil:
        climb(self.tree, self.size + self.leaf[row], value)

    cdef double value(self, Py_ssize_t row) noexcept nogil:
        return self.tree[self.size + self.leaf[row]]

    cdef Py_ssize_t best(self) noexcept nogil:
        cdef Py_ssize_t node = 1
        while node < self.size:
            node *= 2
            if self.tree[node] != self.tree[node // 2]:
                node += 1
        return self.order[node - self.size]


def pick_greedily(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const double[::1] weights,
    const double[::1] score,
    const int32_t[::1] order,
    const unsigned char[::1] candidate,
    const int64_t[::1] included,
    const int32_t[::1] group,
    const int64_t[::1] budgets,
    bint clamped,
):
    cdef Py_ssize_t i, e, step, n = score.shape[0], budget = 0
    cdef int64_t pick
    cdef int32_t g, j
    cdef double sent
    cdef Py_ssize_t n_groups = budgets.shape[0]
    for i in range(n_groups):
        budget += budgets[i]
    current = np.array(score, dtype=np.float64)
    picks = np.empty(budget, dtype=np.int64)
    at_pick = np.empty(budget, dtype=np.float64)
    members = np.argsort(group, kind="stable").astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=n_groups))]).astype(
        np.int64
    )
    cdef double[::1] x = current
    cdef int64_t[::1] picked = picks
    cdef double[::1] value = at_pick
    cdef Tournament game = Tournament(order)
    cdef const int32_t[::1] member = members
    cdef const int64_t[::1] start = starts
    cdef vector[int64_t] left
    cdef vector[unsigned char] open
    with nogil:
        left.resize(n_groups)
        for i in range(n_groups):
            left[i] = budgets[i]
        open.assign(n, 0)
        for i in range(n):
            if candidate[i] and left[group[i]] > 0:
                open[i] = 1
                game.enter(i, x[i])
        game.begin()
        for step in range(budget):
            if step < included.shape[0]:
                pick = included[step]
            else:
                pick = game.best()
            picked[step] = pick
            value[step] = x[pick]
            open[pick] = 0
            game.put(pick, -INFINITY)
            sent = x[pick]
            if clamped and sent < 0:
                sent = 0
            for e in range(indptr[pick], indptr[pick + 1]):
                j = indices[e]
                if open[j]:
                    x[j] -= weights[e] * sent
                    game.put(j, x[j])
            g = group[pick]
            left[g] -= 1
            if left[g] == 0 and n_groups > 1:
                for i in range(start[g], start[g + 1]):
                    if open[member[i]]:
                        open[member[i]] = 0
                        game.put(member[i], -INFINITY)
    return picks, at_pick


# --- other methods of selection ---------------------------------------------------------------


def farthest_first(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const float[::1] distances,
    const int32_t[::1] order,
    const unsigned char[::1] candidate,
    const int64_t[::1] included,
    Py_ssize_t budget,
):
    cdef Py_ssize_t i, e, step, n = candidate.shape[0]
    cdef int64_t pick
    cdef int32_t node, j
    cdef double length
    cdef Tournament game = Tournament(order)
    cdef priority_queue[pair[double, int32_t]] frontier
    cdef vector[unsigned char] open
    picks = np.empty(budget, dtype=np.int64)
    at_pick = np.empty(budget, dtype=np.float64)
    reach = np.full(n, np.inf, dtype=np.float64)
    cdef int64_t[::1] picked = picks
    cdef double[::1] value = at_pick
    cdef double[::1] near = reach
    with nogil:
        open.assign(n, 0)
        for i in range(n):
            if candidate[i]:
                open[i] = 1
                game.enter(i, INFINITY)
        game.begin()
        for step in range(budget):
            pick = included[step] if step < included.shape[0] else game.best()
            picked[step] = pick
            value[step] = near[pick]
            open[pick] = 0
            game.put(pick, -INFINITY)
            near[pick] = 0
            frontier.push(pair[double, int32_t](0, <int32_t>pick))
            while not frontier.empty():
                length = -frontier.top().first
                node = frontier.top().second
                frontier.pop()
                if length > near[node]:
                    continue
                for e in range(indptr[node], indptr[node + 1]):
                    j = indices[e]
                    if length + distances[e] < near[j]:
                        near[j] = length + distances[e]
                        if open[j]:
                            game.put(j, near[j])
                        frontier.push(pair[double, int32_t](-near[j], j))
    return picks, at_pick


cdef inline double coverage_gain(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const double[::1] weights,
    const unsigned char[::1] demand,
    const double[::1] covered,
    Py_ssize_t row,
) noexcept nogil:
    cdef Py_ssize_t e
    cdef double gain = 0
    for e in range(indptr[row], indptr[row + 1]):
        if demand[indices[e]] and weights[e] > covered[indices[e]]:
            gain += weights[e] - covered[indices[e]]
    if demand[row]:
        gain += 1 - covered[row]
    return gain


def cover_greedily(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const double[::1] weights,
    const int32_t[::1] order,
    const unsigned char[::1] demand,
    const unsigned char[::1] candidate,
    const int64_t[::1] included,
    Py_ssize_t budget,
):
    cdef Py_ssize_t i, e, step, n = candidate.shape[0]
    cdef int64_t pick
    cdef double gain
    cdef Tournament game = Tournament(order)
    picks = np.empty(budget, dtype=np.int64)
    at_pick = np.empty(budget, dtype=np.float64)
    best = np.zeros(n, dtype=np.float64)
    cdef int64_t[::1] picked = picks
    cdef double[::1] value = at_pick
    cdef double[::1] covered = best
    with nogil:
        for i in range(n):
            if candidate[i]:
                game.enter(i, coverage_gain(indptr, indices, weights, demand, covered, i))
        game.begin()
        for step in range(budget):
            if step < included.shape[0]:
                pick = included[step]
                gain = coverage_gain(indptr, indices, weights, demand, covered, pick)
            else:
                while True:  # gains only fall, so a stale one is an upper bound
                    pick = game.best()
                    gain = coverage_gain(indptr, indices, weights, demand, covered, pick)
                    if gain == game.value(pick):
                        break
                    game.put(pick, gain)
            picked[step] = pick
            value[step] = gain
            game.put(pick, -INFINITY)
            covered[pick] = 1
            for e in range(indptr[pick], indptr[pick + 1]):
                if weights[e] > covered[indices[e]]:
                    covered[indices[e]] = weights[e]
    return picks, at_pick


def drop_near_duplicates(
    const int32_t[::1] easier,
    const int32_t[::1] harder,
    const unsigned char[::1] fixed,
    unsigned char[::1] alive,
    const int32_t[::1] group,
    int64_t[::1] surplus,
):
    cdef Py_ssize_t e
    cdef int32_t a, b
    with nogil:
        for e in range(easier.shape[0]):
            a = easier[e]
            b = harder[e]
            if not (alive[a] and alive[b]):
                continue
            if fixed[a] or surplus[group[a]] <= 0:
                a = b
                if fixed[a] or surplus[group[a]] <= 0:
                    continue
            alive[a] = 0
            surplus[group[a]] -= 1
