"""Supervised volumetric super-resolution after Li et al. 2024, for one fixed factor ("Super-Li").

The network is that of `tv`, which took it from there (tv-self-sr, section 2.2: "following" Li et al.); what sets it
apart from `mse3d` is the loss, absolute error together with structural similarity (Li et al. 2024). Ours: both weigh
the same in `paper`, whose learning rate, schedule and length are those of `tv`; in `fast` similarity weighs a tenth,
because it cares as much for a quiet background as for the brain.
"""

from __future__ import annotations

from ..losses.mae import MAE
from ..losses.ssim import SSIMLoss
from ..method import LossTerm, Method, Recipe
from . import tv
from .mse3d import supervised


def compound(similarity: float) -> tuple[LossTerm, LossTerm]:
    """Absolute error, and structural similarity of a given weight."""
    return (
        LossTerm(kind="content", build=MAE, weight=1.0),
        LossTerm(kind="ssim", build=SSIMLoss, weight=similarity),
    )


PAPER: Recipe = supervised(tv.PAPER, *compound(1.0))
FAST: Recipe = supervised(tv.FAST_PARTS, *compound(0.1))

METHOD = Method(
    name="li",
    ndim=3,
    needs_pair=True,
    recipes={"fast": FAST, "paper": PAPER},
    reference="li_agnostic",
    summary="the network of tv, taught with fine volumes by absolute error and structural similarity",
    trained_on="images",
)
