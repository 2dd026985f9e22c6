"""Results in T1w and in templates: one interpolation at composed points, left is left, known
points stay in place.
"""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine as apply

from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.output_grids import (
    PlacedGrid,
    grid_around,
    load_placed,
    place_grid,
    save_placed,
    zooms_in_ras,
)
from bids_sr.spatial.resampling import sample_volume, spline_coefficients
from bids_sr.spatial.transforms import invert, rigid_matrix
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.steps import primary_dataset, spaces
from bids_sr.steps.super_resolution import super_resolve

FACTOR = (2.0, 2.0, 1.0)
AXES = {
    "RAS": np.diag([3.0, 3, 4]),
    "LAS": np.diag([-3.0, 3, 4]),
    "PSL": np.array([[0, 0, -4.0], [-3, 0, 0], [0, 3, 0]]),
}
LANDMARK = np.array([14.0, -6.0, 8.0])  # right of the middle, in scanner mm of the reference


def grid(axes: str = "RAS") -> tuple[tuple[int, int, int], np.ndarray]:
    """The grid of a run about the origin, with axes in some order."""
    shape, affine = (24, 24, 14), np.eye(4)
    affine[:3, :3] = AXES[axes]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return shape, affine


def blob(
    shape: tuple[int, ...], affine: np.ndarray, center: np.ndarray, mm: float = 5.0
) -> np.ndarray:
    """A Gaussian at a point (RAS mm), float32."""
    at = apply(affine, np.argwhere(np.ones(shape)))
    return (
        np.exp(-0.5 * ((at - center) ** 2).sum(axis=1) / mm**2).reshape(shape).astype(np.float32)
    )


def centroid(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Center of mass (RAS mm) of what lies above a tenth of the maximum."""
    points, weights = (
        apply(affine, np.argwhere(data > 0.1 * data.max())),
        data[data > 0.1 * data.max()],
    )
    return (points * weights[:, None]).sum(axis=0) / weights.sum()


def mask_about(mm: float, zoom: float = 2.0, size: int = 44) -> Volume:
    """A ball about the origin."""
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = -zoom * (size - 1) / 2
    at = apply(affine, np.argwhere(np.ones((size,) * 3))).reshape(size, size, size, 3)
    return Volume((at**2).sum(axis=-1) < mm**2, affine)


def warp_file(path: Path, mm: float) -> None:
    """A composite transform: a smooth displacement of up to `mm` to the right (RAS), greatest in
    the middle.
    """
    size, spacing = 33, 5.0
    origin = -spacing * (size - 1) / 2
    axis = origin + spacing * np.arange(size)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    moved = np.zeros((size, size, size, 3))
    moved[..., 0] = -mm * np.exp(-(x**2 + y**2 + z**2) / (2 * 40**2))  # LPS
    with h5py.File(path, "w") as file:
        group = file.create_group("TransformGroup")
        first, second = group.create_group("0"), group.create_group("1")
        first["TransformType"] = np.array([b"CompositeTransform_double_3_3"])
        second["TransformType"] = np.array([b"DisplacementFieldTransform_double_3_3"])
        fixed = [size] * 3 + [origin] * 3 + [spacing] * 3 + [*np.eye(3).ravel()]
        second["TransformFixedParameters"], second["TransformParameters"] = (
            np.array(fixed, float),
            moved.ravel(),
        )


class Scene:
    """A run that moves, with a landmark in it, and the way to its T1w image and to a template."""

    def __init__(self, folder: Path, axes: str) -> None:
        self.folder = folder
        self.shape, self.affine = grid(axes)
        self.poses = np.stack(
            [np.eye(4), rigid_matrix([1.5, -2, 1, 0.03, -0.05, 0.04], [0, 0, 0])]
        )
        self.to_bold = rigid_matrix([4, -3, 2, 0.05, 0, -0.08], [0, 0, 0])
        write_itk(folder / "bold2t1w.txt", self.to_bold)
        warp_file(folder / "t1w2std.h5", 6.0)
        self.boldref = Volume(blob(self.shape, self.affine, LANDMARK), self.affine)
        with SeriesWriter(folder / "bold.nii", (*self.shape, 2), self.affine, 2.0) as writer:
            for pose in self.poses:
                writer.append(
                    100 + 900 * blob(self.shape, self.affine, apply(pose, LANDMARK[None])[0])
                )
        self.in_t1w = apply(invert(self.to_bold), LANDMARK[None])[0]

    def grids(self) -> list[PlacedGrid]:
        brain, matrix = mask_about(38), self.to_bold[None]
        t1w = spaces.grid_in_t1w(
            self.boldref, brain, matrix, factor=FACTOR, space_entities={"space": "T1w"}
        )
        named = {"factor": FACTOR, "random_seed": 1, "template_space": "MNI152NLin2009cAsym"}
        found = [
            spaces.grid_in_template(
                self.boldref,
                brain,
                matrix,
                self.folder / "t1w2std.h5",
                resolution=res,
                space_entities={"space": "X", "res": res or "none"},
                **named,
            )
            for res in ("", "2")
        ]
        return [t1w, *found]


@pytest.fixture(params=AXES)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return Scene(tmp_path, request.param)


def test_a_known_point_lies_where_it_belongs_in_every_space(scene: Scene) -> None:
    """Axes of the run in any order: left is left. The reference of what is moved is undone volume
    by volume.
    """
    mask = scene.boldref.like(np.ones(scene.shape, bool))
    with SeriesReader(scene.folder / "bold.nii") as stc:
        series, others, _, *_ = super_resolve(
            stc,
            scene.boldref,
            mask,
            scene.poses,
            space_grids=scene.grids(),
            here=scene.folder,
            series_name="bspline",
            factor=FACTOR,
            data_consistency="off",
            precision="auto",
            force=False,
            omp_nthreads=1,
            device="cpu",
        )
    assert np.abs(centroid(series.volume(1) - 100, series.affine) - LANDMARK).max() < 0.2
    assert [each.entities["space"] for each in others] == ["T1w", "X", "X"]
    for each in others:
        assert {key: each.entities[key] for key in ("desc", "suffix")} == {
            "desc": "preproc",
            "suffix": "bold",
        }
        with SeriesReader(each.content) as made:
            assert (made.affine[:3, :3].diagonal() > 0).all(), (
                "axes towards right, anterior, superior"
            )
            assert made.tr == 2.0
            found = [
                centroid(np.maximum(volume - 100, 0), made.affine) for volume in made.volumes()
            ]
        expected = scene.in_t1w
        # the template point that the warp takes to the T1w point
        if each.entities["space"] == "X":
            expected = expected - [
                6.0 * np.exp(-((expected - [6, 0, 0]) ** 2).sum() / (2 * 40**2)),
                0,
                0,
            ]
        assert np.abs(found[0] - expected).max() < 1.0
        assert np.abs(found[1] - found[0]).max() < 0.1, "head motion is undone"
        assert expected[0] > 3, "the landmark is right of the middle"


def test_grids_are_those_of_the_template_or_have_the_voxels_of_the_series(scene: Scene) -> None:
    t1w, native, fixed = scene.grids()
    assert fixed.shape == (97, 115, 97)
    assert fixed.affine[:3, 3].tolist() == [-96.5, -132.5, -78.5]
    zooms = {"RAS": [1.5, 1.5, 4], "LAS": [1.5, 1.5, 4], "PSL": [4, 1.5, 1.5]}
    for each in (t1w, native):
        own = next(
            zooms[name] for name, axes in AXES.items() if np.allclose(axes, scene.affine[:3, :3])
        )
        assert each.affine.diagonal()[:3].tolist() == own
    assert len(fixed.points) == fixed.inside.sum() < fixed.inside.size


def test_maps_and_masks_reach_every_space(scene: Scene) -> None:
    mask = scene.boldref.data > 0.01
    maps = [
        Derivative(
            scene.boldref,
            {"res": "hr", "contrast": "a", "stat": "t", "desc": "raw", "suffix": "statmap"},
            {"A": 1},
        ),
        Derivative(
            scene.boldref.like(scene.boldref.data > 0.5),
            {"label": "a", "desc": "raw", "suffix": "mask"},
        ),
    ]
    found = spaces.maps_to_spaces(
        maps, Volume(mask, scene.affine), scene.grids(), here=scene.folder
    )
    assert len(found) == 6
    for each in found[:2]:
        data = each.volume
        assert np.abs(centroid(data.data, data.affine) - scene.in_t1w).max() < (
            1.0 if each.entities.get("stat") else 2.5
        )
    assert found[0].sidecar["A"] == 1
    own = {"contrast": "a", "stat": "t", "desc": "raw", "suffix": "statmap"}
    assert found[0].entities == {**own, "space": "T1w"}, (
        "the resolution is no longer that of the run"
    )
    assert found[4].entities == {**own, "space": "X", "res": "2"}
    assert SeriesReader(found[1].content).dtype == np.uint8
    assert set(np.unique(found[1].volume.data)) == {0, 1}


def test_the_mask_of_a_space_ends_with_the_field_of_view(scene: Scene) -> None:
    for each in scene.grids():
        mean, brain = primary_dataset.show_in_space(
            scene.boldref, scene.boldref.like(np.ones(scene.shape, bool)), each
        )
        assert not brain.data[~each.inside].any()
        assert not mean.data[~each.inside].any()
        assert brain.data.sum() > 0.9 * each.inside.sum()


def test_distortion_is_undone_at_the_same_points(tmp_path: Path) -> None:
    """A series on its own grid, and placed on the same grid through points alone, is the same to
    rounding.
    """
    shape, affine = grid("LAS")
    rng = np.random.default_rng(1)
    shift = sample_volume(rng.normal(size=(4, 4, 4)), np.diag([30, 30, 20, 1.0]), shape, affine)
    poses = np.stack(
        [
            rigid_matrix(rng.normal(size=6) * [2, 2, 2, 0.05, 0.05, 0.05], [0, 0, 0])
            for _ in range(3)
        ]
    )
    with SeriesWriter(tmp_path / "in.nii", (*shape, 3), affine, 1.5) as writer:
        for _ in poses:
            writer.append(rng.normal(size=shape))
    placed = place_grid({"space": "X"}, shape, affine, lambda points: points, shape, affine)
    assert placed.inside.all()
    found = Distortion(shift=shift, affine=affine, axis=1)
    upsampler = make_upsampler("raw", UpsamplerInputs(factor=(1.0, 1.0, 1.0)))
    with SeriesReader(tmp_path / "in.nii") as reader:
        write_series(
            reader,
            tmp_path / "out.nii",
            upsampler,
            poses,
            affine,
            factor=(1.0, 1.0, 1.0),
            distortion=found,
            elsewhere={tmp_path / "space.nii": placed},
        )
    ours, other = (load_image(tmp_path / f"{name}.nii")[0] for name in ("out", "space"))
    np.testing.assert_allclose(ours, other, atol=2e-4)


MOVES = st.tuples(*[st.floats(-8, 8)] * 3, *[st.floats(-0.5, 0.5)] * 3)


@settings(max_examples=20, deadline=None)
@given(MOVES, MOVES, st.sampled_from(sorted(AXES)), st.floats(-20, 20))
def test_points_are_composed_in_order(
    first: tuple[float, ...], pose: tuple[float, ...], axes: str, along: float
) -> None:
    """Space -> reference -> volume: a linear ramp, which splines keep, has the value of the point
    that is looked at.
    """
    shape, affine = grid(axes)
    to_reference, to_volume = rigid_matrix(first, [0, 0, 0]), rigid_matrix(pose, [0, 0, 0])
    placed = place_grid(
        {}, (9, 8, 7), np.diag([4.0, 4, 4, 1]), lambda p: apply(to_reference, p), shape, affine
    )
    slope = np.array([1.0, along / 10, -2.0])
    ramp = (apply(affine, np.argwhere(np.ones(shape))) @ slope).reshape(shape)
    found = placed.sampled(spline_coefficients(ramp), affine, to_volume)
    wanted = apply(to_volume @ to_reference, np.argwhere(placed.inside) * 4.0)
    voxels = apply(invert(affine), wanted)
    clear = ((voxels > 3) & (voxels < np.array(shape) - 4)).all(axis=1)  # the edge repeats
    np.testing.assert_allclose(found[clear], (wanted @ slope)[clear], atol=0.05)  # which is .02 mm


def test_a_grid_around_a_brain(tmp_path: Path) -> None:
    turned = rigid_matrix([0, 0, 0, 0, 0, 0.4], [0, 0, 0])
    brain = mask_about(30, 1.0, 80)
    for affine in (brain.affine, turned @ brain.affine):
        shape, found = grid_around(brain.data, affine, np.array([1.5, 1.5, 3.0]))
        ends = apply(found, np.array([[0, 0, 0], np.array(shape) - 1]))
        assert (ends[0] < -30).all()
        assert (ends[0] > -41).all()
        assert np.allclose(ends.sum(axis=0), 0, atol=1e-6)
    assert zooms_in_ras(turned @ np.diag([-1.0, 2, 3, 1])).tolist() == pytest.approx([1, 2, 3])
    placed = place_grid(
        {"space": "A", "res": "2"}, shape, found, lambda points: points, (20, 20, 20), np.eye(4)
    )
    save_placed(placed, tmp_path / "grid.npz")
    again = load_placed(tmp_path / "grid.npz")
    assert (again.entities, again.shape) == (placed.entities, placed.shape)
    for name in ("affine", "inside", "points"):
        np.testing.assert_array_equal(getattr(again, name), getattr(placed, name))
