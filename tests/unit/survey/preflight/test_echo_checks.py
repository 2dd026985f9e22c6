"""Voxels of echoes: copies and exchanged echoes are found; noise and dropout are not."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import plan_for, problem_of
from data.dataset import BidsMaker

from bids_sr.io.notices import Notice
from bids_sr.survey.preflight.voxel_checks import check_data

STEM = "sub-01_task-tap"
TES_S = (0.012, 0.028, 0.044, 0.06, 0.076)
NOISE = 4.0
SHAPE = (12, 12, 8)
ZOOMS = (15.0, 15.0, 15.0)


def make_echoes(
    n_echoes: int = 3,
    *,
    stem: str = STEM,
    seed: int = 1,
    spread: float = 0.2,
    noise: float = NOISE,
) -> list[np.ndarray]:
    """Return the echoes of a head with a T2* of 45 ms, which varies by `spread`, and noise."""
    rng = np.random.default_rng(seed)
    x = np.indices(SHAPE) - (np.array(SHAPE).reshape(3, 1, 1, 1) - 1) / 2
    head = (np.square(x / np.array(SHAPE).reshape(3, 1, 1, 1)).sum(axis=0) < 0.16)[..., None]
    t2star_s = 0.045 * (1 + spread * rng.uniform(-1, 1, (*SHAPE, 1)))
    proton_density = head * rng.uniform(800, 1200, (*SHAPE, 1))
    drift = 1 + 0.01 * rng.normal(size=30)
    return [
        np.hypot(
            proton_density * drift * np.exp(-te / t2star_s) + rng.normal(0, noise, (*SHAPE, 30)),
            rng.normal(0, noise, (*SHAPE, 30)),
        )
        for te in TES_S[:n_echoes]
    ]


def write(maker: BidsMaker, echoes: Sequence[np.ndarray], stem: str = STEM) -> list[Path]:
    """Write a run with echoes by ascending echo time, and return their files."""
    maker.events(stem)
    return [
        maker.bold(
            f"{stem}_echo-{number}",
            zooms=ZOOMS,
            data=np.rint(data).astype("int16"),
            sidecar={"EchoTime": te},
        )
        for number, (data, te) in enumerate(zip(echoes, TES_S, strict=False), 1)
    ]


def check_voxels(maker: BidsMaker, *options: str) -> tuple[Notice, ...]:
    plan = plan_for(maker, "--sr-method", "bspline", "--sr-factor", "2", *options)
    assert plan.problems == ()
    return tuple(notice for notice in check_data(plan) if "echo" in f"{notice.what}{notice.why}")


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    return BidsMaker(tmp_path / "bids")


@pytest.mark.parametrize(
    ("n_echoes", "first"), [(n, first) for n in (2, 3, 4, 5) for first in range(n - 1)]
)
def test_exchanged_neighbors_are_refused_with_both_files(
    maker: BidsMaker, n_echoes: int, first: int
) -> None:
    echoes = make_echoes(n_echoes)
    echoes[first], echoes[first + 1] = echoes[first + 1], echoes[first]
    files = write(maker, echoes)
    values = (files[first].name, f"{1000 * TES_S[first]:g}", f"{1000 * TES_S[first + 1]:g}")
    problem_of(check_voxels(maker), files[first + 1].name, *values, "--echo-idx")
    assert check_voxels(maker, "--echo-idx", "1") == ()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_noise", [1, 2, 3])
def test_late_echoes_of_noise_are_accepted(maker: BidsMaker, seed: int, n_noise: int) -> None:
    rng = np.random.default_rng(seed)
    echoes = make_echoes(5, seed=seed)
    for index in range(5 - n_noise, 5):
        echoes[index] = np.hypot(*rng.normal(0, NOISE, (2, *SHAPE, 30)))
    write(maker, echoes)
    assert check_voxels(maker) == ()


def test_dropout_in_a_third_of_the_brain_is_accepted(maker: BidsMaker) -> None:
    rng = np.random.default_rng(0)
    echoes = make_echoes(4)
    for echo in echoes[1:]:
        echo[:, :5] = np.hypot(*rng.normal(0, NOISE, (2, *echo[:, :5].shape)))
    write(maker, echoes)
    assert check_voxels(maker) == ()


@pytest.mark.parametrize(("source", "target"), [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3)])
def test_a_copied_echo_is_refused_with_both_files(
    maker: BidsMaker, source: int, target: int
) -> None:
    files = write(maker, make_echoes(3))
    shutil.copy(files[source - 1], files[target - 1])
    first, second = sorted((source, target))
    problem_of(check_voxels(maker), files[second - 1].name, files[first - 1].name, "--echo-idx")


@pytest.mark.parametrize("kind", ["float", "slope", "flipped"])
def test_a_copy_with_another_header_is_refused(maker: BidsMaker, kind: str) -> None:
    files = write(maker, make_echoes(3))
    image = nb.load(files[0])
    data, affine, header = image.get_fdata(), image.affine.copy(), image.header.copy()
    if kind == "float":
        header.set_data_dtype("float32")
    elif kind == "flipped":
        data = data[::-1]
        affine[:, 3] += affine[:, 0] * (SHAPE[0] - 1)
        affine[:, 0] *= -1
    copy = nb.Nifti1Image(data, affine, header)
    if kind == "slope":
        copy = nb.Nifti1Image(np.asarray(image.dataobj), affine, header)
        copy.header.set_slope_inter(0.5, 0)
    nb.save(copy, files[2])
    problem_of(check_voxels(maker), files[2].name, files[0].name)


def test_an_echo_of_another_run_is_refused_in_both_runs(maker: BidsMaker) -> None:
    first, second = (f"{STEM}_run-{number}" for number in (1, 2))
    first_files = write(maker, make_echoes(3, seed=1), first)
    second_files = write(maker, make_echoes(3, seed=2), second)
    assert check_voxels(maker) == ()
    shutil.copy(first_files[1], second_files[1])
    problems = check_voxels(maker)
    assert {(problem.run, Path(problem.what)) for problem in problems} == {
        (first, first_files[1]),
        (second, second_files[1]),
    }
    assert {first_files[1].name in problem.why for problem in problems} == {True, False}
    for source, target in zip(first_files, second_files, strict=True):
        shutil.copy(source, target)
    # the same run twice
    problem_of(check_voxels(maker), second_files[0].name, first_files[0].name)
