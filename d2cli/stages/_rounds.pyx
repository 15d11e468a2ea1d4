# distutils: language = c++
# distutils: extra_compile_args = -O3 -ffp-contract=off
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""The loops of a selection in rounds; signatures and meaning are in ``_rounds.pyi``.

No product is fused with a difference (``-ffp-contract=off``), so scores are those of
``_messages.pyx``.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t
from libcpp.algorithm cimport sort
from libcpp.pair cimport pair
from libcpp.vector cimport vector

import numpy as np

cdef Py_ssize_t PIECE = 1 << 16  # rows between two looks at signals

cdef enum:
    OPEN = 1
    PICKED = 2
    FRESH = 3

# Of a pick: minus its score, its place among equals, its message. Ascending, that is pick order.
ctypedef pair[double, pair[int32_t, double]] sent


cdef inline bint ahead(double a, int32_t place_a, double b, int32_t place_b) noexcept nogil:
    return a > b or (a == b and place_a < place_b)


cdef class Neighborhood:
    """The edges of some rows, and the state that they and their neighbours are in."""

    cdef const int64_t[::1] indptr, beside_indptr
    cdef const int32_t[::1] indices, beside
    cdef const double[::1] weights, start
    cdef const int32_t[::1] place
    cdef double[::1] value
    cdef unsigned char[::1] state
    cdef int32_t[::1] blocker
    cdef unsigned char[::1] stale, touched
    cdef int32_t[::1] seen  # the sweep that last scored a row
    cdef int32_t[::1] head, link  # of each row, those that wait for it
    cdef vector[int32_t] woken
    cdef vector[sent] messages

    def __init__(
        self,
        const int64_t[::1] indptr,
        const int32_t[::1] indices,
        const double[::1] weights,
        const double[::1] start,
        const int32_t[::1] place,
        const int64_t[::1] beside_indptr,
        const int32_t[::1] beside,
        double[::1] value,
        unsigned char[::1] state,
        int32_t[::1] blocker,
    ):
        self.indptr, self.indices, self.weights = indptr, indices, weights
        self.start, self.place, self.value, self.state = start, place, value, state
        self.beside_indptr, self.beside, self.blocker = beside_indptr, beside, blocker
        n, both = start.shape[0], value.shape[0]
        self.stale, self.touched = np.zeros(n, dtype=np.uint8), np.zeros(n, dtype=np.uint8)
        self.seen = np.zeros(n, dtype=np.int32)
        self.head, self.link = np.full(both, -1, np.int32), np.full(n, -1, np.int32)

    cdef void receive(self, Py_ssize_t i) noexcept nogil:
        """Score a row anew: its first score less the messages of picks, in their order."""
        cdef Py_ssize_t e, count
        cdef int32_t j
        cdef double score, x = self.start[i]
        self.messages.clear()
        for e in range(self.indptr[i], self.indptr[i + 1]):
            j = self.indices[e]
            if self.state[j] >= PICKED and self.value[j] >= 0:  # others send nothing
                score = self.value[j]
                self.messages.push_back(
                    sent(-score, pair[int32_t, double](self.place[j], self.weights[e] * score))
                )
        count = <Py_ssize_t>self.messages.size()
        if count > 1:
            sort(self.messages.begin(), self.messages.end())
        for e in range(count):
            x -= self.messages[e].second.second
        self.value[i] = x
        self.stale[i], self.touched[i] = 0, 1

    def hear(self, const int32_t[::1] places):
        cdef Py_ssize_t t, e, first, n = self.start.shape[0]
        cdef int32_t i
        for first in range(0, places.shape[0], PIECE):
            with nogil:
                for t in range(first, min(first + PIECE, places.shape[0])):
                    i = places[t]
                    if self.state[i] != FRESH:
                        continue
                    self.state[i] = PICKED
                    if i < n:
                        for e in range(self.indptr[i], self.indptr[i + 1]):
                            if self.indices[e] < n:
                                self.stale[self.indices[e]] = 1
                    else:
                        for e in range(self.beside_indptr[i - n], self.beside_indptr[i - n + 1]):
                            self.stale[self.beside[e]] = 1
            PyErr_CheckSignals()

    def decide(
        self, const int32_t[::1] group, const double[::1] least, const int32_t[::1] last
    ):
        cdef Py_ssize_t t, e, n = self.start.shape[0], step = 0
        cdef int32_t i, j, sweep = 0
        cdef vector[pair[double, pair[int32_t, int32_t]]] first
        cdef vector[int32_t] rows, picks
        first.reserve(n)
        with nogil:
            for i in range(<int32_t>n):
                if self.state[i] != OPEN:
                    continue
                if ahead(least[group[i]], last[group[i]], self.value[i], self.place[i]):
                    continue
                j = self.blocker[i]
                if j >= 0 and self.waits(i, j) and not (j < n and self.stale[j]):
                    self.wait(i, j)
                    continue
                first.push_back(
                    pair[double, pair[int32_t, int32_t]](
                        -self.value[i], pair[int32_t, int32_t](self.place[i], i)
                    )
                )
            sort(first.begin(), first.end())
            rows.reserve(first.size())
            for t in range(<Py_ssize_t>first.size()):
                rows.push_back(first[t].second.second)
            while rows.size():
                sweep += 1
                self.woken.clear()
                for t in range(<Py_ssize_t>rows.size()):
                    step += 1
                    if step % PIECE == 0:
                        with gil:
                            PyErr_CheckSignals()
                    i = rows[t]
                    if self.stale[i]:
                        if self.seen[i] == sweep:  # or a hub would cost its degree squared
                            self.woken.push_back(i)
                            continue
                        self.receive(i)
                        self.seen[i] = sweep
                    if ahead(least[group[i]], last[group[i]], self.value[i], self.place[i]):
                        continue
                    if self.is_blocked(i, sweep, n):
                        continue
                    self.state[i] = PICKED
                    picks.push_back(i)
                    self.wake(i)
                    for e in range(self.indptr[i], self.indptr[i + 1]):
                        j = self.indices[e]
                        if j < n and self.state[j] == OPEN and not self.stale[j]:
                            self.stale[j] = 1
                            self.wake(j)
                rows.swap(self.woken)
            for t in range(n):
                if self.stale[t] and self.state[t] == OPEN:
                    self.receive(t)
        decided = np.empty(picks.size(), dtype=np.int32)
        cdef int32_t[::1] out = decided
        for t in range(<Py_ssize_t>picks.size()):
            out[t] = picks[t]
        state, touched = np.asarray(self.state)[:n], np.asarray(self.touched)
        changed = np.flatnonzero((touched != 0) & (state == OPEN)).astype(np.int32)
        return decided, changed

    cdef inline bint is_blocked(self, int32_t i, int32_t sweep, Py_ssize_t n) noexcept nogil:
        """Return whether a row must wait; it then does, for a row or for the next sweep."""
        cdef Py_ssize_t e
        cdef int32_t j = self.blocker[i]
        if j >= 0 and self.blocks(j, i, sweep, n):
            return True
        for e in range(self.indptr[i], self.indptr[i + 1]):
            j = self.indices[e]
            if self.blocks(j, i, sweep, n):
                self.blocker[i] = j
                return True
        return False

    cdef inline bint blocks(self, int32_t j, int32_t i, int32_t sweep, Py_ssize_t n) noexcept nogil:
        """Return whether row i waits for row j, which is scored anew if that may help."""
        if not self.waits(i, j):
            return False
        if j < n and self.stale[j]:
            if self.seen[j] == sweep:
                self.woken.push_back(i)
                return True
            self.receive(j)
            self.seen[j] = sweep
            if not self.waits(i, j):
                return False
        self.wait(i, j)
        return True

    cdef inline bint waits(self, int32_t i, int32_t j) noexcept nogil:
        """Return whether row j is open and may come before row i."""
        return self.state[j] == OPEN and ahead(
            self.value[j], self.place[j], self.value[i], self.place[i]
        )

    cdef inline void wait(self, int32_t i, int32_t j) noexcept nogil:
        self.link[i] = self.head[j]
        self.head[j] = i

    cdef inline void wake(self, int32_t j) noexcept nogil:
        """Look again, in the next sweep, at the rows that wait for a row."""
        cdef int32_t i = self.head[j]
        while i >= 0:
            self.woken.push_back(i)
            i = self.link[i]
        self.head[j] = -1


def edges_of_part(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const unsigned char[::1] open_,
    const int64_t[::1] rows,
    int32_t[::1] local,
):
    cdef Py_ssize_t t, e, first, m = rows.shape[0], count = 0, stop
    cdef int32_t j
    cdef vector[int32_t] found
    for t in range(m):
        local[rows[t]] = t
    for first in range(0, m, PIECE):
        with nogil:
            for t in range(first, min(first + PIECE, m)):
                for e in range(indptr[rows[t]], indptr[rows[t] + 1]):
                    j = indices[e]
                    if open_[j]:
                        count += 1
                        if local[j] == -1:
                            local[j] = -2
                            found.push_back(j)
        PyErr_CheckSignals()
    sort(found.begin(), found.end())
    around = np.empty(found.size(), dtype=np.int64)
    cdef int64_t[::1] beside = around
    for t in range(<Py_ssize_t>found.size()):
        beside[t] = found[t]
        local[found[t]] = <int32_t>(m + t)
    ends, near, edges = np.empty(m + 1, np.int64), np.empty(count, np.int32), np.empty(count, np.int64)
    cdef int64_t[::1] end = ends, place = edges
    cdef int32_t[::1] out = near
    end[0] = count = 0
    for first in range(0, m, PIECE):
        with nogil:
            for t in range(first, min(first + PIECE, m)):
                for e in range(indptr[rows[t]], indptr[rows[t] + 1]):
                    j = indices[e]
                    if open_[j]:
                        out[count], place[count] = local[j], e
                        count += 1
                end[t + 1] = count
        PyErr_CheckSignals()
    for t in range(m):
        local[rows[t]] = -1
    for t in range(<Py_ssize_t>found.size()):
        local[found[t]] = -1
    return around, ends, near, edges


def turned(const int64_t[::1] indptr, const int32_t[::1] indices, Py_ssize_t n_around):
    cdef Py_ssize_t i, e, m = indptr.shape[0] - 1
    cdef int32_t j
    ends = np.zeros(n_around + 1, dtype=np.int64)
    cdef int64_t[::1] at = ends
    with nogil:
        for e in range(indices.shape[0]):
            if indices[e] >= m:
                at[indices[e] - m + 1] += 1
    ends = np.cumsum(ends)
    near = np.empty(ends[n_around], dtype=np.int32)
    at = ends[:n_around].copy()
    cdef int32_t[::1] out = near
    with nogil:
        for i in range(m):
            for e in range(indptr[i], indptr[i + 1]):
                j = indices[e] - <int32_t>m
                if j >= 0:
                    out[at[j]] = <int32_t>i
                    at[j] += 1
    return ends, near


def from_other_ends(
    const int64_t[::1] indptr, const int32_t[::1] indices, const float[::1] distances
):
    cdef Py_ssize_t i, e, first, n = indptr.shape[0] - 1
    cdef int32_t j
    turned = np.empty(distances.shape[0], dtype=np.float32)
    cdef float[::1] out = turned
    cdef int64_t[::1] at = np.array(indptr[:n], dtype=np.int64)
    for first in range(0, n, PIECE):
        with nogil:
            for i in range(first, min(first + PIECE, n)):
                for e in range(indptr[i], indptr[i + 1]):
                    j = indices[e]
                    out[at[j]] = distances[e]
                    at[j] += 1
        PyErr_CheckSignals()
    return turned
