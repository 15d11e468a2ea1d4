"""Errors that are the user's to mend, each with its exit code.

D2Error
├── ParameterError   2   wrong usage or parameter
├── InputError       3   bad input data
├── ArtifactError    4   of another kind or version, or made from other data
│   └── DamagedError 4   damaged or cut short
├── ResourceError    5   out of disk or memory
└── GateError        6   a comparison beyond the limits that it was given
"""

from typing import Self


class D2Error(Exception):
    """A mistake that one line and a hint explain; anything else is a bug and keeps its traceback.

    Parameters
    ----------
    message : str
        Where, what was found, what was expected; lower case, no full stop.
    hint : str, optional
        The next action; left out, the class's ``next_action``.
    """

    exit_code = 1
    next_action = "see the README, section Troubleshooting"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.next_action

    def at(self, where: str) -> Self:
        """Return the same error with its place in front: a file, or a file and a column."""
        return type(self)(f"{where}: {self.message}", hint=self.hint)


class ParameterError(D2Error, ValueError):
    """A parameter, option or combination of them that cannot be used."""

    exit_code = 2
    next_action = "the command's --help tells what each option takes"


class InputError(D2Error):
    """Input data that cannot be used: missing, ragged, not finite, not matching."""

    exit_code = 3
    next_action = "mend the file, or name another file or column"


class ArtifactError(D2Error):
    """A graph, scores or selection file that is damaged, foreign, or made from other data."""

    exit_code = 4
    next_action = "make it again with the command that writes it"


class DamagedError(ArtifactError):
    """An artifact whose contents do not match its digest, or that is cut short."""


class ResourceError(D2Error):
    """Disk or memory ran out, or a file could not be written."""

    exit_code = 5
    next_action = "free some space, or name another place"


class GateError(D2Error):
    """A result that is whole, but beyond a limit that the user set."""

    exit_code = 6
    next_action = "look at what changed; raise the limit if it is meant to"


class ReaderGone(Exception):
    """Whoever read standard output has left; the command stops, and that is fine.

    No OSError, which the parser takes for its own and ends with exit code 1.
    """
