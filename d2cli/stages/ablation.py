"""What each modality brings: selections with some of them, beside the selection with all."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2cli.stages.comparison import Cell
from d2cli.stages.fusion import shares_of
from d2cli.stages.sweep import row_beside

TWO = ((3, 1), (1, 1), (1, 3))  # weights tried of two modalities


@dataclass(frozen=True)
class Mix:
    """Some modalities and their shares, by name, ascending; ``full`` is the mix asked for."""

    shares: tuple[tuple[str, float], ...]
    full: bool = False

    @property
    def name(self) -> str:
        """The mix in words: "image alone", "image 0.75, text 0.25"."""
        if len(self.shares) == 1:
            return f"{self.shares[0][0]} alone"
        text = ", ".join(f"{name} {share:.4g}" for name, share in self.shares)
        return f"all: {text}" if self.full else text


def mixes_of(shares: Mapping[str, float]) -> list[Mix]:
    """Return the mixes of an ablation: the full one first, each modality alone, then pairs.

    Of two modalities the weights 3:1, 1:1 and 1:3 are tried, of more every pair, 1:1. A mix that is
    the full one is left out.
    """
    full = Mix(tuple(sorted(shares.items())), full=True)
    found = [Mix(((name, 1.0),)) for name in sorted(shares)]
    for pair in itertools.combinations(sorted(shares), 2):
        for weights in TWO if len(shares) == 2 else ((1, 1),):
            of_pair = shares_of(dict(zip(pair, weights, strict=True)))
            found.append(Mix(tuple(of_pair.items())))
    return [full, *(mix for mix in found if mix.shares != full.shares)]


def summarize_ablation(
    cells: Mapping[tuple[Mix, float], Sequence[Cell]], *, seed: int
) -> list[dict[str, Any]]:
    """Return one row per (mix, rate), beside the full mix at the same rate.

    Parameters
    ----------
    cells : mapping
        The seeds of each mix and rate, in the same order everywhere; the full mix is among them.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        ``modalities`` (shares by name), ``name``, ``default`` (whether it is the full mix),
        ``rate``; and what `d2cli.stages.sweep.row_beside` returns.
    """
    full = {rate: group for (mix, rate), group in cells.items() if mix.full}
    return [
        {
            "modalities": dict(mix.shares),
            "name": mix.name,
            "default": mix.full,
            "rate": rate,
            **row_beside(group, full[rate], seed=seed),
        }
        for (mix, rate), group in cells.items()
    ]


def conclude_ablation(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one sentence per rate: what changes most, and with labels what trains best."""
    out = []
    for rate in dict.fromkeys(row["rate"] for row in rows):
        at = [row for row in rows if row["rate"] == rate]
        others = [row for row in at if not row["default"]]
        if "accuracy" not in at[0]:
            least = min(others, key=lambda row: float(row["overlap"]))
            out.append(
                f"rate {rate:g}: {least['name']} selects most unlike all together (overlap "
                f"{least['overlap']:.2f}); labels would tell what trains best"
            )
            continue
        best = max(at, key=lambda row: float(row["accuracy"]["mean"]))
        if best["default"]:
            out.append(f"rate {rate:g}: no other mix is better than all together")
            continue
        found = best["accuracy"]
        noise = "" if found["low"] > 0 else ", within noise"
        out.append(
            f"rate {rate:g}: best with {best['name']}, {100 * found['difference']:+.1f} points "
            f"beside all together ({100 * found['low']:+.1f} to {100 * found['high']:+.1f}{noise})"
        )
    return out
