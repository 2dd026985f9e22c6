"""Supervised volumetric super-resolution for any factor ("Agnostic-Li", Li et al. 2024).

Like `li`, it was implemented without access to the original paper. tv-self-sr describes the method
as "resolution agnostic" (section 3.2), which we understand as training with random factors. It
differs from `li` in that each training step downsamples by a random factor, so that one model
supports all factors. The four factors of the TV paper are drawn with equal probability (our
choice). A measured low-resolution image is used only at its own factor.
"""

from dataclasses import replace

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.methods import li

_FACTORS = (1.25, 1.5, 1.75, 2.0)

METHOD = Method(
    name="li-agnostic",
    ndim=3,
    recipes={
        "fast": replace(li.FAST, factors=_FACTORS),
        "paper": replace(li.PAPER, factors=_FACTORS),
    },
    reference="li_agnostic",
    article="",
    summary=(
        "the li network for arbitrary factors, trained on volumes that were downsampled by "
        "random factors; implemented without access to the original paper"
    ),
    trained_on="images",
    large=True,
    without_paper=True,
    costs={"fast": Cost(always=133.0, high=3.0, series=1.07)},
)
