"""Presets: the one place where defaults of the method stand.

``default`` comes from experiments on real data, ``paper`` is the method as published, ``reference``
the authors' released code.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

from d2cli.params.checks import check_choice
from d2cli.params.choices import AUTO, Auto, Kernel, Messages, PresetName, Ties


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
        check_choice("preset", name, tuple(PRESETS))
        preset = PRESETS[name]
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        chosen = {key: getattr(preset, key) for key in names if hasattr(preset, key)}
        chosen |= {key: value for key, value in given.items() if value is not None}
        return cls(**{**chosen, "preset": name})
