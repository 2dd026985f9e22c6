"""Events of a simulated task, and the hemodynamic response to them."""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.phantom.presets import Preset

Event = tuple[float, float, str]
"""Onset (s), duration (s) and trial type of a block."""
_STEP_S = 0.05  # s, sampling interval of the response
_ROUNDING_S = 1e-9  # s, largest rounding error of times


def make_block_design(preset: Preset) -> list[Event]:
    """Return onset (s), duration (s) and trial type of each block, in order of time.

    The blocks are rest, thumb, rest, little, rest, … as long as complete cycles fit into the run,
    and rest until the end.
    """
    end = preset.duration
    events: list[Event] = [(0.0, preset.lead, "rest")]
    onset = preset.lead
    while onset + preset.cycle <= end + _ROUNDING_S:
        for index, trial_type in enumerate(("thumb", "rest", "little", "rest")):
            events.append((onset + index * preset.block, preset.block, trial_type))
        onset += preset.cycle
    if end - onset > _ROUNDING_S:
        events.append((onset, end - onset, "rest"))
    return events


def predict_response(events: Sequence[Event], condition: str, times: Array) -> Array:
    """Return the SPM canonical response to the blocks of a condition.

    The response is computed as in nilearn and scaled to 1 in a long block. `times` after the start
    of the run (s) may have any shape.
    """
    from nilearn.glm.first_level.hemodynamic_models import spm_hrf

    times_s = np.arange(0.0, float(np.max(times)) + 1.0, _STEP_S)
    boxcar = np.zeros_like(times_s)
    for onset, duration, trial_type in events:
        if trial_type == condition:
            is_started = times_s >= onset - _ROUNDING_S
            boxcar[is_started & (times_s < onset + duration - _ROUNDING_S)] = 1.0
    kernel = spm_hrf(_STEP_S, oversampling=1)
    kernel = kernel / kernel.sum()
    return np.interp(times, times_s, np.convolve(boxcar, kernel)[: times_s.size])
