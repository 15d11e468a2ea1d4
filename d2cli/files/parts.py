"""Parts of a stage's result that are there before all of it is: what a lost run need not repeat.

A part is an artifact of its own in a store: a folder, or the address of one. Its key begins with
that of the whole result, and goes on with what tells it from the other parts; so does its name.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray

from d2cli.errors import D2Error, ParameterError, ResourceError
from d2cli.files.artifacts import Artifact, peek, seal, stage_key, write_artifact
from d2cli.files.cache import find
from d2cli.files.digests import digest_json
from d2cli.files.remote import Place, Remote, as_place
from d2cli.files.stages import lists, matrix, table_of

VERSION = 3
OF_KEY = 20  # digits of the key of a whole result that the keys of its parts begin with


def open_store(text: str) -> Place:
    """Return the folder, made if need be, or the address that parts are kept in.

    Raises
    ------
    ParameterError
        If it is no folder, and cannot be one.
    """
    store = as_place(text.rstrip("/") or text)
    if isinstance(store, Path):
        try:
            store.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ParameterError(
                f"{store}: cannot be a store: {reason}", hint="name another folder with --store"
            ) from error
    return store


@dataclass(eq=False)
class Parts:
    """The parts of one result in a store.

    Attributes
    ----------
    store : Path, Remote or None
        None keeps nothing.
    of : str
        Key of the whole result.
    fresh : bool
        Find nothing that is there from before.
    note : callable
        Takes a line for the user.
    read, kept : int
        Bytes of columns so far.
    """

    store: Place | None
    of: str
    fresh: bool = False
    note: Callable[[str], None] = print
    read: int = 0
    kept: int = 0

    def _key(self, which: dict[str, Any]) -> str:
        own = stage_key("part", VERSION, {"of": self.of, **which}, {})
        return self.of[:OF_KEY] + own[OF_KEY:]

    def _place(self, store: Place, which: dict[str, Any]) -> Place:
        return store / f"part-{self._key(which)[:40]}.parquet"

    @property
    def _prefix(self) -> str:
        """What the names of all parts of the whole result begin with."""
        return f"part-{self.of[:OF_KEY]}"

    def find(self, **which: Any) -> Artifact | None:  # noqa: ANN401
        """Return a part; None if it is absent, or, with a note, if it is damaged."""
        if self.store is None or self.fresh:
            return None
        artifact, damage = find(self._place(self.store, which), "part", self._key(which))
        if damage:
            self.note(f"warning: {damage}; making it again")
        if artifact is not None:
            self.read += artifact.table.nbytes
        return artifact

    def keep(
        self,
        columns: Mapping[str, NDArray[Any]],
        *,
        results: dict[str, Any] | None = None,
        groups: Sequence[int] | None = None,
        **which: Any,  # noqa: ANN401
    ) -> Artifact:
        """Keep a part.

        Parameters
        ----------
        columns : mapping of str to array
            (n,) or (n, w) each.
        results : dict, optional
            What is known of it beside its columns.
        groups : sequence of int, optional
            Rows of each row group of the file.
        which
            What tells it from the other parts.

        Raises
        ------
        ResourceError
            If it cannot be written.
        """
        part = seal(
            "part",
            table_of({name: _arrow(values) for name, values in columns.items()}),
            key=self._key(which),
            parameters={"of": self.of, **which},
            inputs={},
            results=_signed(self._key(which), results or {}),
        )
        if self.store is None:
            return part
        self.kept += part.table.nbytes
        return write_artifact(self.where(**which), part, groups=groups)

    def where(self, **which: Any) -> Place:  # noqa: ANN401
        """Return the place of a part, be it there or not."""
        if self.store is None:
            raise ValueError("there is no store")
        return self._place(self.store, which)

    def require(self, **which: Any) -> Artifact:  # noqa: ANN401
        """Return a part that was there a moment ago.

        Raises
        ------
        ResourceError
            If it is not there any more, or is damaged.
        """
        quiet = quiet_parts(self.store, self.of)
        part = quiet.find(**which)
        self.read += quiet.read
        if part is None:
            raise self.lost()
        return part

    def lost(self) -> ResourceError:
        """Return the error for a part that was there a moment ago, and is not, or is damaged."""
        return ResourceError(
            f"{self.store}: a part of the result is not there any more, or is damaged",
            hint="leave the store alone while d2 runs; the next run makes what is missing",
        )

    def results_of(self, **which: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return what is known of a part beside its columns, which are not read.

        Raises
        ------
        ResourceError
            If it is not there, or that is not what was written.
        """
        return self.checked_results(peek(self.where(**which)), **which)

    def checked_results(self, meta: Any, **which: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return what metadata say of a part beside its columns; see `results_of`."""
        try:
            results = dict(meta["results"])
            signed = _signed(self._key(which), results)["check"] == results["check"]
        except (KeyError, TypeError, ValueError) as error:
            raise self.lost() from error
        if not signed or meta.get("key") != self._key(which):
            raise self.lost()
        return results

    def discard(self) -> None:
        """Remove all parts of the whole result, which is there, by whatever division."""
        with contextlib.suppress(OSError, D2Error):
            if isinstance(self.store, Remote):
                files, folder = self.store.where()
                for info in files.get_file_info(pafs.FileSelector(folder, allow_not_found=True)):
                    if info.base_name.startswith(self._prefix):
                        files.delete_file(info.path)
            elif self.store is not None:
                for place in self.store.glob(f"{self._prefix}*.parquet"):
                    place.unlink(missing_ok=True)


def _signed(key: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results with a digest of theirs and of the key, for those who read nothing else."""
    known = {name: value for name, value in results.items() if name != "check"}
    return {**known, "check": digest_json({"key": key, "results": known})}


def quiet_parts(store: Place | None, of: str) -> Parts:
    """Return the parts of a result for those who tell the user nothing, such as tasks."""
    return Parts(store, of, note=_say_nothing)


def values_of(part: Artifact, name: str) -> NDArray[Any]:
    """Return a column of a part, (n,) or (n, w)."""
    return column_values(part.table, name)


def column_values(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column of the table of a part, (n,) or (n, w)."""
    column = table.column(name)
    if pa.types.is_fixed_size_list(column.type):
        return matrix(table, name)
    values: NDArray[Any] = column.to_numpy()
    return values


def _arrow(values: NDArray[Any]) -> pa.Array:
    return pa.array(values) if values.ndim == 1 else lists(values)


def _say_nothing(line: str) -> None:
    """Say nothing."""
