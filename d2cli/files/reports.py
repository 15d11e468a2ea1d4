"""The report as a file: JSON, Markdown or HTML."""

import json
from collections.abc import Container
from typing import Any

import pyarrow as pa
from blake3 import blake3

from d2cli.files.artifacts import Artifact
from d2cli.files.digests import digest_json, parse_json
from d2cli.files.paths import is_file
from d2cli.files.remote import Place
from d2cli.files.stages import ids_of
from d2cli.render.html import NO_PICTURES, Pictures, to_html
from d2cli.render.markdown import escape, to_markdown
from d2cli.render.wording import beside_random, direction_text, method_of, recall_text
from d2cli.stages.report import REPORT_VERSION

__all__ = [
    "beside_random",
    "direction_text",
    "escape",
    "is_current",
    "method_of",
    "recall_text",
    "render",
    "report_of",
    "to_markdown",
]

REPORT_SUFFIXES = (".json", ".md", ".html")


def report_of(
    figures: dict[str, Any],
    graph: Artifact,
    scores: Artifact,
    selection: Artifact,
    stages: list[dict[str, Any]],
) -> dict[str, Any]:
    """Join the figures with where they come from, and example rows with their ids."""
    made, picked = scores.meta["parameters"], selection.meta["parameters"]
    return {
        "kind": "d2 report",
        "schema_version": REPORT_VERSION,
        "key": selection.key,
        **figures,
        "graph": {**figures["graph"], **_of_modalities(graph)},
        "difficulty": {"name": made["difficulty"], **figures["difficulty"]},
        "examples": _with_ids(figures["examples"], ids_of(scores)),
        "parameters": {
            "graph": graph.meta["parameters"],
            "score": {**made, "gamma_forward_used": scores.meta["results"]["gamma_forward"]},
            "select": {**picked, "gamma_reverse_used": selection.meta["results"]["gamma_reverse"]},
        },
        "inputs": {
            "graph": graph.meta["inputs"],
            "scores": scores.meta["inputs"],
            "selection": selection.meta["inputs"],
        },
        "digest": selection.digest,
        "row_order": selection.row_order,
        "versions": selection.meta["versions"],
        "stages": stages,
    }


def _of_modalities(graph: Artifact) -> dict[str, Any]:
    """Return what is known of a graph of several modalities beside the figures of any graph.

    ``neighbors`` is then k, and not how many a row lists at most.
    """
    made, results = graph.meta["parameters"], graph.meta["results"]
    if "fusion" not in made:
        return {}
    names = ("bandwidths", "recalls", "candidates", "lacking")
    of_each = {name: results[name] for name in names}
    return {"neighbors": made["n_neighbors"], "modalities": {**made["weights"]}, **of_each}


def _with_ids(
    examples: dict[str, list[dict[str, Any]]], ids: pa.Array | None
) -> dict[str, list[dict[str, Any]]]:
    if ids is None:
        return examples

    def named(row: dict[str, Any]) -> dict[str, Any]:
        return {"row": row["row"], "id": ids[row["row"]].as_py(), **row}

    return {
        kind: [
            {**named(row), "nearest_kept": row["nearest_kept"] and named(row["nearest_kept"])}
            for row in rows
        ]
        for kind, rows in examples.items()
    }


def shown_rows(report: dict[str, Any]) -> list[int]:
    """Return the rows that a report shows as examples, and their nearest kept neighbors."""
    rows = [row for kind in report["examples"].values() for row in kind]
    return [row["row"] for row in rows] + [
        row["nearest_kept"]["row"] for row in rows if row["nearest_kept"]
    ]


def with_texts(report: dict[str, Any], column: str, texts: dict[int, str]) -> dict[str, Any]:
    """Return a report whose example rows have a "text": that of a column, by row number."""

    def told(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "text": texts.get(row["row"])}

    examples = {
        kind: [
            {**told(row), "nearest_kept": row["nearest_kept"] and told(row["nearest_kept"])}
            for row in rows
        ]
        for kind, rows in report["examples"].items()
    }
    return {**report, "examples": examples, "shown": column}


def shown_texts(report: dict[str, Any], but: Container[int] = ()) -> list[str]:
    """Return the texts of all example rows and their nearest kept neighbors, but for some rows."""
    rows = [row for kind in report["examples"].values() for row in kind]
    rows += [row["nearest_kept"] for row in rows if row["nearest_kept"]]
    return [row["text"] for row in rows if row.get("text") is not None and row["row"] not in but]


def is_current(path: Place, key: str) -> bool:
    """Return whether a report file is whole and belongs to the selection with this key."""
    if not is_file(path):
        return False
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".json":
            found = parse_json(data)
            del found["seal"]
            return bool(found["key"] == key and sealed_json(found) == data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    text = data[: -len(sealed_text(b""))]
    return key.encode() in text and sealed_text(text) == data


def render(report: dict[str, Any], suffix: str, pictures: Pictures = NO_PICTURES) -> bytes:
    """Return the report as JSON (``.json``), Markdown (``.md``) or HTML (``.html``).

    Only HTML holds the pictures.
    """
    if suffix == ".md":
        return sealed_text(to_markdown(report).encode())
    if suffix == ".html":
        return sealed_text(to_html(report, pictures).encode())
    return sealed_json(report)


def sealed_json(report: dict[str, Any]) -> bytes:
    """Return a report as JSON with its digest in it."""
    rest = {name: value for name, value in report.items() if name != "seal"}
    read_back = json.loads(json.dumps(rest))  # in which names that were numbers are text
    sealed = {**rest, "seal": digest_json(read_back)}
    return (json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sealed_text(text: bytes) -> bytes:
    """Return a text with its digest in a comment at the end, which no reader is shown."""
    return text + f"<!-- d2 {blake3(text).hexdigest()} -->\n".encode()
