# distutils: language = c++
# distutils: extra_compile_args = -O3 -ffp-contract=off
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""The loops that NumPy cannot express; signatures and meaning are in ``_messages.pyi``.

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
