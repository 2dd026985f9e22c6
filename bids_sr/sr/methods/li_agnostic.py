"""Supervised volumetric super-resolution for any factor ("Agnostic-Li", Li et al. 2024).

Written without its paper, as `li`: tv-self-sr calls it "resolution agnostic" (section 3.2), and
random factors are our reading of that. As `li`, but each training step downsamples by a factor
drawn anew, so that one model serves all. Ours: the factors are the four of the TV paper, drawn
evenly; a measured low-resolution image serves its own factor alone.
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
