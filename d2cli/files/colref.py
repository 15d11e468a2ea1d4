"""COLREF: what the user calls a column, found in a file.

``COLUMN`` (of the command's SOURCE), ``FILE`` (one array, or one possible column), or
``FILE::NAME``, where FILE may be a folder or a glob as well. A name that is both a column of SOURCE
and a file is the column; ``./name`` is the file.
"""

from d2cli.errors import InputError
from d2cli.files.column import Column, ColumnKind, Source, list_columns
from d2cli.files.columns import ColumnRef
from d2cli.files.globs import absence, names_files
from d2cli.files.sources import STDIN, Sources

ID_NAMES = ("id", "uid")

WANTED: dict[str, tuple[ColumnKind, ...]] = {
    "embedding": ("vectors",),
    "difficulty": ("numbers",),
    "label": ("labels", "numbers"),
    "id": ("labels", "numbers"),
    "shown": ("labels", "numbers", "images"),
}
EXPECTED = {
    "embedding": "lists of numbers, or an array of shape (rows, width)",
    "difficulty": "one number a row",
    "label": "one string or number a row",
    "id": "one string or integer a row",
    "shown": "one string, number or image a row",
}


def resolve(text: str, role: str, sources: Sources, home: Source | None) -> ColumnRef:
    """Find the column that a COLREF means.

    Parameters
    ----------
    text : str
        The COLREF.
    role : {"embedding", "difficulty", "label", "id", "shown"}
        What it is wanted for.
    sources : Sources
        Opens files.
    home : Source, optional
        The command's SOURCE.

    Raises
    ------
    InputError
        If there is no such column or file, its type does not fit, or several columns fit.
    """
    if home is not None and text in home.columns and text:
        return fitting(home, home.columns[text], role)
    if text == STDIN or names_files(text):
        return only_column(sources.open(text), role)
    file, separator, name = text.partition("::")
    if separator:
        source = sources.open(file)
        if name not in source.columns:
            raise InputError(
                f"{source.name}: no column '{name}'; it has {list_columns(source)}",
            )
        return fitting(source, source.columns[name], role)
    if home is None or not any(home.columns):
        raise InputError(
            f"{text}: {absence(text)}",
            hint="a column of another file is named FILE::COLUMN",
        )
    raise InputError(
        f"{home.name}: no column '{text}', and no file of that name; it has {list_columns(home)}",
        hint="name one of them, or a column of another file as FILE::NAME",
    )


def split(text: str) -> tuple[str, str | None]:
    """Return the file of a COLREF that stands for a SOURCE too, and the COLREF if it has a column.

    ``FILE`` and ``-`` name no column.
    """
    file, separator, name = text.partition("::")
    if text == STDIN or names_files(text) or not separator:
        return text, None
    return file, text if name else None


def only_column(source: Source, role: str) -> ColumnRef:
    """Return the one column of a source that fits a role.

    Raises
    ------
    InputError
        If none or several fit; lists them.
    """
    columns = [c for c in source.columns.values() if c.kind in WANTED[role]]
    if role in ("difficulty", "label", "shown"):
        columns = [c for c in columns if c.name not in ID_NAMES] or columns
    if role == "embedding":  # lists of integers are rarely embeddings
        columns = [c for c in columns if not c.name or "int" not in c.type] or columns
    if len(columns) == 1:
        return ColumnRef(source, columns[0])
    if columns:
        listed = ", ".join(f"{c.name} ({c.type})" for c in columns)
        option = {"embedding": "--embedding", "difficulty": "--difficulty"}.get(role, "its name as")
        raise InputError(
            f"{source.name}: {len(columns)} columns could be the {role}: {listed}",
            hint=f"choose one with {option} {source.name}::{columns[0].name}",
        )
    raise InputError(
        f"{source.name}: no column could be the {role}, expected {EXPECTED[role]}; "
        f"it has {list_columns(source) or 'no columns'}"
    )


def fitting(source: Source, column: Column, role: str) -> ColumnRef:
    """Return the reference to a column, or raise InputError if its type does not fit the role."""
    ref = ColumnRef(source, column)
    if column.kind not in WANTED[role]:
        raise InputError(f"{ref.where}: is {column.type}, expected {EXPECTED[role]}")
    return ref


def id_column(source: Source, given: str | None) -> ColumnRef | None:
    """Return the id column of a source: the one named ``given``, else ``id`` or ``uid``.

    Raises
    ------
    InputError
        If it cannot hold ids: leaving it out would match rows by number without a word.
    """
    for name in (given, *ID_NAMES):
        column = source.columns.get(name or "")
        if name and column is not None:
            try:
                return fitting(source, column, "id")
            except InputError as error:
                error.hint = "--id names another column; --id none matches by row"
                raise
    return None
