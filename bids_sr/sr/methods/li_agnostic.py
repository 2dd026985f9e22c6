"""Supervised version of `tv` after Li et al. 2024, for several factors ("Agnostic-Li").

Source: tv-self-sr, section 3.2, "resolution agnostic" method. It differs from `li` in that each
training step downsamples by a random factor, so that one model supports all factors. As in the
code of the authors of tv-self-sr, the four factors of the paper are drawn with equal probability.
A measured low-resolution image is used only at its own factor.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
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
        "random factors"
    ),
    trained_on="images",
    needs_much_memory=True,
    costs={"fast": RunTime(always=133.0, high=3.0, series=1.07)},
)
