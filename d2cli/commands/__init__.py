"""Commands behind the parser: a run with notes and progress, then what is printed of it."""

from d2cli.commands.running import (
    Setting,
    engine_params,
    one_embedding,
    print_artifact,
    print_json,
    print_plan,
    processors,
    refuse_dry_run,
    refuse_terminal,
    without_map,
)
from d2cli.commands.stages import (
    graph,
    prune,
    score,
    select,
)
from d2cli.commands.study import (
    DIFFICULTY_OPTIONS,
    compare,
    compare_params,
    difficulty,
    one_source,
    refuse_options,
    sweep,
)
from d2cli.pipeline import Targets

__all__ = [
    "DIFFICULTY_OPTIONS",
    "Setting",
    "Targets",
    "compare",
    "compare_params",
    "difficulty",
    "engine_params",
    "graph",
    "one_embedding",
    "one_source",
    "print_artifact",
    "print_json",
    "print_plan",
    "processors",
    "prune",
    "refuse_dry_run",
    "refuse_options",
    "refuse_terminal",
    "score",
    "select",
    "sweep",
    "without_map",
]
