"""Folders and globs of other machines: the files that an address means, as a local path would.

A level of folders is asked for at a time, and only where a pattern leads, so that a glob at the
top of a large bucket does not list all of it. ``*`` and ``[...]`` match within a name, ``**`` any
folders; a question mark, which begins a query in addresses, is none of a pattern.
"""

import fnmatch
from collections.abc import Iterator
from typing import Any

import pyarrow.fs as pafs

from d2cli.files.addresses import split_address
from d2cli.files.filesystems import HTTP
from d2cli.files.remote import Remote

MAGIC = set("*[")
HIDDEN = (".", "_")  # how names begin that other readers leave out, too


def is_folder_or_glob(remote: Remote) -> bool:
    """Return whether an address is that of a folder, or a glob; a name comes before a pattern."""
    if remote.scheme in HTTP:
        return False
    magic = set(split_address(remote.address)[2]) & MAGIC
    return remote.is_dir() or (bool(magic) and not remote.is_file())


def list_files(remote: Remote) -> tuple[Remote, list[Remote]]:
    """Return the files of a folder or glob, and the folder that all of them are below.

    Parameters
    ----------
    remote : Remote
        Ends in "/", or holds a wildcard.

    Returns
    -------
    root : Remote
        The folder; of a glob, what stands before the first wildcard.
    files : list of Remote
        In no particular order, folders below included, without names that begin with "." or "_"
        (which a glob may ask for).

    Raises
    ------
    InputError
        If there is no such folder, no permission or no connection.
    ParameterError
        If the address has an empty part, credentials or options.
    """
    root, pattern = _split(remote)
    asked = any(part.startswith("_") for part in pattern)
    with remote.asking() as (files, _):
        path = root.where()[1]
        found = [
            Remote(f"{root.address}{'/'.join(names)}", info.path)
            for names, info in _expand(files, path, pattern)
            if asked or not any(name.startswith("_") for name in names)
        ]
    return root, found


def _split(remote: Remote) -> tuple[Remote, tuple[str, ...]]:
    """Return the folder before the first wildcard, and the parts of the pattern below it."""
    parts = [part for part in split_address(remote.address)[2].rstrip("/").split("/") if part]
    fixed = next((at for at, part in enumerate(parts) if set(part) & MAGIC), len(parts))
    return Remote(remote.home + "".join(f"{part}/" for part in parts[:fixed])), tuple(parts[fixed:])


def may_hold(source: Remote, file: Remote) -> bool:
    """Return whether a folder or glob means a file of this name; False if it is one file."""
    if source.path is not None or (source.scheme, source.home) != (file.scheme, file.home):
        return False
    root, pattern = _split(source)
    if not source.is_dir() and not pattern:
        return False
    try:
        return fits(file.relative_to(root).parts, pattern)
    except ValueError:
        return False


Found = tuple[tuple[str, ...], Any]  # the names that lead to a file from the root, and its info


def _expand(files: Any, folder: str, pattern: tuple[str, ...]) -> Iterator[Found]:  # noqa: ANN401
    """Yield the files below a folder that a pattern means; all if there is none."""
    if not pattern or pattern[0] == "**":
        for info in files.get_file_info(pafs.FileSelector(folder, recursive=True)):
            names = tuple(info.path[len(folder) :].strip("/").split("/"))
            if info.type == pafs.FileType.File and fits(names, pattern):
                yield names, info
        return
    for info in files.get_file_info(pafs.FileSelector(folder)):
        if not _fits_name(info.base_name, pattern[0]):
            continue
        if info.type == pafs.FileType.Directory:
            below = _expand(files, info.path, pattern[1:])
            yield from (((info.base_name, *names), found) for names, found in below)
        elif info.type == pafs.FileType.File and len(pattern) == 1:
            yield (info.base_name,), info


def fits(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Return whether a pattern means a file, or a folder that holds it.

    As ``glob.glob`` with ``recursive=True`` finds both, and a folder then stands for all files in
    it whose names, and those of their folders, do not begin with "." or "_".
    """
    if not pattern:
        return not any(name.startswith(HIDDEN) for name in names)
    if not names:
        return False
    if pattern[0] == "**":
        if fits(names, pattern[1:]):
            return True
        return not names[0].startswith(".") and fits(names[1:], pattern)
    return _fits_name(names[0], pattern[0]) and fits(names[1:], pattern[1:])


def _fits_name(name: str, pattern: str) -> bool:
    if not set(pattern) & MAGIC:
        return name == pattern
    hidden = name.startswith(".") and not pattern.startswith(".")
    return not hidden and fnmatch.fnmatchcase(name, pattern)
