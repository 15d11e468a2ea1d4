"""The order of things: read, look up, compute, publish; one module a command."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2cli.pipeline.ablation import run_ablation
    from d2cli.pipeline.compare import CompareParams, run_compare
    from d2cli.pipeline.difficulty import run_dynamics, run_neighborhood, run_prototypes
    from d2cli.pipeline.engine import EngineParams
    from d2cli.pipeline.graph import plan_run_graph, run_graph
    from d2cli.pipeline.prune import plan_run_prune, run_prune
    from d2cli.pipeline.run import Run
    from d2cli.pipeline.score import run_score
    from d2cli.pipeline.selection import Selected, run_select
    from d2cli.pipeline.stream import Streamed, run_stream
    from d2cli.pipeline.sweep import run_sweep
    from d2cli.pipeline.targets import Targets

__all__ = [
    "CompareParams",
    "EngineParams",
    "Run",
    "Selected",
    "Streamed",
    "Targets",
    "plan_run_graph",
    "plan_run_prune",
    "run_ablation",
    "run_compare",
    "run_dynamics",
    "run_graph",
    "run_neighborhood",
    "run_prototypes",
    "run_prune",
    "run_score",
    "run_select",
    "run_stream",
    "run_sweep",
]

_MODULES = {
    "CompareParams": "compare",
    "EngineParams": "engine",
    "Selected": "selection",
    "Streamed": "stream",
    "plan_run_graph": "graph",
    "plan_run_prune": "prune",
    "run_dynamics": "difficulty",
    "run_neighborhood": "difficulty",
    "run_prototypes": "difficulty",
    "run_select": "selection",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the module of the command that runs, and of no other."""
    if name not in __all__:
        raise AttributeError(f"module 'd2cli.pipeline' has no attribute {name!r}")
    module = _MODULES.get(name, name.removeprefix("run_").lower())
    return getattr(import_module(f"d2cli.pipeline.{module}"), name)
