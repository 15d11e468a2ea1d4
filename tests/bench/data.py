"""Vectors to search: generated with and without clusters, and three real sets from a folder."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

LATENT, HIDDEN = 24, 256
CLUSTERS, SPREAD = 300, 1.25  # cluster centres lie this far apart, in deviations of a cluster
NOISE, DECAY = 0.35, 0.5  # deviation of the noise; its j-th direction weighs j**-DECAY
BLOCK = 20_000

GENERATED = {"clustered": (100_000, 768), "unclustered": (50_000, 384)}
REAL = {name: f"{name}-train.parquet" for name in ("cifar10", "clinc150", "imdb")}


@dataclass(frozen=True)
class Source:
    """A set by name; ``rows`` and ``dim`` change a generated set, ``rows`` thins out a real one.

    Written ``clustered``, ``clustered:20000``, ``clustered:20000x384`` or ``cifar10:5000``.
    """

    name: str
    rows: int | None = None
    dim: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Source":
        name, _, size = text.partition(":")
        rows, _, dim = size.partition("x")
        if name not in GENERATED | REAL or (dim and name in REAL):
            raise ValueError(f"'{text}' is no set; sets are {', '.join([*GENERATED, *REAL])}")
        return cls(name, int(rows) if rows else None, int(dim) if dim else None)

    def load(self, folder: Path | None) -> NDArray[np.float32]:
        """Return float32 vectors (n, d), the same on every call."""
        if self.name in GENERATED:
            rows, dim = GENERATED[self.name]
            return generate(self.name, self.rows or rows, self.dim or dim)
        if folder is None:
            raise ValueError(f"the set '{self.name}' is read from a folder: give it with --data")
        vectors = read_embedding(folder / REAL[self.name])
        if self.rows is None or self.rows >= len(vectors):
            return vectors
        chosen = np.random.default_rng(0).choice(len(vectors), self.rows, replace=False)
        return vectors[np.sort(chosen)]

    def sized(self, rows: int) -> "Source":
        return replace(self, rows=rows)


def read_embedding(path: Path) -> NDArray[np.float32]:
    """Read the column ``embedding`` as float32 (n, d)."""
    column = pq.read_table(path, columns=["embedding"])["embedding"]
    parts = [
        chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
        for chunk in column.chunks
    ]
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)


def generate(name: str, rows: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    """Make unit vectors on a curved surface of 24 dimensions, with noise in all directions.

    300 Gaussians of unequal size, or one if "unclustered", go through one random tanh layer into
    ``dim`` dimensions; noise of decaying strength is added, the mean is taken out.
    """
    vectors = np.empty((rows, dim), dtype=np.float32)
    start = 0
    for block in _blocks(name, rows, dim, np.random.default_rng(seed)):
        vectors[start : start + len(block)] = block
        start += len(block)
    center = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    for start in range(0, rows, BLOCK):
        block = vectors[start : start + BLOCK]
        block -= center
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def _blocks(
    name: str, rows: int, dim: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    inner = (rng.normal(size=(LATENT, HIDDEN)) / np.sqrt(LATENT)).astype(np.float32)
    outer = (rng.normal(size=(HIDDEN, dim)) / np.sqrt(HIDDEN)).astype(np.float32)
    weight = np.arange(1, dim + 1) ** -DECAY
    weight *= NOISE / np.sqrt(np.mean(weight**2))
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    noise = (weight[:, None] * rotation).astype(np.float32)
    clusters = CLUSTERS if name == "clustered" else 1
    centers = SPREAD * rng.normal(size=(clusters, LATENT)) * (clusters > 1)
    shares = rng.dirichlet(np.ones(clusters))
    for start in range(0, rows, BLOCK):
        n = min(BLOCK, rows - start)
        latent = centers[rng.choice(clusters, n, p=shares)] + rng.normal(size=(n, LATENT))
        surface = np.tanh(latent.astype(np.float32) @ inner) @ outer
        yield surface + rng.standard_normal((n, dim), dtype=np.float32) @ noise
