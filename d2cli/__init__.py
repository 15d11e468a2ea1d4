"""Pick the part of a data set worth training on: D2 Pruning on files and arrays.

``graph``, ``score``, ``select`` and ``prune`` are the commands of the same names on NumPy arrays.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2cli.api import graph, prune, score, select
    from d2cli.errors import ArtifactError, D2Error, InputError, ParameterError, ResourceError

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "D2Error",
    "InputError",
    "ParameterError",
    "ResourceError",
    "__version__",
    "graph",
    "prune",
    "score",
    "select",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what is asked for and nothing else: ``d2 --help`` needs no NumPy."""
    if name in ("graph", "prune", "score", "select"):
        from d2cli import api

        return getattr(api, name)
    if name in __all__:
        from d2cli import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'd2cli' has no attribute {name!r}")
