"""Parameters of the stages and the presets that fill them; light enough to import for ``--help``.

``PRESETS`` is the one place where defaults of the method stand. ``default`` comes from experiments
on real data, ``paper`` is the method as published, ``reference`` the authors' released code.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from d2cli.errors import ParameterError

Metric = Literal["l2", "cosine", "ip", "l1", "mahalanobis", "hamming"]
Backend = Literal["auto", "exact", "hnsw", "cells", "fast"]
Fusion = Literal["concat", "distance", "graphs"]
Kernel = Literal["gaussian", "exponential"]
Messages = Literal["signed", "clamped"]
Ties = Literal["random", "row"]
Balance = Literal["proportional", "uniform"]
Direction = Literal["high", "low"]
Method = Literal[
    "d2",
    "random",
    "hardest",
    "easiest",
    "moderate",
    "ccs",
    "kcenter",
    "facility-location",
    "semdedup",
]
# The methods that take rows one by one, so that the changes they make can be counted on the way.
LIMITABLE: tuple[Method, ...] = ("d2", "random", "hardest", "easiest", "moderate")
PresetName = Literal["default", "paper", "reference"]
Auto = Literal["auto"]
Probe = Literal["probe"]
LogValues = Literal["auto", "logits", "probabilities"]

AUTO: Auto = "auto"
PROBE: Probe = "probe"
GAMMA_FORWARD_WITHOUT_RATE = 0.25
SMALLEST_RATE = 0.1  # rates below it use its gammas
EL2N_EPOCHS, WINDOW = 5, 10
FUSION: Fusion = "distance"  # of several modalities: takes every metric, and rows that lack one


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults of the method's parameters.

    ``neighbor_floor`` is the least difficulty a neighbour counts with in the forward sum (None: no
    floor), ``shift`` whether negative difficulties are shifted to start at 0, ``prune_hardest`` the
    cutoff (None: see `ScoreParams.for_score`).
    """

    kernel: Kernel = "gaussian"
    bandwidth: float | Auto = AUTO
    gamma_forward: float | Auto = AUTO
    gamma_reverse: float | Auto = AUTO
    messages: Messages = "signed"
    ties: Ties = "random"
    neighbor_floor: float | None = None
    shift: bool = True
    prune_hardest: float | None = None


PRESETS: dict[PresetName, Preset] = {
    "default": Preset(),
    "paper": Preset(bandwidth=1.0, gamma_forward=1.0, gamma_reverse=0.1, prune_hardest=0.0),
    "reference": Preset(
        kernel="exponential",
        bandwidth=1.0,
        gamma_forward=1.0,
        gamma_reverse=0.1,
        ties="row",
        neighbor_floor=1e-7,
        shift=False,
        prune_hardest=0.0,
    ),
}


def _check(name: str, value: object, *, least: float, open_end: bool = False) -> None:
    if value is None or value == AUTO:
        return
    number = float(value) if isinstance(value, int | float) else math.nan
    if not math.isfinite(number) or number < least or (open_end and number == least):
        relation = "greater than" if open_end else "at least"
        raise ParameterError(f"{name} is {value}, expected a number {relation} {least:g}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ParameterError(f"{name} is '{value}', expected one of {', '.join(choices)}")


def check_rate(rate: float | None) -> None:
    """Raise ParameterError unless the pruning rate is None or a fraction from 0 to 1."""
    if rate is None or 0 <= rate <= 1:
        return
    hint = "the rate is the fraction of rows removed; keeping a tenth is --rate 0.9"
    if 1 < rate <= 100:
        hint = f"the rate is a fraction; {rate:g} % is --rate {rate / 100:g}"
    raise ParameterError(f"rate is {rate:g}, expected 0 to 1", hint=hint)


def rows_kept(rate: float, n_samples: int) -> int:
    """Return how many rows of n a pruning rate keeps: ``n - floor(rate * n + 0.5)``."""
    return n_samples - math.floor(rate * n_samples + 0.5)


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
        The rows are divided into so many partitions, see `d2cli.stages.partitioned`; None searches
        them undivided.
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
        _check_choice("metric", self.metric, get_args(Metric))
        _check_choice("backend", self.backend, get_args(Backend))
        check_seed(self.seed)
        if self.metric == "l1" and self.backend not in ("auto", "exact"):
            raise ParameterError(
                f"backend {self.backend} does not serve metric l1: hnsw and cells search by l2, "
                "and no map makes l1 of it",
                hint="leave out --backend: l1 is searched exactly",
            )
        _check("shrinkage", self.shrinkage, least=0)
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


def check_seed(seed: int) -> None:
    """Raise ParameterError unless the seed fits all generators: 0 to 2**32 - 1."""
    if not 0 <= seed < 2**32:
        raise ParameterError(f"seed is {seed}, expected 0 to 4,294,967,295")


class FromPreset:
    """Fill fields that were left out (None) from a preset."""

    @classmethod
    def from_preset(cls, name: PresetName = "default", **given: Any) -> Self:  # noqa: ANN401
        """Build the parameters: what is given, then the preset's value, then the class's default.

        Parameters
        ----------
        name : {"default", "paper", "reference"}
            A key of ``PRESETS``.
        **given
            Fields of the class; None counts as not given.
        """
        _check_choice("preset", name, tuple(PRESETS))
        preset = PRESETS[name]
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        chosen = {key: getattr(preset, key) for key in names if hasattr(preset, key)}
        chosen |= {key: value for key, value in given.items() if value is not None}
        return cls(**{**chosen, "preset": name})


@dataclass(frozen=True, kw_only=True)
class ScoreParams(FromPreset):
    """The forward pass: difficulty to score.

    Attributes
    ----------
    gamma_forward : float or "auto"
        In units of 1 / bandwidth**2 (gaussian) or 1 / bandwidth (exponential). "auto" is
        1 / R**2 - 1 with R = max(rate, 0.1), or 0.25 when the rate is not known.
    rate : float or None
        The pruning rate that "auto" and "probe" are for; it decides the default cutoff as well.
    kernel, bandwidth
        See `d2cli.stages.kernel`.
    rounds : int
        Forward passes, each on the result of the one before.
    prune_hardest : float, "auto", "probe" or None
        Fraction of the hardest rows of each group taken out first. "auto" takes out what looks
        mislabelled or is learned wrong, see `d2cli.stages.cutoff.prune_automatically`;
        "probe" tries fractions on rows held out, see `d2cli.stages.held_out`, and needs a rate.
        None is settled by `for_score`; unsettled it is 0.
    ties : {"random", "row"}
        Order of equal difficulties in ``prune_hardest``.
    seed : int
        Of random ties.
    neighbor_floor, shift
        See `Preset`.
    """

    preset: PresetName = "default"
    gamma_forward: float | Auto = AUTO
    rate: float | None = None
    kernel: Kernel = "gaussian"
    bandwidth: float | Auto = AUTO
    rounds: int = 1
    prune_hardest: float | Auto | Probe | None = None
    ties: Ties = "random"
    seed: int = 0
    neighbor_floor: float | None = None
    shift: bool = True

    def __post_init__(self) -> None:
        check_rate(self.rate)
        _check("gamma-forward", self.gamma_forward, least=0)
        _check("bandwidth", self.bandwidth, least=0, open_end=True)
        if not 0 <= self.rounds <= 1000:
            raise ParameterError(f"rounds is {self.rounds}, expected 0 to 1,000")
        cut = self.prune_hardest or 0.0
        if cut not in (AUTO, PROBE) and not 0 <= float(cut) <= 1:
            raise ParameterError(f"prune-hardest is {cut}, expected 0 to 1, auto or probe")
        _check_choice("kernel", self.kernel, ("gaussian", "exponential"))
        _check_choice("ties", self.ties, ("random", "row"))
        check_seed(self.seed)

    def for_score(self, *, margin: bool) -> Self:
        """Settle a cutoff that was left open: "auto" for a margin at a known rate, else 0.

        Parameters
        ----------
        margin : bool
            Whether the difficulty is known to be a margin, such as aum.
        """
        if self.prune_hardest is not None:
            return self
        return replace(self, prune_hardest=AUTO if margin and self.rate is not None else 0.0)

    @property
    def gamma_forward_value(self) -> float:
        """The number that ``gamma_forward`` stands for."""
        if self.gamma_forward != AUTO:
            return float(self.gamma_forward)
        if self.rate is None:
            return GAMMA_FORWARD_WITHOUT_RATE
        return 1 / max(self.rate, SMALLEST_RATE) ** 2 - 1


@dataclass(frozen=True, kw_only=True)
class SelectParams(FromPreset):
    """The greedy pick with reverse messages, or another method.

    Attributes
    ----------
    method : {"d2", "random", "hardest", ...}
        See `d2cli.stages.methods`; all but "d2" use difficulty and graph, but no scores.
    rate : float or None
        Fraction of the rows removed; exactly one of ``rate`` and ``keep`` is given.
    keep : int or None
        Rows kept.
    gamma_reverse : float or "auto"
        Units as ``gamma_forward``; small = strong suppression of neighbours = more diversity.
        "auto" is 1 / R**2 with R = max(rate, 0.1).
    messages : {"signed", "clamped"}
        "clamped": a pick with a negative score sends nothing.
    ties : {"random", "row"}
        Which of equal scores is picked first.
    balance : {"proportional", "uniform"}
        Shares of the groups, if there are groups.
    max_changes : int or None
        The most rows of an earlier selection that may go, see `d2cli.stages.changes`; None is no
        limit. Methods that do not rank rows one by one have none.
    """

    preset: PresetName = "default"
    method: Method = "d2"
    rate: float | None = None
    keep: int | None = None
    gamma_reverse: float | Auto = AUTO
    kernel: Kernel = "gaussian"
    bandwidth: float | Auto = AUTO
    messages: Messages = "signed"
    ties: Ties = "random"
    seed: int = 0
    balance: Balance = "proportional"
    max_changes: int | None = None

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.keep is None):
            raise ParameterError(
                "expected exactly one of rate and keep",
                hint="--rate 0.9 removes nine rows of ten, --keep 5000 keeps 5,000 rows",
            )
        check_rate(self.rate)
        if self.keep is not None and self.keep < 1:
            raise ParameterError(f"keep is {self.keep}, expected a number of rows, at least 1")
        _check("gamma-reverse", self.gamma_reverse, least=0)
        _check("bandwidth", self.bandwidth, least=0, open_end=True)
        _check_choice("kernel", self.kernel, ("gaussian", "exponential"))
        _check_choice("method", self.method, get_args(Method))
        _check_choice("messages", self.messages, ("signed", "clamped"))
        _check_choice("ties", self.ties, ("random", "row"))
        _check_choice("balance", self.balance, ("proportional", "uniform"))
        check_seed(self.seed)
        if self.max_changes is None:
            return
        if self.max_changes < 0:
            raise ParameterError(f"max-changes is {self.max_changes}, expected at least 0")
        if self.method not in LIMITABLE:
            raise ParameterError(
                f"max-changes does not go with the method {self.method}",
                hint=f"it goes with {', '.join(LIMITABLE[:-1])} and {LIMITABLE[-1]}",
            )

    def budget(self, n_samples: int) -> int:
        """Return the number of rows to keep: that of the rate, see `rows_kept`, or ``keep``.

        Raises
        ------
        ParameterError
            If that is no row, or more rows than there are.
        """
        if self.keep is not None:
            if self.keep > n_samples:
                raise ParameterError(f"keep is {self.keep:,}, but there are {n_samples:,} rows")
            return self.keep
        assert self.rate is not None
        kept = rows_kept(self.rate, n_samples)
        if kept < 1:
            raise ParameterError(
                f"rate {self.rate:g} of {n_samples:,} rows keeps none",
                hint="lower the rate, or give the number of rows with --keep",
            )
        return kept

    def rate_of(self, n_samples: int) -> float:
        """Return the pruning rate: the one given, or ``1 - keep / n``."""
        return self.rate if self.rate is not None else 1 - self.budget(n_samples) / n_samples

    def gamma_reverse_value(self, n_samples: int) -> float:
        """Return the number that ``gamma_reverse`` stands for."""
        if self.gamma_reverse != AUTO:
            return float(self.gamma_reverse)
        return 1 / max(self.rate_of(n_samples), SMALLEST_RATE) ** 2


@dataclass(frozen=True, kw_only=True)
class DynamicsParams:
    """Training dynamics to difficulty columns.

    Attributes
    ----------
    values : {"auto", "logits", "probabilities"}
        What the log holds. "auto" looks at a sample of its rows.
    el2n_epochs : int or None
        First epochs that el2n is the mean over; None is 5, or all where there are fewer.
    window : int or None
        J, epochs of a window of dynamic_uncertainty and dual; None is 10, and both are left out
        where there are fewer.
    """

    values: LogValues = AUTO
    el2n_epochs: int | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        _check_choice("values", self.values, (AUTO, "logits", "probabilities"))
        if self.el2n_epochs is not None and self.el2n_epochs < 1:
            raise ParameterError(f"el2n-epochs is {self.el2n_epochs}, expected at least 1")
        if self.window is not None and self.window < 2:
            raise ParameterError(f"window is {self.window}, expected at least 2 epochs")

    def el2n_epochs_of(self, n_epochs: int) -> int:
        """Return how many epochs el2n is the mean over.

        Raises
        ------
        ParameterError
            If more were asked for than there are.
        """
        return min(
            _epochs("el2n-epochs", self.el2n_epochs, EL2N_EPOCHS, n_epochs) or n_epochs, n_epochs
        )

    def window_of(self, n_epochs: int) -> int | None:
        """Return the epochs of a window, or None if there are too few for the default.

        Raises
        ------
        ParameterError
            If more were asked for than there are.
        """
        return _epochs("window", self.window, WINDOW, n_epochs)


def _epochs(name: str, given: int | None, default: int, n_epochs: int) -> int | None:
    if given is not None and given > n_epochs:
        raise ParameterError(
            f"{name} is {given}, but there are {n_epochs} epochs", hint=f"lower --{name}"
        )
    return given if given is not None else default if default <= n_epochs else None


@dataclass(frozen=True, kw_only=True)
class PrototypeParams:
    """Distance to prototypes.

    Attributes
    ----------
    prototypes : int or None
        K, centroids of all rows or, with labels, of each label. None is 1 with labels, and
        round(sqrt(n / 2)) without.
    seed : int
        Of the first centroids.
    """

    prototypes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prototypes is not None and self.prototypes < 1:
            raise ParameterError(f"prototypes is {self.prototypes}, expected at least 1")
        check_seed(self.seed)

    def n_prototypes(self, n_samples: int, *, labelled: bool) -> int:
        """Return K."""
        if self.prototypes is not None:
            return self.prototypes
        return 1 if labelled else max(round(math.sqrt(n_samples / 2)), 1)
