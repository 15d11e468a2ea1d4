"""``d2 cache``: what is in the cache folder, whether it is whole, and what may go."""

import time
from pathlib import Path
from typing import Any

from d2cli.errors import DamagedError
from d2cli.files.cache import cache_folder
from d2cli.files.entries import Entry, damage_of, in_use, list_entries, remove_entry
from d2cli.pipeline.run import Run

REMOVED, WOULD_GO, STAYS, IN_USE = "removed", "would be removed", "stays", "in use"


def run_cache_ls(cache_dir: str | None) -> dict[str, Any]:
    """Return all entries of the cache folder, the one longest unused first.

    Returns
    -------
    dict
        ``folder``, ``entries`` and the totals of all, ready for JSON.
    """
    folder, now = cache_folder(cache_dir), time.time()
    return _found(folder, [_about(entry, now) for entry in list_entries(folder)])


def run_cache_verify(run: Run, cache_dir: str | None) -> dict[str, Any]:
    """Read every entry and compare it with its digest.

    Returns
    -------
    dict
        As `run_cache_ls`; every entry has "damage", a message or None, and "damaged" counts them.
    """
    folder, now = cache_folder(cache_dir), time.time()
    entries = [entry for entry in list_entries(folder) if entry.kind != "leftover"]
    checked = []
    for done, entry in enumerate(entries):
        run.on_progress("verifying", done, len(entries))
        checked.append({**_about(entry, now), "damage": damage_of(entry)})
    damaged = sum(entry["damage"] is not None for entry in checked)
    return {**_found(folder, checked), "damaged": damaged}


def refuse_damage(found: dict[str, Any]) -> None:
    """Raise DamagedError if an entry was found to be damaged."""
    messages = [entry["damage"] for entry in found["entries"] if entry["damage"] is not None]
    if messages:
        raise DamagedError(
            f"{len(messages):,} of {found['total']['entries']:,} entries cannot be used; "
            f"the first: {messages[0]}",
            hint="they are made again when they are needed; `d2 cache clear` removes all entries",
        )


def run_cache_clear(
    run: Run,
    cache_dir: str | None,
    *,
    older_than: float | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Remove entries, those longest unused first; without a limit, all.

    What a killed run left behind goes in any case; what a running process is making stays.

    Parameters
    ----------
    run : Run
    cache_dir : str, optional
    older_than : float, optional
        Seconds: what has not been used for so long goes.
    max_size : int, optional
        Bytes: entries go until no more than this is left.
    dry_run : bool
        Remove nothing, and say what would be removed.

    Returns
    -------
    dict
        As `run_cache_ls`; every entry has an "outcome", and "removed" and "left" count them.
    """
    folder, now = cache_folder(cache_dir), time.time()
    entries = list_entries(folder)
    everything = older_than is None and max_size is None
    left = sum(entry.size for entry in entries)
    done = []
    for at, entry in enumerate(entries):
        run.on_progress("clearing", at, len(entries))
        due = everything or entry.kind == "leftover"
        due = due or (older_than is not None and now - entry.used > older_than)
        due = due or (max_size is not None and left > max_size)
        outcome = _clear(entry, dry_run=dry_run) if due else STAYS
        if outcome in (REMOVED, WOULD_GO):
            left -= entry.size
        done.append({**_about(entry, now), "outcome": outcome})
    gone = [entry for entry in done if entry["outcome"] in (REMOVED, WOULD_GO)]
    rest = [entry for entry in done if entry["outcome"] in (STAYS, IN_USE)]
    return {
        **_found(folder, done),
        "dry_run": dry_run,
        "removed": _total(gone),
        "left": {**_total(rest), "in_use": sum(e["outcome"] == IN_USE for e in rest)},
    }


def _clear(entry: Entry, *, dry_run: bool) -> str:
    if dry_run:
        return IN_USE if in_use(entry) else WOULD_GO
    return REMOVED if remove_entry(entry) else IN_USE


def _about(entry: Entry, now: float) -> dict[str, Any]:
    return {
        "file": entry.path.name,
        "kind": entry.kind,
        "key": entry.key or None,
        "rows": entry.n_rows,
        "size_bytes": entry.size,
        "unused_seconds": round(max(now - entry.used, 0.0), 1),
        "what": entry.what or None,
    }


def _found(folder: Path, entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"folder": str(folder), "entries": entries, "total": _total(entries)}


def _total(entries: list[dict[str, Any]]) -> dict[str, int]:
    return {"entries": len(entries), "size_bytes": sum(entry["size_bytes"] for entry in entries)}
