"""The scores, the graph and the groups that a selection was made from, found again.

A selection holds digests of what it was made from and no paths, so what is found is known to be
the right one, wherever it was.
"""

from dataclasses import dataclass
from pathlib import Path

from d2cli.errors import ArtifactError, InputError
from d2cli.files import cache
from d2cli.files.alignment import Rows
from d2cli.files.artifact_tables import Kind, column_of
from d2cli.files.artifacts import Artifact, read_artifact
from d2cli.files.inputs import Labels, read_group
from d2cli.files.paths import exists
from d2cli.files.remote import place_beside
from d2cli.files.sources import Sources


@dataclass(frozen=True, eq=False)
class Standing:
    """A selection and what it was made from, all three read and verified.

    Attributes
    ----------
    selection, scores, graph : Artifact
        Scores and graph are over all rows of the source, the selection over those kept.
    """

    selection: Artifact
    scores: Artifact
    graph: Artifact


def find_standing(
    selection_ref: str,
    *,
    scores_ref: str | None = None,
    graph_ref: str | None = None,
    cache_dir: str | None = None,
) -> Standing:
    """Read a selection, and find the scores and the graph that it was made from.

    Scores are taken from ``scores_ref``, else from the cache by their digest. The graph is taken
    from ``graph_ref``, else it comes along with the scores, else from the cache by its digest, else
    from where the scores say that it is. Digests of all three are verified, and those of scores and
    graph are the ones that the selection records.

    Parameters
    ----------
    selection_ref : str
        Parquet file written by ``d2 select`` or ``d2 prune``, or "-" for one on standard input.
    scores_ref, graph_ref : str, optional
        Files written by ``d2 score`` and ``d2 graph``; no other place is then looked at.
    cache_dir : str, optional
        See `d2cli.files.cache.cache_folder`.

    Returns
    -------
    Standing

    Raises
    ------
    InputError
        If a file that is named does not exist.
    ArtifactError
        If a file is damaged, of another kind, not what the selection was made from, or if scores
        or graph are not found; the hint then says how to name them.
    """
    selection = read_artifact(selection_ref, "selection")
    folder = cache.cache_folder(cache_dir)
    scores = find_scores(selection, scores_ref, folder)
    return Standing(selection, scores, find_graph(selection, scores, graph_ref, folder))


def find_scores(selection: Artifact, scores_ref: str | None, folder: Path) -> Artifact:
    """Return the scores of a selection, from the file named or from the cache folder."""
    if scores_ref is not None:
        return _verified(selection, "scores", scores_ref)
    found = cache.find_digest(folder, "scores", _digest(selection, "scores"))
    if found is None:
        raise ArtifactError(
            f"{selection.name}: the scores it was made from are not in the cache {folder}",
            hint="name them with --scores, the cache with --cache-dir, or run `d2 prune` again",
        )
    return _verified(selection, "scores", found.name)


def find_graph(
    selection: Artifact, scores: Artifact, graph_ref: str | None, folder: Path
) -> Artifact:
    """Return the graph of a selection; ``scores`` are those it was made from."""
    if graph_ref is not None:
        return _verified(selection, "graph", graph_ref)
    if scores.graph is not None and scores.graph.digest == _digest(selection, "graph"):
        return scores.graph
    found = cache.find_digest(folder, "graph", _digest(selection, "graph"))
    if found is not None:
        return _verified(selection, "graph", found.name)
    if scores.graph_path is not None:
        place = place_beside(scores.name, scores.graph_path)
        if exists(place):
            return _verified(selection, "graph", str(place))
    raise ArtifactError(
        f"{selection.name}: the graph it was made from is neither in the cache {folder} "
        "nor where its scores found it",
        hint="name it with --graph, the cache with --cache-dir, or run `d2 prune` again",
    )


def colref_in(sources: Sources, text: str, source: str | None) -> str:
    """Return a COLREF that says in which file its column is: in SOURCE, if that has one."""
    if source is None or text not in sources.open(source).columns:
        return text
    return f"{source}::{text}"


def find_group(
    sources: Sources, standing: Standing, rows: Rows, *, group: str | None, source: str | None
) -> Labels | None:
    """Return the groups that had budgets.

    They are those that ``group`` names, else those that the graph was searched within, else a
    column of ``source``: always the ones whose digest the selection records.

    Parameters
    ----------
    sources : Sources
    standing : Standing
    rows : Rows
        Of the scores.
    group : str or None
        COLREF.
    source : str or None
        The data.

    Returns
    -------
    Labels or None
        None if there were no groups, or they are not known.

    Raises
    ------
    ArtifactError
        If ``group`` is not what the selection was made with.
    """
    selection = standing.selection
    digest = selection.meta["inputs"].get("group")
    if group is not None:
        labels = read_group(sources, colref_in(sources, group, source), rows)
        if labels.digest != digest:
            raise ArtifactError(
                f"{group}: is not the group that {selection.name} was made with",
                hint="name the column that --group named then"
                if digest
                else "leave out --group: the selection was made without groups",
            )
        return labels
    if digest is None:
        return None
    if standing.graph.meta["inputs"].get("within") == digest:
        return Labels(column_of(standing.graph.table, "within"), digest)
    for name, column in sources.open(source).columns.items() if source else ():
        if column.kind not in ("labels", "numbers") or not name:
            continue
        try:
            labels = read_group(sources, f"{source}::{name}", rows)
        except InputError:
            continue  # with nulls, say: no selection was made with it
        if labels.digest == digest:
            return labels
    return None


def _digest(selection: Artifact, kind: Kind) -> str:
    digest = selection.meta["inputs"].get(kind)
    if digest is None:
        raise ArtifactError(
            f"{selection.name}: was selected from a stream, of which there is no {kind} file",
            hint="`d2 diff` and `d2 export` take it; of its making `d2 stream --report` tells",
        )
    return str(digest)


def _verified(selection: Artifact, kind: Kind, place: str) -> Artifact:
    """Read an artifact and make sure that the selection was made from it."""
    found = read_artifact(place, kind)
    wanted = _digest(selection, kind)
    if found.digest != wanted:
        what = "is not the graph" if kind == "graph" else "are not the scores"
        raise ArtifactError(
            f"{found.name}: {what} that {selection.name} was made from "
            f"(digest {found.digest[:12]}, expected {wanted[:12]})",
            hint=f"name the right file with --{kind}, or leave it out to look in the cache",
        )
    return found
