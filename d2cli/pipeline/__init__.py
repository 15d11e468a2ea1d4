"""The order of things: read, look up, compute, publish; one module a command."""

from d2cli.pipeline.compare import CompareParams, run_compare
from d2cli.pipeline.difficulty import run_dynamics, run_neighborhood, run_prototypes
from d2cli.pipeline.graph import run_graph
from d2cli.pipeline.prune import run_prune
from d2cli.pipeline.run import Run
from d2cli.pipeline.score import run_score
from d2cli.pipeline.selection import Selected, run_select
from d2cli.pipeline.sweep import run_sweep
from d2cli.pipeline.targets import Targets

__all__ = [
    "CompareParams",
    "Run",
    "Selected",
    "Targets",
    "run_compare",
    "run_dynamics",
    "run_graph",
    "run_neighborhood",
    "run_prototypes",
    "run_prune",
    "run_score",
    "run_select",
    "run_sweep",
]
