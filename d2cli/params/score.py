"""Parameters of the forward messages."""

from dataclasses import dataclass, replace
from typing import Self

from d2cli.errors import ParameterError
from d2cli.params.checks import check_choice, check_number, check_rate, check_seed
from d2cli.params.choices import AUTO, PROBE, Auto, Kernel, PresetName, Probe, Ties
from d2cli.params.presets import FromPreset

GAMMA_FORWARD_WITHOUT_RATE = 0.25
SMALLEST_RATE = 0.1  # rates below it use its gammas


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
        check_number("gamma-forward", self.gamma_forward, least=0)
        check_number("bandwidth", self.bandwidth, least=0, open_end=True)
        if not 0 <= self.rounds <= 1000:
            raise ParameterError(f"rounds is {self.rounds}, expected 0 to 1,000")
        cut = self.prune_hardest or 0.0
        if cut not in (AUTO, PROBE) and not 0 <= float(cut) <= 1:
            raise ParameterError(f"prune-hardest is {cut}, expected 0 to 1, auto or probe")
        check_choice("kernel", self.kernel, ("gaussian", "exponential"))
        check_choice("ties", self.ties, ("random", "row"))
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
