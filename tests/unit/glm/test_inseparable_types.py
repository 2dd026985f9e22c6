"""Groups of trial types that a model cannot separate, with what it cannot separate them from."""

import numpy as np
import pandas as pd
import pytest
from data.events import make_events

from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.inseparable_types import find_inseparable_types
from bids_sr.glm.type_information import measure_information

N_VOLUMES, TR = 60, 2.0
SPACED = [(6 + 28.0 * k, 14.0, ("thumb", "little")[k % 2]) for k in range(4)]
WITHOUT_PAUSE = [(12.0 * k, 12.0, ("thumb", "little")[k % 2]) for k in range(-3, 11)]
THREE_TYPES = [(8.0 * k, 8.0, ("thumb", "little", "ring")[k % 3]) for k in range(-5, 16)]
ALL_ALONG = [(-40.0, 200.0, "scan")]
BRIEF = [(13 + 25.0 * k, 1.0, "cue") for k in range(4)]


def named(events: list[tuple[float, float, str]], name: str) -> list[tuple[float, float, str]]:
    """Return the same events under another name."""
    return [(onset, duration, name) for onset, duration, _ in events]


def groups(
    events: list[tuple[float, float, str]],
    confounds: pd.DataFrame | None = None,
    high_pass: float = 1 / 128,
) -> list[tuple[str, tuple[str, ...]]]:
    """Return partner and types of all groups of a run with these events."""
    design = build_design(
        make_events(events),
        DesignSettings(high_pass=high_pass),
        n_volumes=N_VOLUMES,
        tr=TR,
        confounds=confounds,
        confound_names=() if confounds is None else tuple(confounds),
    )
    information = measure_information(design.matrix, design.conditions, {})
    return [(group.partner, group.types) for group in find_inseparable_types(design, information)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (SPACED, []),
        ([*SPACED, *BRIEF], []),
        ([*SPACED, *named(SPACED[::2], "cue")], [("types", ("cue", "thumb"))]),
        (
            [*SPACED, *named(SPACED[::2], "cue"), *named(SPACED[1::2], "sign")],
            [("types", ("cue", "thumb")), ("types", ("little", "sign"))],
        ),
        (WITHOUT_PAUSE, [("mean", ("little", "thumb"))]),
        ([*WITHOUT_PAUSE, *BRIEF], [("mean", ("little", "thumb"))]),
        (THREE_TYPES, [("mean", ("little", "ring", "thumb"))]),
        ([*SPACED, *ALL_ALONG], [("mean", ("scan",))]),
        (ALL_ALONG, [("mean", ("scan",))]),
        (
            [*WITHOUT_PAUSE, *named(WITHOUT_PAUSE[1::2], "cue")],
            [("types", ("cue", "thumb")), ("mean", ("cue", "little", "thumb"))],
        ),
    ],
)
def test_types_are_grouped_with_what_they_cannot_be_separated_from(
    events: list[tuple[float, float, str]], expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    found = [(partner, tuple(sorted(types))) for partner, types in groups(events)]
    assert found == expected


def test_types_that_a_confound_repeats_cannot_be_separated_from_confounds() -> None:
    response = make_events(SPACED).responses(
        np.arange(N_VOLUMES) * TR + TR / 2, HemodynamicResponse()
    )["thumb"][:, 0]
    confounds = pd.DataFrame({"trans_x": 3 * response - 1})
    assert groups(SPACED, confounds) == [("confounds", ("thumb",))]
