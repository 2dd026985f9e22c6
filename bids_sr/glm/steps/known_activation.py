"""Known activation of a run in signal units, as its block effects."""

import numpy as np

from bids_sr.engine.artifacts import Image
from bids_sr.engine.step import Stage, step


@step(Stage.EVALUATION, makes="known_activation", small=True)
def convert_to_signal(activation: Image, *, mean_signal: float) -> Image:
    """Return known activation in signal units.

    `activation` is in percent of `mean_signal`, which is not the mean signal that bids-sr measures
    in the run.
    """
    return activation.like(activation.data * np.float32(mean_signal / 100))
