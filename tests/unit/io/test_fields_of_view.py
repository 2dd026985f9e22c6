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


RUN = TimedGrid(shape=RUN_SHAPE, affine=affine(3.0), tr=TR)


@pytest.mark.parametrize(
    ("size", "shift", "number"),
    [
        (64, 0.0, ""),
        (48, 0.0, "smaller than the high-resolution matrix size 64×64×10"),
        (96, 0.0, "larger than the high-resolution matrix size 64×64×10"),
        (64, 0.14, ""),
        (64, 0.16, "0.16 mm (0.053 acquired voxels)"),
    ],
)
def test_matrix_and_edges_are_compared_with_the_run(size: int, shift: float, number: str) -> None:
    for volumes, tr in (((60,), 2.0), ((60,), 0.0), ((), 0.0)):
        image = TimedGrid(shape=(size, size, 10, *volumes), affine=affine(96 / size, shift), tr=tr)
        reasons = find_grid_problems(image, RUN, FACTOR)
        assert len(reasons) == bool(number)
        assert all(number in reason for reason, _ in reasons)


def test_volumes_and_repetition_time_are_compared_with_the_run() -> None:
    image = TimedGrid(shape=(64, 64, 10, 59), affine=affine(1.5), tr=2.1)
    count, time = (reason for reason, _ in find_grid_problems(image, RUN, FACTOR))
    assert "59" in count
    assert "60" in count
    assert "2.1 s" in time


def test_half_a_voxel_is_rounded_up_although_the_factor_is_rounded_down() -> None:
    """The factor 7/6 may be given as 1.166666; 75 acquired voxels are then 88."""
    run = TimedGrid(shape=(75, 75, 10, 60), affine=affine(3.0), tr=TR)
    image = TimedGrid(shape=(88, 88, 10, 60), affine=affine(225 / 88), tr=TR)
    assert not find_grid_problems(image, run, (1.166666, 1.166666, 1.0))


@pytest.mark.parametrize("flipped", [(0,), (1, 2)])
def test_a_series_that_is_stored_in_another_direction_is_named_by_its_axes(
    flipped: tuple[int, ...],
) -> None:
    shape, other = (64, 64, 10, 60), affine(1.5)
    for axis in flipped:
        other[:, 3] += other[:, axis] * (shape[axis] - 1)
        other[:, axis] *= -1
    image = TimedGrid(shape=shape, affine=other, tr=TR)
    ((reason, _),) = find_grid_problems(image, RUN, FACTOR)
    letters = "".join("LPI"[axis] if axis in flipped else "RAS"[axis] for axis in range(3))
    assert f"({letters})" in reason
    assert "(RAS)" in reason
