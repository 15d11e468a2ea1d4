"""Folders written by ``datasets.Dataset.save_to_disk``: which Arrow files, and in what order."""

import json
from pathlib import Path
from typing import Any, TypeVar

from d2cli.errors import InputError
from d2cli.files.damage import reading
from d2cli.files.paths import is_file
from d2cli.files.remote import Place, Remote

PlaceT = TypeVar("PlaceT", Path, Remote)
STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def data_files(folder: PlaceT) -> list[PlaceT] | None:
    """Return the Arrow files of a saved dataset in the order of its rows; None if it is none.

    Parameters
    ----------
    folder : Path or Remote

    Raises
    ------
    InputError
        If it holds several splits, rows that are chosen by an indices mapping, or a damaged
        ``state.json``.
    """
    if is_file(folder / SPLITS):
        found = _json(folder / SPLITS).get("splits")
        splits = [str(name) for name in found] if isinstance(found, list) else []
        raise InputError(
            f"{folder}: holds the splits {', '.join(splits)}" if splits else f"{folder}: no splits",
            hint=f"name one of them: {folder / splits[0]}" if splits else None,
        )
    if not is_file(folder / STATE):
        return None
    state = _json(folder / STATE)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise InputError(
            f"{folder}: the order of its rows is in an indices mapping, which d2 does not read",
            hint="call flatten_indices() on the dataset before save_to_disk()",
        )
    entries = state.get("_data_files")
    names = [
        entry.get("filename") if isinstance(entry, dict) else None
        for entry in (entries if isinstance(entries, list) else [])
    ]
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise InputError(
            f"{folder / STATE}: names no data files, expected a list _data_files",
            hint="the folder is damaged, or was not written by datasets' save_to_disk()",
        )
    return [folder / str(name) for name in names]


def _json(path: Place) -> dict[str, Any]:
    with reading(str(path)):
        value = json.loads(path.read_bytes())
    return value if isinstance(value, dict) else {}
