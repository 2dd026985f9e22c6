"""Settings of sparse Bayesian learning (``sbl``) outside of its recipe."""

from typing import Literal

from bids_sr.config.section import OptionSection, option
from bids_sr.io.frozen import frozen


@frozen
class Sbl(OptionSection):
    """Settings of sparse Bayesian learning (``sbl``) outside of its recipe.

    They also apply to its control ``sdmod``. Numbers in the recipe are changed in
    `SuperRes.recipe_changes`, with the same option.
    """

    guide: Literal["auto", "none"] = option(
        "auto",
        help="static detail that is added to the series: from the high-resolution T2*w image of"
        " the pair, if available (auto), or none",
    )
