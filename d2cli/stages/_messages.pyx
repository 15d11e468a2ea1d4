# distutils: language = c++
# distutils: extra_compile_args = -O3 -ffp-contract=off
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""The loops that NumPy cannot express; signatures and meaning are in ``_messages.pyi``.

Sums run in a fixed order and no product is fused with a sum (``-ffp-contract=off``), so results
do not depend on threads, and equal those of the plain loops in the tests.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libcpp.algorithm cimport sort
from libcpp.pair cimport pair
from libcpp.queue cimport priority_queue
from libcpp.vector cimport vector

import numpy as np

cdef extern from *:
    int lowest_bit "__builtin_ctz"(unsigned int) noexcept nogil
    void prefetch "__builtin_prefetch"(const void*) noexcept nogil

# Rows, edges and picks between two looks at signals, so that Ctrl-C is soon heard.
cdef Py_ssize_t PIECE = 1 << 16
cdef Py_ssize_t PICKS = 1 << 10

# --- messages ------------------------------------------------------------------------------------

# An edge as one number: the row at its other end, then the bits of its distance. Distances are not
# negative, so edges in ascending order have their rows, and equal rows their distances, ascending.
ctypedef uint64_t edge
cdef edge NO_EDGE = 0xFFFFFFFFFFFFFFFF
cdef Py_ssize_t FEW = 48  # edges that are sorted faster by insertion


cdef inline void sort_edges(edge* edges, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i, place
    cdef edge moved
    if count > FEW:
        sort(edges, edges + count)
        return
    for i in range(1, count):
        moved = edges[i]
        place = i
        while place > 0 and edges[place - 1] > moved:
            edges[place] = edges[place - 1]
            place -= 1
        edges[place] = moved


def undirected_union(
    const int32_t[:, ::1] neighbors, const float[:, ::1] distances, Py_ssize_t at_once=1 << 20
):
    cdef Py_ssize_t n = neighbors.shape[0], k = neighbors.shape[1]
    cdef Py_ssize_t i, c, first, at = 0, a, b, total = 0, low, high, most = 0
    cdef Py_ssize_t part, parts = (n + at_once - 1) // at_once
    cdef int32_t j
    cdef int64_t count
    cdef edge left, right, taken
    cdef vector[edge] row
    indptr = np.zeros(n + 1, dtype=np.int64)
    cdef int64_t[::1] ends = indptr, begin = np.zeros(n, dtype=np.int64)
    cdef const int32_t* near = &neighbors[0, 0] if n and k else NULL
    cdef const uint32_t* bits = <const uint32_t*>&distances[0, 0] if n and k else NULL
    for first in range(0, n * k, PIECE):
        with nogil:
            for c in range(first, min(first + PIECE, n * k)):
                if near[c] >= 0:
                    begin[near[c]] += 1
        PyErr_CheckSignals()
    with nogil:  # counts to the first place of every row's incoming edges, one more for their end
        for part in range(parts):
            b = 0
            for i in range(part * at_once, min((part + 1) * at_once, n)):
                count = begin[i]
                begin[i] = b
                b += count + 1
                total += count
            most = max(most, b)
    # From NumPy because that asks for huge pages, which random writes need more than others.
    incoming = np.empty(most, dtype=np.uint64)
    cdef edge[::1] source = incoming
    indices = np.empty(2 * total, dtype=np.int32)
    merged = np.empty(2 * total, dtype=np.float32)
    cdef int32_t[::1] columns = indices
    cdef uint32_t[::1] values = merged.view(np.uint32)
    row.resize(k + 1)
    for part in range(parts):
        low = part * at_once
        high = min(low + at_once, n)
        for first in range(0, n, PIECE):
            with nogil:
                for i in range(first, min(first + PIECE, n)):  # ascending in every row's places
                    for c in range(i * k, (i + 1) * k):
                        j = near[c]
                        if low <= j < high:
                            source[begin[j]] = (<edge>i << 32) | bits[c]
                            begin[j] += 1
            PyErr_CheckSignals()
        b = 0
        for first in range(low, high, PIECE):
            with nogil:
                for i in range(first, min(first + PIECE, high)):
                    a = 0
                    for c in range(i * k, (i + 1) * k):
                        if near[c] >= 0:
                            row[a] = (<edge>near[c] << 32) | bits[c]
                            a += 1
                    sort_edges(row.data(), a)
                    row[a] = NO_EDGE
                    source[begin[i]] = NO_EDGE
                    a = 0
                    while True:
                        left = row[a]
                        right = source[b]
                        taken = left if left >> 32 <= right >> 32 else right
                        if taken == NO_EDGE:
                            break
                        columns[at] = <int32_t>(taken >> 32)
                        values[at] = <uint32_t>taken
                        at += 1
                        a += left >> 32 <= right >> 32
                        b += right >> 32 <= left >> 32
                    b += 1
                    ends[i + 1] = at
            PyErr_CheckSignals()
    return indptr, indices[:at], merged[:at]


def sum_messages(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const double[::1] weights,
    const double[::1] values,
):
    cdef Py_ssize_t i, e, first, n = indptr.shape[0] - 1
    cdef double total
    sums = np.empty(n, dtype=np.float64)
    cdef double[::1] out = sums
    for first in range(0, n, PIECE):
        with nogil:
            for i in range(first, min(first + PIECE, n)):
                total = 0
                for e in range(indptr[i], indptr[i + 1]):
                    total += weights[e] * values[indices[e]]
                out[i] = total
        PyErr_CheckSignals()
    return sums


def nearest_marked(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const float[::1] distances,
    const unsigned char[::1] marked,
):
    cdef Py_ssize_t i, e, first, n = indptr.shape[0] - 1
    cdef float best
    nearest = np.empty(n, dtype=np.float32)
    cdef float[::1] out = nearest
    for first in range(0, n, PIECE):
        with nogil:
            for i in range(first, min(first + PIECE, n)):
                best = INFINITY
                for e in range(indptr[i], indptr[i + 1]):
                    if marked[indices[e]] and distances[e] < best:
                        best = distances[e]
                out[i] = best
        PyErr_CheckSignals()
    return nearest


TOO_FEW = "the budget exceeds the candidates"

# --- selection --------------------------------------------------------------------------------


cdef inline double largest(const double* of) noexcept nogil:
    return max(
        max(max(of[0], of[1]), max(of[2], of[3])), max(max(of[4], of[5]), max(of[6], of[7]))
    )


cdef inline Py_ssize_t first_equal(const double* of, double value) noexcept nogil:
    """Return the first place of ``value`` among eight; 8 if it is not there."""
    cdef unsigned int i, found = 256
    for i in range(8):
        found |= <unsigned int>(of[i] == value) << i
    return lowest_bit(found)


@cython.final
cdef class Tournament:
    """A maximum over rows; of equal values the row that is first in the tie order wins.

    Place t is that of the row that is t-th in the tie order, so the leftmost maximum wins. Every
    number of a level is the largest of eight of the level below, which share a cache line; but
    above the values themselves it is a bound, at least that large, until `best` looks closer.
    """

    cdef object memory
    cdef double* levels[13]  # from the values up to the eight that hold the maximum
    cdef int top
    cdef Py_ssize_t n
    cdef int32_t[::1] place
    cdef const int32_t[::1] order

    def __init__(self, const int32_t[::1] order):
        cdef Py_ssize_t i, n = order.shape[0], size = 8 * max((n + 7) // 8, 1)
        sizes = [size]
        while len(sizes) == 1 or size > 8:
            size = 8 * ((size + 63) // 64)
            sizes.append(size)
        memory = np.full(sum(sizes) + 8, -np.inf, dtype=np.float64)
        cdef double[::1] values = memory[-memory.ctypes.data % 64 // 8 :]
        self.memory = memory
        self.top = len(sizes) - 1
        for i in range(len(sizes)):
            self.levels[i] = &values[sum(sizes[:i])]
        self.n = n
        self.order = order
        self.place = np.empty(n, dtype=np.int32)
        for i in range(n):
            self.place[order[i]] = <int32_t>i

    cdef inline void enter(self, Py_ssize_t row, double value) noexcept nogil:
        self.levels[0][self.place[row]] = value

    cdef void begin(self) noexcept nogil:
        cdef Py_ssize_t i, size = (self.n + 7) // 8
        cdef int level
        for level in range(self.top):
            for i in range(size):
                self.levels[level + 1][i] = largest(self.levels[level] + 8 * i)
            size = (size + 7) // 8

    cdef inline double value(self, Py_ssize_t row) noexcept nogil:
        return self.levels[0][self.place[row]]

    cdef inline void put(self, Py_ssize_t row, double value) noexcept nogil:
        self.put_at(self.place[row], value)

    cdef inline void put_at(self, Py_ssize_t place, double value) noexcept nogil:
        cdef int level
        self.levels[0][place] = value
        for level in range(1, self.top + 1):
            place >>= 3
            if self.levels[level][place] >= value:
                return
            self.levels[level][place] = value

    cdef inline Py_ssize_t best(self) noexcept nogil:
        """Return the place of the maximum; -1 if no row is in the game."""
        cdef int level
        cdef Py_ssize_t place
        cdef double bound, value
        while True:
            bound = largest(self.levels[self.top])
            if not bound > -INFINITY:
                return -1
            place = 0
            for level in range(self.top, 0, -1):
                place = 8 * place + first_equal(self.levels[level] + 8 * place, bound)
            value = largest(self.levels[0] + 8 * place)
            if value == bound:
                return 8 * place + first_equal(self.levels[0] + 8 * place, value)
            self.levels[1][place] = value
            for level in range(1, self.top):
                place >>= 3
                value = largest(self.levels[level] + 8 * place)
                if self.levels[level + 1][place] == value:
                    break
                self.levels[level + 1][place] = value


@cython.final
cdef class GreedyPicks:
    cdef readonly object rows, scores
    cdef readonly Py_ssize_t done, lacking
    cdef Tournament game
    cdef const int64_t[::1] indptr
    cdef const int32_t[::1] indices
    cdef const double[::1] weights  # of the rows that were weighed last, side by side
    cdef const int64_t[::1] weighed, starts
    cdef int32_t[::1] slot  # where among them each row stands; -1 if it does not
    cdef const int64_t[::1] included
    cdef const int32_t[::1] group
    cdef int64_t[::1] left
    cdef const unsigned char[::1] earlier
    cdef int64_t[::1] free
    cdef int64_t spare
    cdef bint clamped, limited

    def __init__(
        self,
        const int64_t[::1] indptr,
        const int32_t[::1] indices,
        const double[::1] score,
        const int32_t[::1] order,
        const unsigned char[::1] candidate,
        const int64_t[::1] included,
        const int32_t[::1] group,
        const int64_t[::1] budgets,
        bint clamped,
        const unsigned char[::1] earlier=None,
        const int64_t[::1] free=None,
        int64_t spare=0,
    ):
        cdef Py_ssize_t i, n = score.shape[0]
        cdef Tournament game = Tournament(order)
        budget = int(np.sum(budgets))
        self.rows = np.empty(budget, dtype=np.int64)
        self.scores = np.empty(budget, dtype=np.float64)
        self.done, self.lacking = 0, -1
        self.indptr, self.indices = indptr, indices
        self.weights, self.weighed = np.empty(0), np.empty(0, dtype=np.int64)
        self.starts, self.slot = np.zeros(1, dtype=np.int64), np.full(n, -1, dtype=np.int32)
        self.included, self.group, self.clamped = included, group, clamped
        self.left = np.array(budgets, dtype=np.int64)
        self.limited = earlier is not None
        if self.limited:
            self.earlier, self.free = earlier, np.array(free, dtype=np.int64)
            self.spare = spare
        with nogil:
            for i in range(n):
                if candidate[i] and budgets[group[i]] > 0:
                    game.enter(i, score[i])
            game.begin()
        self.game = game

    @property
    def by_place(self):
        return np.asarray(<double[: self.game.n]>self.game.levels[0])

    def weigh(self, const int64_t[::1] rows, const double[::1] weights):
        cdef Py_ssize_t i
        starts = np.zeros(rows.shape[0] + 1, dtype=np.int64)
        cdef int64_t[::1] ends = starts
        for i in range(self.weighed.shape[0]):
            self.slot[self.weighed[i]] = -1
        for i in range(rows.shape[0]):
            self.slot[rows[i]] = <int32_t>i
            ends[i + 1] = ends[i] + self.indptr[rows[i] + 1] - self.indptr[rows[i]]
        self.weighed, self.starts, self.weights = rows, starts, weights
        self.lacking = -1

    def advance(self, Py_ssize_t count):
        cdef Tournament game = self.game
        cdef int64_t[::1] picked = self.rows
        cdef double[::1] scores = self.scores
        cdef Py_ssize_t e, step, stop = min(self.done + count, picked.shape[0])
        cdef Py_ssize_t place = 0
        cdef int64_t pick
        cdef double sent
        cdef double* x = game.levels[0]
        cdef Py_ssize_t shift
        cdef const int32_t* place_of = &game.place[0] if game.n else NULL
        cdef const int32_t* near = &self.indices[0] if self.indices.shape[0] else NULL
        with nogil:
            for step in range(self.done, stop):
                if step < self.included.shape[0]:
                    place = place_of[self.included[step]]
                else:
                    place = self.next()
                    if place < 0:
                        break
                pick = game.order[place]
                if self.slot[pick] < 0:
                    self.lacking = pick
                    break
                sent = x[place]
                picked[step] = pick
                scores[step] = sent
                x[place] = -INFINITY  # and stays so, whatever is subtracted
                self.left[self.group[pick]] -= 1
                if self.limited and not self.earlier[pick]:
                    if self.free[self.group[pick]] > 0:
                        self.free[self.group[pick]] -= 1
                    else:
                        self.spare -= 1
                self.expect(game.best())
                shift = self.starts[self.slot[pick]] - self.indptr[pick]
                if sent >= 0:  # scores fall, of which the game may learn later
                    # Fetched together first, the scattered scores arrive sooner.
                    for e in range(self.indptr[pick], self.indptr[pick + 1]):
                        prefetch(x + place_of[near[e]])
                    for e in range(self.indptr[pick], self.indptr[pick + 1]):
                        x[place_of[near[e]]] -= self.weights[shift + e] * sent
                elif not self.clamped:
                    for e in range(self.indptr[pick], self.indptr[pick + 1]):
                        place = place_of[near[e]]
                        game.put_at(place, x[place] - self.weights[shift + e] * sent)
                self.done = step + 1
        if place < 0:
            raise ValueError(TOO_FEW)
        return self.done

    cdef inline void expect(self, Py_ssize_t place) noexcept nogil:
        """Fetch the first edges of the row that is likely to be picked next."""
        cdef Py_ssize_t i, row
        cdef const int32_t* indices
        cdef const double* weights
        if place < 0:
            return
        row = self.game.order[place]
        if self.slot[row] < 0:
            return
        indices = &self.indices[0] + self.indptr[row]
        weights = &self.weights[0] + self.starts[self.slot[row]]
        for i in range(2):
            prefetch(indices + 16 * i)
            prefetch(weights + 16 * i)
            prefetch(weights + 16 * i + 8)

    cdef inline Py_ssize_t next(self) noexcept nogil:
        """Return the place of the largest score that there is room for; -1 if there is none."""
        cdef Py_ssize_t place
        while True:
            place = self.game.best()
            if place < 0 or (self.left.shape[0] == 1 and not self.limited):
                return place
            if self.has_room(self.game.order[place]):
                return place
            self.game.levels[0][place] = -INFINITY  # room only becomes less

    cdef inline bint has_room(self, Py_ssize_t row) noexcept nogil:
        """Return whether a row's group has room, and a place for newcomers if it is one."""
        cdef Py_ssize_t group = self.group[row]
        if self.left[group] <= 0:
            return False
        return not self.limited or self.earlier[row] or self.free[group] > 0 or self.spare > 0


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
    cdef Py_ssize_t i, e, step, place, n = candidate.shape[0]
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
            if step % PICKS == 0:
                with gil:
                    PyErr_CheckSignals()
            if step < included.shape[0]:
                pick = included[step]
            else:
                place = game.best()
                if place < 0:
                    with gil:
                        raise ValueError(TOO_FEW)
                pick = order[place]
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
    cdef Py_ssize_t i, e, step, place, n = candidate.shape[0]
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
            if step % PICKS == 0:
                with gil:
                    PyErr_CheckSignals()
            if step < included.shape[0]:
                pick = included[step]
                gain = coverage_gain(indptr, indices, weights, demand, covered, pick)
            else:
                while True:  # gains only fall, so a stale one is an upper bound
                    place = game.best()
                    if place < 0:
                        with gil:
                            raise ValueError(TOO_FEW)
                    pick = order[place]
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
            if e % PIECE == 0:
                with gil:
                    PyErr_CheckSignals()
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
