"""What a dry run says of each stage: whether its result is there already, and if not, why.

Vectors are not read, so a graph is known by everything but them; what follows from a graph that is
there is known exactly.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from d2cli.files.artifacts import Artifact, Kind, stage_key
from d2cli.files.cache import glance
from d2cli.files.digests import digest_labels
from d2cli.files.inputs import FoundEmbedding
from d2cli.files.remote import Place
from d2cli.params import GraphParams
from d2cli.pipeline.run import STAGE_VERSIONS
from d2cli.quantities import size_text

HIT, IF_SAME, MISS = "hit", "hit if the vectors are the same", "miss"
UNKNOWN_INPUTS = ("vectors", "probe")  # known only by reading the vectors
LABEL_BYTES = 20  # of an id or a group's name, about


@dataclass(frozen=True)
class Forecast:
    """What will become of a stage.

    Attributes
    ----------
    stage : str
    status : str
        "hit", "hit if the vectors are the same" or "miss".
    reason : str
        Where it is, or what differs from the most similar result that is there.
    n_rows : int
    disk_bytes : int
        What its result takes up, about.
    found : Artifact or None
        The result that is there; its metadata only.
    """

    stage: str
    status: str
    reason: str
    n_rows: int
    disk_bytes: int
    found: Artifact | None = None

    def line(self) -> str:
        """Return it as text."""
        size = f"{self.n_rows:,} rows, about {size_text(self.disk_bytes)} on disk"
        return f"{self.stage}: {self.status} ({self.reason}); {size}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        names = ("stage", "status", "reason", "n_rows", "disk_bytes")
        return {name: getattr(self, name) for name in names}


def standing_artifacts(kind: Kind, output: Place | None, folder: Path | None) -> list[Artifact]:
    """Return what is at the output or, without one, in the cache folder: metadata, not verified."""
    paths: Iterable[Place] = ()
    if output is not None:
        paths = [output]
    elif folder is not None:
        paths = sorted(folder.glob(f"{kind}-*.parquet"))
    found = (glance(path) for path in paths)
    return [artifact for artifact in found if artifact and artifact.meta.get("kind") == kind]


def forecast_graph(
    found: FoundEmbedding, params: GraphParams, standing: list[Artifact], place: str
) -> Forecast:
    """Say whether a graph is there already.

    Parameters
    ----------
    found : FoundEmbedding
        Vectors that are not read.
    params : GraphParams
    standing : list of Artifact
        See `standing_artifacts`.
    place : str
        Where the result goes, for messages.
    """
    n = found.rows.n_rows
    inputs = {}
    if found.rows.ids is not None:
        inputs["id"] = digest_labels(found.rows.ids)
    if found.within is not None:
        inputs["within"] = found.within.digest
    size = n * (8 * params.n_neighbors + (LABEL_BYTES if found.rows.ids is not None else 0))
    standing = [artifact for artifact in standing if _is_of_this_code(artifact)]
    status, reason, like = _compare(asdict(params), inputs, standing, place, n_rows=n)
    return Forecast("graph", IF_SAME if like else status, reason, n, size, like)


def forecast_next(
    stage: str,
    key: str | None,
    parameters: dict[str, Any],
    inputs: dict[str, str],
    standing: list[Artifact],
    *,
    n_rows: int,
    row_bytes: int,
    place: str,
) -> Forecast:
    """Say whether scores or a selection are there already.

    Parameters
    ----------
    stage : str
    key : str or None
        None where what comes before is not there.
    parameters, inputs : dict
        What the key is made of.
    standing : list of Artifact
    n_rows, row_bytes : int
        Of the result.
    place : str
        Where the result goes, for messages.
    """
    size = n_rows * row_bytes
    if key is None:
        return Forecast(stage, MISS, "what it is made from will be made", n_rows, size)
    for artifact in standing:
        if artifact.meta.get("key") == key:
            return Forecast(stage, HIT, f"{artifact.name}", n_rows, size, artifact)
    _, reason, _ = _compare(parameters, inputs, standing, place)
    return Forecast(stage, MISS, reason, n_rows, size)


def _is_of_this_code(graph: Artifact) -> bool:
    """Return whether this version would give a graph of the same inputs the same key."""
    of = graph.meta["parameters"], graph.meta["inputs"]
    return stage_key("graph", STAGE_VERSIONS["graph"], *of) == graph.key


def _compare(
    parameters: dict[str, Any],
    inputs: dict[str, str],
    standing: list[Artifact],
    place: str,
    *,
    n_rows: int | None = None,
) -> tuple[str, str, Artifact | None]:
    """Return status, reason and the artifact that is alike in all that is known."""
    nearest: tuple[str, ...] | None = None
    for artifact in standing:
        meta = artifact.meta
        changes = tuple(_changes(parameters, inputs, meta))
        if n_rows is not None and meta.get("n_rows") != n_rows:
            changes = (f"rows {meta.get('n_rows'):,} -> {n_rows:,}", *changes)
        if not changes and n_rows is not None:
            return HIT, artifact.name, artifact
        if changes and (nearest is None or len(changes) < len(nearest)):
            nearest = changes
    if nearest is not None:
        return MISS, ", ".join(nearest), None
    return MISS, f"nothing like it in {place}" if not standing else "made by other code", None


def _changes(
    parameters: dict[str, Any], inputs: dict[str, str], meta: dict[str, Any]
) -> Iterator[str]:
    """Yield what differs from a result that is there, as "neighbors 10 -> 15"."""
    theirs = meta.get("parameters", {})
    for name in dict.fromkeys((*parameters, *theirs)):
        ours, other = parameters.get(name), theirs.get(name)
        if ours != other:
            yield f"{name.removeprefix('n_').replace('_', '-')} {_text(other)} -> {_text(ours)}"
    known = meta.get("inputs", {})
    for name in dict.fromkeys((*inputs, *known)):
        if name in UNKNOWN_INPUTS or inputs.get(name) == known.get(name):
            continue
        what = "changed" if name in inputs and name in known else "added"
        yield f"{name} {what if name in inputs else 'left out'}"


def _text(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
