"""Parameters of a graph."""

from dataclasses import asdict, dataclass
from typing import Any, get_args

from d2cli.errors import ParameterError
from d2cli.params.checks import check_choice, check_number, check_seed
from d2cli.params.choices import AUTO, Auto, Backend, Metric


@dataclass(frozen=True, kw_only=True)
class GraphParams:
    """How neighbours are searched.

    Attributes
    ----------
    n_neighbors : int
        k, neighbours stored a row.
    metric : {"l2", "cosine", "ip", "l1", "mahalanobis", "hamming"}
        "cosine" is l2 between unit vectors, so 0 to 2. "ip" is l2 between rows of one length, which
        the largest inner product makes the nearest. "l1" sums absolute differences. "mahalanobis"
        is l2 between whitened vectors. "hamming" counts the bits in which packed codes differ.
    backend : {"auto", "exact", "hnsw", "cells", "fast"}
        "auto" searches exactly where that is at most as slow, else with hnsw. "fast" does so too,
        but tries cells before hnsw: k-means cells, several times faster on clustered vectors.
    recall : float
        Target of the measured recall@k of approximate searches, 0 to 1.
    seed : int
        Of the hnsw levels, of the recall sample and of the sample for whitening.
    shrinkage : float or "auto"
        For "mahalanobis": how far the covariance is drawn to a multiple of the identity, 0 to 1.
        "auto" is the formula of Ledoit and Wolf, see `d2cli.stages.whitening.fit_whitening`.
    partitions : int or None
        The rows are divided into so many partitions, see `d2cli.stages.partition_search`; None
        searches them undivided.
    """

    n_neighbors: int = 10
    metric: Metric = "l2"
    backend: Backend = "auto"
    recall: float = 0.95
    seed: int = 0
    shrinkage: float | Auto = AUTO
    partitions: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.n_neighbors <= 10_000:
            raise ParameterError(f"neighbors is {self.n_neighbors}, expected 1 to 10,000")
        if not 0 <= self.recall <= 1:
            raise ParameterError(f"recall is {self.recall:g}, expected 0 to 1")
        check_choice("metric", self.metric, get_args(Metric))
        check_choice("backend", self.backend, get_args(Backend))
        check_seed(self.seed)
        if self.metric == "l1" and self.backend not in ("auto", "exact"):
            raise ParameterError(
                f"backend {self.backend} does not serve metric l1: hnsw and cells search by l2, "
                "and no map makes l1 of it",
                hint="leave out --backend: l1 is searched exactly",
            )
        check_number("shrinkage", self.shrinkage, least=0)
        if self.shrinkage != AUTO and float(self.shrinkage) > 1:
            raise ParameterError(f"shrinkage is {self.shrinkage}, expected 0 to 1 or auto")
        if self.shrinkage != AUTO and self.metric != "mahalanobis":
            raise ParameterError(
                f"shrinkage is only used by metric mahalanobis, not by {self.metric}",
                hint="leave out --shrinkage, or use --metric mahalanobis",
            )
        if self.partitions is not None:
            self._check_partitions(self.partitions)

    def _check_partitions(self, partitions: int) -> None:
        if partitions < 1:
            raise ParameterError(f"partitions is {partitions}, expected at least 1")
        if self.metric in ("l1", "hamming") or self.backend == "hnsw":
            what = f"backend {self.backend}" if self.backend == "hnsw" else f"metric {self.metric}"
            raise ParameterError(
                f"{what} does not go with partitions: they are searched by l2, exactly or in cells",
                hint="leave out --engine and --partitions",
            )

    def recorded(self) -> dict[str, Any]:
        """Return the parameters that a graph's key and metadata hold: those that it depends on."""
        found = asdict(self)
        if self.metric != "mahalanobis":
            del found["shrinkage"]
        if self.partitions is None:
            del found["partitions"]
        return found
