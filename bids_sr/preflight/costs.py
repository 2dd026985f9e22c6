"""Processor time of networks, one row a method: what training it takes, and what making a series of it takes.

`FAST` was measured on a run and a pair of 40 x 40 x 35 voxels by 2 in plane (``benchmarks/methods.py --minutes 0.1``,
one seed; ``benchmarks/method_costs.py`` measures the same figures by themselves). `srgan` and the methods of variance
maps are not here: theirs were fitted to whole runs on grids of many sizes, see `bids_sr.preflight.estimates`. Recipes
of
the papers are hours to days; but for `srgan`, whose steps and slices ``benchmarks/paper_subject.py`` times, one figure
stands for all. There a step with features of VGG-19 takes 1.3 times one without (.60 and .46 s on one thread, patches
of 64).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Processor seconds of a method and a recipe.

    Attributes
    ----------
    always : of training, whatever the grid: steps that see patches
    high : of training, for a million voxels of one volume on the high-resolution grid: steps that see whole slices or
        planes, and looks at what is held out
    most : millions of voxels above which steps see a part of them, so that training takes no longer
    series : of the network, for a million voxels of all volumes on that grid; the interpolation is not in it
    """

    always: float
    high: float
    series: float
    most: float = float("inf")

    def training(self, high: float) -> float:
        """Seconds of a training on volumes of so many million voxels."""
        return self.always + self.high * min(high, self.most)


# 16 slices of 128 x 128 at most; the 35 slices it was measured on are twice as many as a step sees
_PLANES = 128 * 128 * 35 / 1e6

FAST: Mapping[str, Cost] = MappingProxyType(
    {
        "attunet": Cost(always=0.0, high=620.0, series=1.06),
        "ccnn3d": Cost(always=44.0, high=2.0, series=0.65),
        "circle": Cost(always=192.0, high=2.0, series=0.75),
        "cpce": Cost(always=58.0, high=3.0, series=1.24),
        "dip": Cost(always=0.0, high=575.0, series=0.97, most=_PLANES),
        "gan3d": Cost(always=139.0, high=3.0, series=1.00),
        "li": Cost(always=130.0, high=3.0, series=1.09),
        "li-agnostic": Cost(always=133.0, high=3.0, series=1.07),
        "mse3d": Cost(always=100.0, high=3.0, series=1.01),
        "resnet3d": Cost(always=95.0, high=3.0, series=1.15),
        "tv": Cost(always=0.0, high=595.0, series=1.03, most=_PLANES),
        "unet": Cost(always=0.0, high=345.0, series=0.99),
        "vit": Cost(always=0.0, high=147.0, series=0.29),
    }
)
PAPER: Mapping[str, Cost] = MappingProxyType({"srgan": Cost(always=250_000.0, high=0.0, series=19.0)})
PAPER_MSE: Mapping[str, Cost] = MappingProxyType({"srgan": Cost(always=192_000.0, high=0.0, series=19.0)})
_OTHERS = {"fast": Cost(always=80.0, high=3.0, series=1.0), "paper": Cost(always=240_000.0, high=0.0, series=25.0)}


def cost_of(method: str, recipe: str) -> Cost:
    """What a method takes; one that was never measured as most do."""
    known = {"fast": FAST, "paper": PAPER, "paper-mse": PAPER_MSE}[recipe]
    return known.get(method, _OTHERS["fast" if recipe == "fast" else "paper"])
