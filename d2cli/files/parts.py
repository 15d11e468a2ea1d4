"""Parts of a stage's result that are there before all of it is: what a lost run need not repeat.

A part is an artifact of its own in a store: a folder, or the address of one. Its key begins with
that of the whole result, and goes on with what tells it from the other parts; so does its name.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray

from d2cli.errors import D2Error, ParameterError
from d2cli.files.artifacts import Artifact, seal, stage_key, write_artifact
from d2cli.files.cache import find
from d2cli.files.remote import Place, Remote, as_place

VERSION = 2
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
    """

    store: Place | None
    of: str
    fresh: bool = False
    note: Callable[[str], None] = print

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
        return artifact

    def keep(self, columns: Mapping[str, NDArray[Any]], **which: Any) -> Artifact:  # noqa: ANN401
        """Keep a part.

        Raises
        ------
        ResourceError
            If it cannot be written.
        """
        part = seal(
            "part",
            pa.table({name: pa.array(values) for name, values in columns.items()}),
            key=self._key(which),
            parameters={"of": self.of, **which},
            inputs={},
            results={},
        )
        if self.store is None:
            return part
        return write_artifact(self._place(self.store, which), part)

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


def values_of(part: Artifact, name: str) -> NDArray[Any]:
    """Return a column of a part."""
    values: NDArray[Any] = part.table.column(name).to_numpy()
    return values
