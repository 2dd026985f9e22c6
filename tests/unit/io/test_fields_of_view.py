"""Reasons why an image does not match the grids of its run."""

import numpy as np
import pytest

from bids_sr.io.fields_of_view import TimedGrid, find_grid_problems

RUN_SHAPE, FACTOR, TR = (32, 32, 10, 60), (2.0, 2.0, 1.0), 2.0


def affine(voxel: float, shift: float = 0.0) -> np.ndarray:
    """Return the voxel to RAS mm affine of a grid with the run's field of view, edges at 0 mm."""
    grid = np.diag([voxel, voxel, 3.0, 1.0])
    grid[:3, 3] = voxel / 2 + shift, voxel / 2, 1.5
    return grid


@pytest.mark.parametrize(
    ("shape", "voxel", "shift", "tr", "finest", "messages"),
    [
        ((32, 32, 10, 60), 3.0, 0.0, 2.0, False, []),
        ((48, 48, 10, 60), 2.0, 0.0, 2.0, False, []),
        ((64, 64, 10, 60), 1.5, 0.0, 0.0, True, []),
        ((64, 64, 10), 1.5, 0.0, 0.0, True, []),
        (
            (48, 48, 10, 60),
            2.0,
            0.0,
            2.0,
            True,
            ["smaller than the high-resolution matrix size 64×64×10"],
        ),
        (
            (16, 16, 10, 60),
            6.0,
            0.0,
            2.0,
            False,
            ["smaller than the acquired matrix size 32×32×10"],
        ),
        (
            (96, 96, 10, 60),
            1.0,
            0.0,
            2.0,
            False,
            ["larger than the high-resolution matrix size 64×64×10"],
        ),
        ((64, 64, 10, 60), 1.5, 0.14, 2.0, True, []),
        ((64, 64, 10, 60), 1.5, 0.16, 2.0, True, ["up to 0.16 mm (0.053 acquired voxels), but"]),
        (
            (64, 64, 10, 59),
            1.5,
            0.0,
            2.1,
            True,
            ["the series has 59 volumes, but its run has 60 volumes", "series is 2.1 s"],
        ),
    ],
)
def test_volumes_matrix_and_edges_are_compared_with_the_run(
    shape: tuple[int, ...],
    voxel: float,
    shift: float,
    tr: float,
    finest: bool,
    messages: list[str],
) -> None:
    reasons = find_grid_problems(
        TimedGrid(shape=shape, affine=affine(voxel, shift), tr=tr),
        TimedGrid(shape=RUN_SHAPE, affine=affine(3.0), tr=TR),
        FACTOR,
        requires_highres=finest,
    )
    assert len(reasons) == len(messages)
    assert all(part in reason for part, (reason, _) in zip(messages, reasons, strict=True))


def test_half_a_voxel_is_rounded_up_although_the_factor_is_rounded_down() -> None:
    """The factor 7/6 may be given as 1.166666; 75 acquired voxels are then 88."""
    run = TimedGrid(shape=(75, 75, 10, 60), affine=affine(3.0), tr=TR)
    image = TimedGrid(shape=(88, 88, 10, 60), affine=affine(225 / 88), tr=TR)
    assert not find_grid_problems(image, run, (1.166666, 1.166666, 1.0), requires_highres=True)


@pytest.mark.parametrize("flipped", [(0,), (1, 2)])
def test_a_series_that_is_stored_in_another_direction_is_not_called_shifted(
    flipped: tuple[int, ...],
) -> None:
    run_affine = affine(3.0)
    other = run_affine.copy()
    for axis in flipped:
        other[:, 3] += other[:, axis] * (RUN_SHAPE[axis] - 1)
        other[:, axis] *= -1
    ((reason, remedy),) = find_grid_problems(
        TimedGrid(shape=RUN_SHAPE, affine=other, tr=TR),
        TimedGrid(shape=RUN_SHAPE, affine=run_affine, tr=TR),
        FACTOR,
    )
    letters = "".join("LPI"[axis] if axis in flipped else "RAS"[axis] for axis in range(3))
    assert f"({letters})" in reason
    assert "(RAS)" in reason
    assert "shifted" not in reason
    assert "without interpolation" in remedy
