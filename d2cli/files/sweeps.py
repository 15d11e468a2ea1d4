"""A sweep as text, Markdown, JSON and a heat map."""

import json
from dataclasses import asdict
from typing import Any
from xml.sax.saxutils import escape as escape_xml

from d2cli.errors import ArtifactError, InputError, ParameterError
from d2cli.files.digests import digest_json, parse_json
from d2cli.files.paths import refuse_slash
from d2cli.files.remote import as_place
from d2cli.files.sources import Sources
from d2cli.stages.sweep import DEFAULT, KNOBS, Setting, describe_setting

SWEEP_KIND, ABLATION_KIND = "d2 sweep", "d2 sweep of modalities"


def render_sweep(found: dict[str, Any], suffix: str) -> bytes:
    """Return a sweep as ``.json``, ``.md`` or ``.svg``."""
    if suffix == ".md":
        return "\n".join([*_markdown(found), ""]).encode()
    if suffix == ".svg":
        return to_heat_map(found["rows"]).encode()
    sealed = {**found, "digest": digest_json(json.loads(json.dumps(found)))}
    return (json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _table(found: dict[str, Any]) -> list[list[str]]:
    labelled = "accuracy" in found["rows"][0]
    what, beside = "setting", "the default"
    if found.get("kind") == ABLATION_KIND:
        what, beside = "modalities", "all"
    header = ["rate", what, "overlap", "covered"]
    header[2:2] = ["linear probe", f"beside {beside}"] if labelled else []
    out = [header]
    for row in found["rows"]:
        covered = row["figures"]["covered"]
        line = [
            f"{row['rate']:g}",
            name_of(row),
            f"{row['overlap']:.2f}",
            "-" if covered is None else f"{100 * covered:.0f} %",
        ]
        if labelled:
            a = row["accuracy"]
            signed = [f"{100 * a[name]:+.1f}" for name in ("difference", "low", "high")]
            line[2:2] = [
                f"{100 * a['mean']:.1f} ± {100 * a['spread']:.1f}",
                "" if row["default"] else f"{signed[0]} ({signed[1]} to {signed[2]})",
            ]
        out.append(line)
    return out


def name_of(row: dict[str, Any]) -> str:
    """Return what a row tried: some modalities, or a setting."""
    return str(row["name"]) if "modalities" in row else describe_setting(row["setting"])


def sweep_lines(found: dict[str, Any]) -> list[str]:
    """Return the table with aligned columns, and the conclusions."""
    table = _table(found)
    widths = [max(len(row[c]) for row in table) for c in range(len(table[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return [*lines, "", *found["conclusions"]]


def _markdown(found: dict[str, Any]) -> list[str]:
    table = _table(found)
    whose = "the full" if found.get("kind") == ABLATION_KIND else "the default's"
    return [
        "# d2 sweep",
        "",
        *(f"- {sentence}" for sentence in found["conclusions"]),
        "",
        f"*overlap*: Jaccard index with {whose} selection; *covered*: dropped rows with a "
        "kept neighbor; in brackets the paired 95 % bootstrap interval over test rows.",
        "",
        "| " + " | ".join(table[0]) + " |",
        "|" + "---|" * len(table[0]),
        *("| " + " | ".join(row) + " |" for row in table[1:]),
    ]


def to_heat_map(rows: list[dict[str, Any]]) -> str:
    """Return settings by rates, coloured by accuracy, or by overlap where there are no labels."""
    labelled = "accuracy" in rows[0]
    rates = list(dict.fromkeys(row["rate"] for row in rows))
    names = list(dict.fromkeys(name_of(row) for row in rows))
    value = {
        (name_of(row), row["rate"]): (row["accuracy"]["mean"] if labelled else row["overlap"])
        for row in rows
    }
    left, top, cell_width, cell_height = 16 + 7 * max(map(len, names)), 54, 84, 24
    width, height = left + cell_width * len(rates) + 20, top + cell_height * len(names) + 20
    title = (
        "linear probe, % right"
        if labelled
        else f"overlap with {'all' if 'modalities' in rows[0] else 'the default'}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="18">{title}, by pruning rate</text>',
    ]
    for c, rate in enumerate(rates):
        column = [value[name, rate] for name in names]
        low, high = min(column), max(column)
        parts.append(
            f'<text x="{left + cell_width * (c + 0.5)}" y="{top - 8}" '
            f'text-anchor="middle">{rate:g}</text>'
        )
        for r, name in enumerate(names):
            share = (value[name, rate] - low) / (high - low) if high > low else 1.0
            shade = [round(255 - share * (255 - tone)) for tone in (33, 113, 181)]
            x, y = left + cell_width * c, top + cell_height * r
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell_width - 2}" height="{cell_height - 2}" '
                f'fill="rgb({shade[0]},{shade[1]},{shade[2]})"/>'
                f'<text x="{x + cell_width / 2 - 1}" y="{y + 16}" text-anchor="middle" '
                f'fill="{"white" if share > 0.6 else "black"}">{100 * value[name, rate]:.1f}</text>'
            )
    parts += [
        f'<text x="{left - 8}" y="{top + cell_height * r + 16}" text-anchor="end">'
        f"{escape_xml(name)}</text>"
        for r, name in enumerate(names)
    ]
    return "".join(parts) + "</svg>\n"


def read_settings(path: str, rate: float, sources: Sources) -> dict[str, Any]:
    """Return the best setting that a sweep found for the rate nearest to one.

    A cutoff that the sweep left to its difficulty is the one that it used.

    Raises
    ------
    InputError
        If the file cannot be read.
    ArtifactError
        If the file is no sweep, is damaged, or holds values that no setting has.
    """
    refuse_slash(path)
    place = as_place(path)
    try:
        data = place.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file", hint="make it with `d2 sweep -o`") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read: {reason}") from error
    try:
        found = parse_json(data)
        if found["kind"] == ABLATION_KIND:
            raise ArtifactError(
                f"{path}: is a sweep over modalities, which settles nothing",
                hint="make one over settings, without --modalities",
            )
        if found["kind"] != SWEEP_KIND:
            raise KeyError("kind")
        if found.pop("digest", None) != digest_json(found):
            raise ArtifactError(
                f"{path}: is damaged: its contents do not match its digest",
                hint="make it again with `d2 sweep -o`",
            )
        best = min(found["best"], key=lambda row: abs(row["rate"] - rate))
        setting = asdict(_setting_of(best["setting"]))
        if setting["prune_hardest"] is None:
            setting["prune_hardest"] = found.get("default_cutoff")
    except ParameterError as error:
        raise ArtifactError(f"{path}: {error}", hint="make it again with `d2 sweep -o`") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ArtifactError(
            f"{path}: is not a sweep", hint="make it with `d2 sweep -o sweep.json`"
        ) from error
    sources.paths.append(place)
    return setting


def _setting_of(values: dict[str, Any]) -> Setting:
    """Check the types, which JSON leaves open, and then the values."""
    for knob in KNOBS:
        usual, value = getattr(DEFAULT, knob), values[knob]
        kinds = (int,) if isinstance(usual, int) else (str, int, float, type(usual))
        if type(value) not in kinds:
            raise TypeError(f"{knob} is {value!r}")
    return Setting(**{knob: values[knob] for knob in KNOBS})
