"""The summary of a CI job: a file that steps append Markdown to."""

import os
from pathlib import Path

from d2cli.errors import ParameterError, ResourceError

ENVIRONMENT = "GITHUB_STEP_SUMMARY"


def summary_file() -> Path:
    """Return the file that ``$GITHUB_STEP_SUMMARY`` names.

    Raises
    ------
    ParameterError
        If it names none.
    """
    named = os.environ.get(ENVIRONMENT)
    if not named:
        raise ParameterError(
            f"--summary appends to the file in ${ENVIRONMENT}, which is not set",
            hint="GitHub Actions sets it; elsewhere use --report report.md",
        )
    return Path(named)


def append_summary(text: str) -> None:
    """Append Markdown to the summary, after an empty line if there is something already.

    Raises
    ------
    ResourceError
        If the file cannot be written to.
    """
    path = summary_file()
    try:
        with path.open("ab") as file:
            file.write((("\n" if file.tell() else "") + text).encode())
    except OSError as error:
        raise ResourceError(
            f"{path}: cannot be appended to: {error.strerror or error}",
            hint=f"${ENVIRONMENT} has to name a file that can be written",
        ) from error
