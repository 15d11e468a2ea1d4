"""What comparisons and sweeps read: rows to select from, what is predicted, rows to test on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import InputError, ParameterError
from d2cli.files.alignment import Rows
from d2cli.files.artifacts import Artifact
from d2cli.files.column import Source
from d2cli.files.destinations import check_output
from d2cli.files.inputs import (
    DifficultyColumn,
    Embedding,
    Labels,
    find_embedding,
    read_classes,
    read_difficulty,
    read_embedding,
    read_group,
)
from d2cli.files.memory import graph_bytes
from d2cli.files.outputs import check_suffix
from d2cli.files.remote import Place
from d2cli.params import Auto, Direction, GraphParams, Metric, Probe, SelectParams
from d2cli.pipeline.graph import cached_graph
from d2cli.pipeline.planning import require_vectors
from d2cli.pipeline.run import Run
from d2cli.stages.groups import Groups
from d2cli.stages.trials import HOLD_OUT, SUBSAMPLE
from d2cli.stages.vectors import Vectors, as_codes, as_vectors
from d2cli.stages.whitening import Whitening

COPIES = 3  # of the vectors: as they are searched, and what is trained on in float64


@dataclass(frozen=True, eq=False)
class Contest:
    """Inputs of a comparison or sweep.

    Attributes
    ----------
    data : Embedding
    column : DifficultyColumn
    target : Labels or None
        What is predicted.
    classes : Groups or None
        The rows by target.
    tested : tuple or None
        Vectors (t, d) and int32 codes (t,) of the test file.
    group : Labels or None
        Groups with budgets of their own.
    digests : dict
        Of all that results depend on, but the graph.
    """

    data: Embedding
    column: DifficultyColumn
    target: Labels | None
    classes: Groups | None
    tested: tuple[NDArray[Any], NDArray[np.int32]] | None
    group: Labels | None
    digests: dict[str, Any]

    def graph(self, run: Run, folder: Path | None, params: GraphParams) -> Artifact:
        """Return the graph of the rows, from the cache if it is there."""
        return cached_graph(run, folder, self.data, params)

    def points(
        self, metric: Metric, whitening: Whitening | None = None
    ) -> tuple[Vectors, tuple[Vectors, NDArray[np.int32]] | None]:
        """Return the rows, and the test rows, as a metric has them: what a probe sees."""
        try:
            ours = as_vectors(self.data.vectors, metric, whitening=whitening)
        except InputError as error:
            raise error.at(self.data.where) from None
        if self.tested is None:
            return ours, None
        vectors, codes = self.tested
        # Lengths of test rows are no matter to a graph that they are not in.
        theirs = as_vectors(vectors, "l2" if metric == "ip" else metric, whitening=whitening)
        return ours, (theirs, codes)


def read_contest(
    run: Run,
    source: str,
    rates: tuple[float, ...],
    *,
    n_neighbors: int,
    difficulty: str,
    labels: str | None,
    test: str | None,
    harder: Direction | None,
    embedding: str | None,
    id_: str | None,
    within: str | None,
    group: str | None,
    packed: bool = False,
) -> Contest:
    """Read and check all inputs; the last parameters are COLREFs, as in `run_prune`.

    ``packed`` says that vectors are codes, eight bits to a uint8.
    """
    for rate in rates:
        SelectParams(rate=rate)
    found = find_embedding(run.sources, source, embedding=embedding, id_=id_, within=within)
    require_vectors(
        found,
        "read the vectors, build graphs and train on them",
        copies=COPIES * (8 if packed else 1),
        row_bytes=graph_bytes(1, n_neighbors),
        smaller="fewer rows or a smaller -k need less",
    )
    data = found.read(packed=packed)
    column = read_difficulty(run.sources, difficulty, data.rows, harder)
    target = read_classes(run.sources, labels, data.rows) if labels else None
    classes = check_classes(target.groups, rates) if target else None
    tested, test_digests = None, None
    if test and labels and classes:
        vectors, codes, test_digests = read_test(
            run, test, data, embedding, labels, classes, packed=packed
        )
        tested = (vectors, codes)
    budgets = read_group(run.sources, group, data.rows) if group else None
    digests = {
        "difficulty": column.digest,
        "direction": column.direction,
        "labels": target.digest if target else None,
        "group": budgets.digest if budgets else None,
        "test": test_digests,
    }
    return Contest(data, column, target, classes, tested, budgets, digests)


def check_cutoff(cut: float | Auto | Probe | None, rates: tuple[float, ...]) -> None:
    """Refuse a fraction that takes out more rows than one of the rates does."""
    for rate in rates:
        if isinstance(cut, float | int) and cut > rate:
            raise ParameterError(
                f"prune-hardest {cut:g} leaves fewer rows than rate {rate:g} keeps",
                hint="leave out one of them",
            )


def check_targets(*targets: tuple[Place | None, tuple[str, ...]]) -> None:
    """Refuse endings that are not known, before anything is read."""
    for place, suffixes in targets:
        if place is not None:
            check_suffix(place, suffixes, "the result")


def check_places(run: Run, *places: Place | None) -> None:
    """Refuse places that cannot be written or that hold an input."""
    for place in places:
        if place is not None:
            check_output(place, run.inputs())


def read_test(
    run: Run,
    test: str,
    data: Embedding,
    embedding: str | None,
    labels: str,
    labels_of: Groups,
    *,
    packed: bool = False,
) -> tuple[NDArray[Any], NDArray[np.int32], dict[str, str]]:
    """Read the test file; labels become the numbers of the training labels, -1 if unknown there."""
    home = run.sources.open(test)
    known = embedding if embedding in home.columns else None
    found = read_embedding(
        run.sources, test, embedding=known, id_="none", within=None, packed=packed
    )
    codes, digest = read_test_labels(run, home, len(found.vectors), labels, labels_of)
    if found.vectors.shape[1] != data.vectors.shape[1]:
        raise InputError(
            f"{found.where}: has width {found.vectors.shape[1]}, "
            f"but {data.where} has width {data.vectors.shape[1]}"
        )
    if packed:
        try:
            as_codes(found.vectors)
        except InputError as error:
            raise error.at(found.where) from None
    return found.vectors, codes, {**found.digests, "labels": digest}


def read_test_labels(
    run: Run, home: Source, n_rows: int, labels: str, labels_of: Groups
) -> tuple[NDArray[np.int32], str]:
    """Read the labels of a test file as numbers (n,) of the training labels, and their digest."""
    name = labels if labels in home.columns else labels.rpartition("::")[2]
    if name not in home.columns:
        raise InputError(
            f"{home.name}: no column '{name}' with the labels; it has {', '.join(home.columns)}",
            hint="the test file needs the label column of the source, under its name",
        )
    theirs = read_group(run.sources, name, Rows(home.name, n_rows, None, home))
    number = {name: code for code, name in enumerate(labels_of.names)}
    grouped = theirs.groups
    codes = np.array([number.get(name, -1) for name in grouped.names], dtype=np.int32)
    return codes[grouped.codes], theirs.digest


def check_classes(groups: Groups, rates: tuple[float, ...]) -> Groups:
    """Return the classes; refuse rates that leave one empty."""
    n_pool = round(min(SUBSAMPLE, 1 - HOLD_OUT) * len(groups.codes))
    for rate in rates:
        budget = SelectParams(rate=rate).budget(n_pool)
        if budget < groups.n_groups:
            raise ParameterError(
                f"rate {rate:g} keeps {budget:,} rows for {groups.n_groups:,} classes, "
                "so some would be empty",
                hint="leave this rate out",
            )
    return groups
