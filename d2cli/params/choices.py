"""What parameters may be: the names of metrics, kernels, methods and so on."""

from typing import Literal

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
FUSION: Fusion = "distance"  # of several modalities: takes every metric, and rows that lack one
