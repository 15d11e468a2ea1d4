"""The order of things: read, look up, compute, publish; one module a command."""

from d2cli.pipeline.graph import run_graph
from d2cli.pipeline.prune import run_prune
from d2cli.pipeline.run import Run
from d2cli.pipeline.score import run_score
from d2cli.pipeline.selection import Selected, run_select
from d2cli.pipeline.targets import Targets

__all__ = ["Run", "Selected", "Targets", "run_graph", "run_prune", "run_score", "run_select"]
