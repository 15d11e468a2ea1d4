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

    cdef const int64_t[::1] indptr
    cdef const int32_t[::1] indices
    cdef const double[::1] weights, start
    cdef const int32_t[::1] place
    cdef double[::1] value
    cdef unsigned char[::1] state
    cdef vector[sent] messages

    def __init__(
        self,
        const int64_t[::1] indptr,
        const int32_t[::1] indices,
        const double[::1] weights,
        const double[::1] start,
        const int32_t[::1] place,
        double[::1] value,
        unsigned char[::1] state,
    ):
        self.indptr, self.indices, self.weights = indptr, indices, weights
        self.start, self.place, self.value, self.state = start, place, value, state

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

    def catch_up(self, const int32_t[::1] rows):
        cdef Py_ssize_t i, t, e, first, n = rows.shape[0]
        for first in range(0, n, PIECE):
            with nogil:
                for t in range(first, min(first + PIECE, n)):
                    i = rows[t]
                    if self.state[i] != OPEN:
                        continue
                    for e in range(self.indptr[i], self.indptr[i + 1]):
                        if self.state[self.indices[e]] == FRESH:
                            self.receive(i)
                            break
            PyErr_CheckSignals()
        for i in range(self.state.shape[0]):
            if self.state[i] == FRESH:
                self.state[i] = PICKED

    def decide(
        self,
        int32_t[::1] rows,
        const int32_t[::1] group,
        const double[::1] least,
        const int32_t[::1] last,
    ):
        cdef Py_ssize_t t, e, n = self.start.shape[0]
        cdef Py_ssize_t left = rows.shape[0], kept, made = 1, done = 0, step = 0
        cdef int32_t i, j, sweep = 0
        cdef bint blocked
        decided = np.empty(rows.shape[0], dtype=np.int64)
        cdef int64_t[::1] picks = decided
        cdef unsigned char[::1] stale = np.zeros(n, dtype=np.uint8)
        cdef int32_t[::1] seen = np.zeros(n, dtype=np.int32)  # the sweep that last scored a row
        cdef int32_t[::1] blocker = np.full(n, -1, dtype=np.int32)
        with nogil:
            while made and left:
                sweep += 1
                made = kept = 0
                for t in range(left):
                    step += 1
                    if step % PIECE == 0:
                        with gil:
                            PyErr_CheckSignals()
                    i = rows[t]
                    if stale[i]:
                        if seen[i] == sweep:  # once a sweep, or a hub would cost its degree squared
                            rows[kept] = i
                            kept += 1
                            continue
                        self.receive(i)
                        stale[i], seen[i] = 0, sweep
                    if ahead(least[group[i]], last[group[i]], self.value[i], self.place[i]):
                        continue
                    j = blocker[i]
                    blocked = j >= 0 and self.blocks(j, i, stale, seen, sweep, n)
                    if not blocked:
                        for e in range(self.indptr[i], self.indptr[i + 1]):
                            j = self.indices[e]
                            if self.blocks(j, i, stale, seen, sweep, n):
                                blocked, blocker[i] = True, j
                                break
                    if blocked:
                        rows[kept] = i
                        kept += 1
                        continue
                    self.state[i] = PICKED
                    picks[done] = i
                    done += 1
                    made += 1
                    for e in range(self.indptr[i], self.indptr[i + 1]):
                        j = self.indices[e]
                        if j < n:
                            stale[j] = 1
                left = kept
            for t in range(n):
                if stale[t] and self.state[t] == OPEN:
                    self.receive(t)
        return decided[:done]

    cdef inline bint blocks(
        self,
        int32_t j,
        int32_t i,
        unsigned char[::1] stale,
        int32_t[::1] seen,
        int32_t sweep,
        Py_ssize_t n,
    ) noexcept nogil:
        """Return whether an open row may come before another; scores it anew if that may help."""
        if self.state[j] != OPEN:
            return False
        if not ahead(self.value[j], self.place[j], self.value[i], self.place[i]):
            return False
        if j < n and stale[j] and seen[j] != sweep:
            self.receive(j)
            stale[j], seen[j] = 0, sweep
            return ahead(self.value[j], self.place[j], self.value[i], self.place[i])
        return True


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
