"""Files that are not what they seem: one error for all that their readers raise."""

import csv
import re
import tokenize
import zipfile
import zlib

import pyarrow as pa

from d2cli.errors import InputError, ParameterError

# What pyarrow, NumPy and zipfile raise for files that are not what they seem.
DAMAGE = (
    pa.ArrowException,
    ValueError,
    EOFError,
    OSError,
    KeyError,
    TypeError,
    SyntaxError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    tokenize.TokenError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)

# What pyarrow and NumPy say of sizes of 1 TiB and more, which no block of a sound file has.
ABSURD = re.compile(r"of size [0-9]{13,}|allocate [0-9.]+ [TPE]iB")


class reading:
    """Turn what the readers raise into one InputError that names the file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MemoryError):
            if ABSURD.search(str(error)):
                raise InputError(
                    f"{self.name}: cannot be read: it declares sizes beyond any memory",
                    hint="the file is damaged",
                ) from error
            return
        if isinstance(error, DAMAGE) and not isinstance(error, ParameterError):
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{self.name}: cannot be read: {first_line}",
                hint="the file is damaged or of a kind that d2 does not read",
            ) from error
