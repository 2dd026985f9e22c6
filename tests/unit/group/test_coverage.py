"""Participants who are left out of a group map because of the voxels of the others."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from data.group_maps import (
    SPACE,
    map_path,
    plan_of,
    save_quickly,
    small_target,
    write_frame,
    write_unit,
)
from hypothesis import HealthCheck, example, given, settings, strategies as st

from bids_sr.group import maps as group_maps
from bids_sr.group.coverage import leave_out_by_coverage
from bids_sr.group.input_maps import find_maps
from bids_sr.io.nifti import load_image

TARGET = small_target()
N_VOXELS = len(TARGET.points)
SHARES = (1.0, 0.95, 0.85, 0.7, 0.4, 0.1)
"""Shares of voxels that a participant has."""


def leave_out(voxels: Mapping[str, set[int]]) -> list[tuple[str, int, int]]:
    """Return participant, common voxels and gain for each participant who is left out.

    The participant whose absence gains most common voxels is left out, one at a time, while the
    gain is above a fifth of the voxels that the others have in common; never below three.
    """
    remaining, left_out = dict(voxels), []
    while len(remaining) > 3:
        common = set.intersection(*remaining.values())
        others = {
            label: set.intersection(*(remaining[name] for name in remaining if name != label))
            for label in sorted(remaining)
        }
        label = max(others, key=lambda name: len(others[name]))  # the first of several
        gain = len(others[label]) - len(common)
        if not 5 * gain > len(others[label]):
            break
        del remaining[label]
        left_out.append((label, len(common), gain))
    return left_out


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=3, max_size=7),
    sizes=st.lists(st.sampled_from([0, 1, 2, 4, 5, 20, 25]), min_size=7, max_size=7),
    shuffle=st.randoms(use_true_random=False),
)
def test_participants_are_left_out_one_at_a_time(
    rows: list[list[bool]], sizes: list[int], shuffle
) -> None:
    """Ties are frequent, because participants lack seven blocks of voxels."""
    inside = {
        f"sub-{number:02d}": np.repeat(np.array(row), sizes) for number, row in enumerate(rows)
    }
    expected = leave_out({label: set(np.flatnonzero(row)) for label, row in inside.items()})
    labels = list(inside)
    shuffle.shuffle(labels)
    found = leave_out_by_coverage({label: inside[label] for label in labels})
    assert [(label, *map(int, re.findall(r"\d+", text))) for label, text in found.items()] == [
        (label, len(rows) - number, n_common + gain, n_common, gain)
        for number, (label, n_common, gain) in enumerate(expected, 1)
    ]


@pytest.mark.parametrize(("lacking", "is_left_out"), [(20, False), (21, True)])
def test_the_limit_is_a_fifth_of_the_voxels_of_the_others(lacking: int, is_left_out: bool) -> None:
    inside = {f"sub-{number}": np.ones(100, dtype=bool) for number in range(1, 5)}
    inside["sub-2"][:lacking] = False
    assert [*leave_out_by_coverage(inside)] == ["sub-2"] * is_left_out


def write_maps(
    root: Path, voxels: Mapping[str, Mapping[str, set[int]]], effects: Mapping[str, float]
) -> None:
    """Write a map of each series and participant with an effect (percent) in some voxels."""
    root.mkdir(parents=True, exist_ok=True)
    write_unit(root, "percent")
    for participant, maps in voxels.items():
        stem = root / participant / "func" / f"{participant}_task-tap"
        write_frame(stem, np.diag([9.0, 9.0, 9.0, 1.0]), (2, 2, 2))
        for series, inside in maps.items():
            values = np.zeros(N_VOXELS)
            values[[*inside]] = effects[participant]
            path = map_path(stem, "thumb", series)
            save_quickly(values.reshape(TARGET.shape), TARGET.affine, path)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    shares=st.lists(st.sampled_from(SHARES), min_size=3, max_size=7),
    without_sbl=st.sets(st.integers(0, 6), max_size=2),
    seed=st.integers(0, 2**32 - 1),
)
@example(shares=[0.4, 1.0, 1.0, 1.0, 1.0], without_sbl=set(), seed=1)
@example(shares=[1.0, 1.0, 1.0, 0.4, 1.0], without_sbl={3}, seed=2)
def test_maps_contain_the_participants_that_are_left_after_leaving_out_by_hand(
    shares: list[float], without_sbl: set[int], seed: int
) -> None:
    """A participant has the voxels with values in all series of a contrast that are mapped."""
    rng = np.random.default_rng(seed)
    voxels: dict[str, dict[str, set[int]]] = {}
    for number, share in enumerate(shares):
        series = ("acquired",) if number in without_sbl else ("acquired", "sbl")
        inside = rng.random(N_VOXELS) < share
        maps = {name: inside & (rng.random(N_VOXELS) < 0.98) for name in series}
        voxels[f"sub-{number:02d}"] = {
            name: set(np.flatnonzero(values).tolist()) for name, values in maps.items()
        }
    effects = {label: 1 + 0.25 * number**2 for number, label in enumerate(voxels)}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_maps, "load_target", lambda space: TARGET)
        write_maps(Path(folder), voxels, effects)
        plan = plan_of(find_maps(Path(folder)), ("acquired", "sbl"))
        assert plan.space == SPACE
        result = group_maps.compute_group_maps(plan, Path(folder))
        records = {record.key[1]: record for record in result.records}
        rows = {row.series: row for row in result.maps.itertuples()}
        mapped = [
            name
            for name in ("acquired", "sbl")
            if sum(name in maps for maps in voxels.values()) >= 3
        ]
        assert set(rows) <= set(mapped)
        for series in mapped:
            covered = {
                label: set.intersection(*(maps[name] for name in mapped if name in maps))
                for label, maps in voxels.items()
                if series in maps
            }
            left_out = leave_out(covered)
            members = [label for label in covered if label not in {row[0] for row in left_out}]
            common = sorted(set.intersection(*(covered[label] for label in members)))
            record = records[series]
            assert list(record.participants) == members
            for label, n_common, gain in left_out:
                reason = record.excluded[label].reason
                assert f"{n_common:,} voxels ({gain:,} are gained)" in reason
            if not common:
                assert series not in rows
                continue
            values = np.array([effects[label] for label in members])
            expected = np.zeros(N_VOXELS)
            expected[common] = values.mean()
            effect, _ = load_image(rows[series].effect)
            assert effect.ravel() == pytest.approx(expected, rel=1e-5)
            variance, _ = load_image(rows[series].variance)
            expected[common] = values.var(ddof=1) / len(values)
            assert variance.ravel() == pytest.approx(expected, rel=1e-5)
