"""Types that list the events of other types again are found, whatever the form of the list."""

import numpy as np
import pytest

from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import Events
from bids_sr.glm.summed_types import TimedEvent, find_summed_types

BLOCKS: list[TimedEvent] = [
    (6.0, 14.0, "thumb"),
    (34.0, 14.0, "little"),
    (62.0, 14.0, "thumb"),
    (90.0, 14.0, "little"),
]
BOTH = [(onset, duration, "both") for onset, duration, _ in BLOCKS]
PARTS = ("little", "thumb")


@pytest.mark.parametrize(
    ("events", "summed"),
    [
        (BLOCKS, {}),
        (BLOCKS + BOTH, {"both": PARTS}),
        (BLOCKS + BOTH[:-1], {}),
        ([*BLOCKS, *BOTH, (50.0, 3.0, "both")], {}),
        ([*BLOCKS, *BOTH, (50.0, 3.0, "miss")], {"both": PARTS}),
        ([(o, 0.0, k) for o, _, k in BLOCKS + BOTH], {"both": PARTS}),
        ([(o + 0.0002 * (k == "both"), d, k) for o, d, k in BLOCKS + BOTH], {"both": PARTS}),
        ([(o + 0.1 * (k == "both"), d, k) for o, d, k in BLOCKS + BOTH], {}),
        # one block of the sum is two blocks of its parts
        ([(0.0, 7.0, "a"), (7.0, 7.0, "b"), (0.0, 14.0, "s")], {"s": ("a", "b")}),
        # two names for all blocks, and two names for some of them
        (BLOCKS + BOTH + [(o, d, "trial") for o, d, _ in BLOCKS], {"both": PARTS, "trial": PARTS}),
        ([(o, d, name) for o, d, _ in BLOCKS for name in ("cue", "target")], {}),
        # every block has a finger and a color: neither pair is the sum of the other
        (BLOCKS + [(o, d, "red" if o < 50 else "green") for o, d, _ in BLOCKS], {}),
    ],
)
def test_summed_types(events: list[TimedEvent], summed: dict[str, tuple[str, ...]]) -> None:
    assert find_summed_types(events) == summed


def test_a_summed_type_has_no_regressor_and_the_others_do_not_change() -> None:
    def read(events: list[TimedEvent]) -> Events:
        rows = [
            (line, {"onset": str(o), "duration": str(d), "trial_type": kind})
            for line, (o, d, kind) in enumerate(events, 2)
        ]
        return Events.from_rows(["onset", "duration", "trial_type"], rows)

    times = np.arange(60) * 2.0
    plain, summed = (
        read(BLOCKS).responses(times, HemodynamicResponse()),
        read(BLOCKS + BOTH).responses(times, HemodynamicResponse()),
    )
    assert list(plain) == list(summed) == ["little", "thumb"]
    for name, course in plain.items():
        np.testing.assert_array_equal(course, summed[name])
    assert read(BLOCKS + BOTH).summed == {"both": PARTS}
