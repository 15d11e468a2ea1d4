"""Parameters of the stages, checked when they are made; light enough to import for ``--help``."""

from d2cli.params.checks import (
    check_choice,
    check_number,
    check_rate,
    check_seed,
    rows_kept,
)
from d2cli.params.choices import (
    AUTO,
    FUSION,
    LIMITABLE,
    PROBE,
    Auto,
    Backend,
    Balance,
    Direction,
    Fusion,
    Kernel,
    LogValues,
    Messages,
    Method,
    Metric,
    PresetName,
    Probe,
    Ties,
)
from d2cli.params.difficulty import (
    EL2N_EPOCHS,
    WINDOW,
    DynamicsParams,
    PrototypeParams,
)
from d2cli.params.graph import (
    GraphParams,
)
from d2cli.params.presets import (
    PRESETS,
    FromPreset,
    Preset,
)
from d2cli.params.score import (
    GAMMA_FORWARD_WITHOUT_RATE,
    SMALLEST_RATE,
    ScoreParams,
)
from d2cli.params.selection import (
    SelectParams,
)

__all__ = [
    "AUTO",
    "EL2N_EPOCHS",
    "FUSION",
    "GAMMA_FORWARD_WITHOUT_RATE",
    "LIMITABLE",
    "PRESETS",
    "PROBE",
    "SMALLEST_RATE",
    "WINDOW",
    "Auto",
    "Backend",
    "Balance",
    "Direction",
    "DynamicsParams",
    "FromPreset",
    "Fusion",
    "GraphParams",
    "Kernel",
    "LogValues",
    "Messages",
    "Method",
    "Metric",
    "Preset",
    "PresetName",
    "Probe",
    "PrototypeParams",
    "ScoreParams",
    "SelectParams",
    "Ties",
    "check_choice",
    "check_number",
    "check_rate",
    "check_seed",
    "rows_kept",
]
