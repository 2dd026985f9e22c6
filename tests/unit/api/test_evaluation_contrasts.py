"""Default contrasts of an evaluation are those that the events allow to estimate."""

import warnings

import pandas as pd
import pytest

from bids_sr.api.evaluation_inputs import parse_contrasts
from bids_sr.api.image_inputs import SuperResolutionWarning
from bids_sr.api.run_inputs import RunInputs
from bids_sr.glm.design import DesignSettings

BLOCKS = [
    (start, 14.0, ("thumb", "little")[k % 2]) for k, start in enumerate((6.0, 34.0, 62.0, 90.0))
]
PLAIN = ["little", "thumb", "all", "littleMinusThumb"]


def parse(events: list[tuple[float, float, str]], *contrasts: str) -> list[str]:
    table = pd.DataFrame(events, columns=["onset", "duration", "trial_type"])
    return list(parse_contrasts(RunInputs(events=table), contrasts, DesignSettings(), 60, 2.0))


@pytest.mark.parametrize("seconds", [2.0, 4.0])
def test_a_late_type_is_left_out_with_a_warning(seconds: float) -> None:
    with pytest.warns(SuperResolutionWarning, match="late"):
        assert parse([*BLOCKS, (120.0 - seconds, 2.0, "late")]) == PLAIN


def test_types_at_the_same_moments_have_a_mean_only() -> None:
    same = [(onset, duration, kind) for onset, duration, _ in BLOCKS for kind in ("cue", "target")]
    with pytest.warns(SuperResolutionWarning, match="cannot be estimated: cue, target"):
        assert parse(same) == ["all"]


def test_plain_and_requested_contrasts_are_kept_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse(BLOCKS) == PLAIN
        assert parse([*BLOCKS, (116.0, 2.0, "late")], "late") == ["late"]
