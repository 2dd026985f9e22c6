"""Events of a simulated task, and the hemodynamic response to them."""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.phantom.presets import Preset

Event = tuple[float, float, str]


def make_block_design(preset: Preset) -> list[Event]:
    """Return onset (s), duration (s) and trial type of each block, in order of time.

    The blocks are rest, thumb, rest, little, rest, … as long as complete cycles fit into the run,
    and rest until the end.
    """
    end = preset.volumes * preset.tr
    events: list[Event] = [(0.0, preset.lead, "rest")]
    onset = preset.lead
    cycle = 4 * preset.block
    while onset + cycle <= end + 1e-9:
        for index, trial_type in enumerate(("thumb", "rest", "little", "rest")):
            events.append((onset + index * preset.block, preset.block, trial_type))
        onset += cycle
    if end - onset > 1e-9:
        events.append((onset, end - onset, "rest"))
    return events


def predict_response(events: Sequence[Event], condition: str, times: Array) -> Array:
    """Return the SPM canonical response to the blocks of a condition.

    The response is computed as in nilearn and scaled to 1 in a long block.

    Parameters
    ----------
    events : Sequence[Event]
        Events of the run.
    condition : str
        Trial type.
    times : Array
        Times after the start of the run (s), of any shape.
    """
    from nilearn.glm.first_level.hemodynamic_models import spm_hrf

    step_s = 0.05
    times_s = np.arange(0.0, float(np.max(times)) + 1.0, step_s)
    boxcar = np.zeros_like(times_s)
    for onset, duration, trial_type in events:
        if trial_type == condition:
            boxcar[(times_s >= onset - 1e-9) & (times_s < onset + duration - 1e-9)] = 1.0
    kernel = spm_hrf(step_s, oversampling=1)
    kernel = kernel / kernel.sum()
    return np.interp(times, times_s, np.convolve(boxcar, kernel)[: times_s.size])
