"""Test results in T1w and template space: one interpolation at composed points, correct sides, and
known positions.
"""

from functools import cached_property
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from nibabel.affines import apply_affine as apply

from bids_sr.engine.artifacts import Derivative
from bids_sr.glm.steps import spaces
from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import AlignedSeries
from bids_sr.report import primary_dataset
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.output_grids import OutputGrid, grid_around, make_output_grid, zooms_in_ras
from bids_sr.spatial.resampling import sample_volume, spline_coefficients
from bids_sr.spatial.transforms import invert, rigid_matrix
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.steps.super_resolution import Inference, super_resolve

FACTOR = (2.0, 2.0, 1.0)
AXES = {
    "RAS": np.diag([3.0, 3, 4]),
    "LAS": np.diag([-3.0, 3, 4]),
    "PSL": np.array([[0, 0, -4.0], [-3, 0, 0], [0, 3, 0]]),
}
# mm in the scanner space of the boldref, right of the center
LANDMARK = np.array([14.0, -6.0, 8.0])


def grid(axes: str = "RAS") -> tuple[tuple[int, int, int], np.ndarray]:
    """Return the grid of a run around the origin, with a given order of axes."""
    shape, affine = (24, 24, 14), np.eye(4)
    affine[:3, :3] = AXES[axes]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return shape, affine


def blob(
    shape: tuple[int, ...], affine: np.ndarray, center: np.ndarray, mm: float = 5.0
) -> np.ndarray:
    """Return a Gaussian at a point (RAS mm) as float32."""
    points = apply(affine, np.argwhere(np.ones(shape)))
    return (
        np.exp(-0.5 * ((points - center) ** 2).sum(axis=1) / mm**2)
        .reshape(shape)
        .astype(np.float32)
    )


def centroid(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the center of mass (RAS mm) of values above a tenth of the maximum."""
    points, weights = (
        apply(affine, np.argwhere(data > 0.1 * data.max())),
        data[data > 0.1 * data.max()],
    )
    return (points * weights[:, None]).sum(axis=0) / weights.sum()


def mask_about(mm: float, zoom: float = 2.0, size: int = 44) -> Volume:
    """Return a ball around the origin."""
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = -zoom * (size - 1) / 2
    points = apply(affine, np.argwhere(np.ones((size,) * 3))).reshape(size, size, size, 3)
    return Volume((points**2).sum(axis=-1) < mm**2, affine)


def warp_file(path: Path, mm: float) -> None:
    """Write a composite transform: a smooth displacement of up to `mm` to the right (RAS), largest
    in the center.
    """
    size, spacing = 33, 5.0
    origin = -spacing * (size - 1) / 2
    axis = origin + spacing * np.arange(size)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    displacement = np.zeros((size, size, size, 3))
    displacement[..., 0] = -mm * np.exp(-(x**2 + y**2 + z**2) / (2 * 40**2))  # LPS
    field = ants.from_numpy(
        displacement.astype(np.float32),
        origin=(origin,) * 3,
        spacing=(spacing,) * 3,
        has_components=True,
    )
    warp = ants.transform_from_displacement_field(field)
    ants.write_transform(ants.compose_ants_transforms([warp]), str(path))


class Scene:
    """A moving run with a landmark, and transforms to its T1w image and a template."""

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

    @cached_property
    def grids(self) -> list[OutputGrid]:
        brain, matrix = mask_about(38), self.to_bold[None]
        t1w = spaces.grid_in_t1w(
            self.boldref, brain, matrix, factor=FACTOR, space_entities={"space": "T1w"}
        )
        options = {"factor": FACTOR, "template_space": "MNI152NLin2009cAsym"}
        template_grids = [
            spaces.grid_in_template(
                self.boldref,
                brain,
                matrix,
                self.folder / "t1w2std.h5",
                resolution=res,
                space_entities={"space": "X", "res": res or "none"},
                **options,
            )
            for res in ("", "2")
        ]
        return [t1w, *template_grids]


@pytest.fixture(scope="module", params=AXES)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp(request.param), request.param)


def test_a_landmark_has_its_known_position_in_every_space(scene: Scene) -> None:
    """Axes of the run may have any order; left stays left. Head motion is corrected volume by
    volume.
    """
    mask = scene.boldref.like(np.ones(scene.shape, bool))
    with SeriesReader(scene.folder / "bold.nii") as stc:
        aligned = AlignedSeries(
            stc=stc, boldref=scene.boldref, bold_mask=mask, hmc_xfms=scene.poses, factor=FACTOR
        )
        resolved = super_resolve(
            aligned,
            space_grids=scene.grids,
            here=scene.folder,
            series_name="bspline",
            inference=Inference(),
        )
    series, others = resolved.series, resolved.space_series
    assert np.abs(centroid(series.volume(1) - 100, series.affine) - LANDMARK).max() < 0.2
    assert [space_series.entities["space"] for space_series in others] == ["T1w", "X", "X"]
    for space_series in others:
        assert {key: space_series.entities[key] for key in ("desc", "suffix")} == {
            "desc": "preproc",
            "suffix": "bold",
        }
        with SeriesReader(space_series.content) as reader:
            assert (reader.affine[:3, :3].diagonal() > 0).all(), (
                "axes towards right, anterior, superior"
            )
            assert reader.tr == 2.0
            positions = [
                centroid(np.maximum(volume - 100, 0), reader.affine) for volume in reader.volumes()
            ]
        expected = scene.in_t1w
        # The warp maps this template point to the T1w point.
        if space_series.entities["space"] == "X":
            expected = expected - [
                6.0 * np.exp(-((expected - [6, 0, 0]) ** 2).sum() / (2 * 40**2)),
                0,
                0,
            ]
        assert np.abs(positions[0] - expected).max() < 1.0
        assert np.abs(positions[1] - positions[0]).max() < 0.1, "head motion is undone"
        assert expected[0] > 3, "the landmark is right of the middle"


def test_grids_have_the_voxels_of_the_template_or_of_the_series(scene: Scene) -> None:
    t1w, native, fixed = scene.grids
    assert fixed.shape == (97, 115, 97)
    assert fixed.affine[:3, 3].tolist() == [-96.5, -132.5, -78.5]
    zooms = {"RAS": [1.5, 1.5, 4], "LAS": [1.5, 1.5, 4], "PSL": [4, 1.5, 1.5]}
    for space_grid in (t1w, native):
        expected_zooms = next(
            zooms[name] for name, axes in AXES.items() if np.allclose(axes, scene.affine[:3, :3])
        )
        assert space_grid.affine.diagonal()[:3].tolist() == expected_zooms
    assert len(fixed.points) == fixed.inside.sum() < fixed.inside.size


def test_maps_and_masks_are_resampled_to_every_space(scene: Scene) -> None:
    mask = scene.boldref.data > 0.01
    maps = [
        Derivative(
            scene.boldref,
            {"res": "hr", "contrast": "a", "stat": "t", "desc": "acquired", "suffix": "statmap"},
            {"A": 1},
        ),
        Derivative(
            scene.boldref.like(scene.boldref.data > 0.5),
            {"label": "a", "desc": "acquired", "suffix": "mask"},
        ),
    ]
    resampled = spaces.maps_to_spaces(
        maps, Volume(mask, scene.affine), scene.grids, here=scene.folder
    )
    assert len(resampled) == 6
    for derivative in resampled[:2]:
        data = derivative.volume
        assert np.abs(centroid(data.data, data.affine) - scene.in_t1w).max() < (
            1.0 if derivative.entities.get("stat") else 2.5
        )
    assert resampled[0].sidecar["A"] == 1
    entities = {"contrast": "a", "stat": "t", "desc": "acquired", "suffix": "statmap"}
    assert resampled[0].entities == {**entities, "space": "T1w"}, (
        "the resolution is no longer that of the run"
    )
    assert resampled[4].entities == {**entities, "space": "X", "res": "2"}
    assert nib.load(resampled[1].content).get_data_dtype() == np.uint8
    assert set(np.unique(resampled[1].volume.data)) == {0, 1}


def test_maps_have_no_values_inside_clipped_voxels_in_any_space(scene: Scene) -> None:
    brain = Volume(np.ones(scene.shape, bool), scene.affine)
    clipped = brain.like(np.zeros(scene.shape, bool))
    clipped.data[10:14, 9:12, 6:9] = True
    statmap = Derivative(
        brain.like(np.where(clipped.data, 0, 5).astype(np.float32)),
        {"contrast": "a", "stat": "effect", "desc": "acquired", "suffix": "statmap"},
    )
    kept = brain.like(~clipped.data)
    (resampled, *_) = spaces.maps_to_spaces(
        [statmap], kept, scene.grids[:1], [Derivative(clipped, {})], here=scene.folder
    )
    t1w = scene.grids[0]
    voxels = np.rint(apply(invert(scene.affine), t1w.points.astype(float))).astype(int)
    is_inside = clipped.data[tuple(voxels.T)]
    values = resampled.volume.data[t1w.inside]
    assert is_inside.sum() > 50
    assert not values[is_inside].any()
    assert (values[~is_inside] > 0).all()


def test_the_mask_in_a_space_is_limited_to_the_field_of_view(scene: Scene) -> None:
    for space_grid in scene.grids:
        mean, brain = primary_dataset.show_in_space(
            scene.boldref, scene.boldref.like(np.ones(scene.shape, bool)), space_grid
        )
        assert not brain.data[~space_grid.inside].any()
        assert not mean.data[~space_grid.inside].any()
        assert brain.data.sum() > 0.9 * space_grid.inside.sum()


def test_distortion_is_corrected_at_the_same_points(tmp_path: Path) -> None:
    """Compare a series on its own grid with the series placed on the same grid through points."""
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
    placed_grid = make_output_grid(
        {"space": "X"}, shape, affine, lambda points: points, Volume(np.empty(shape), affine)
    )
    assert placed_grid.inside.all()
    distortion = Distortion(shift=shift, affine=affine, axis=1)
    upsampler = make_upsampler("acquired", UpsamplerInputs(factor=(1.0, 1.0, 1.0)))
    with SeriesReader(tmp_path / "in.nii") as reader:
        write_series(
            reader,
            tmp_path / "out.nii",
            upsampler,
            poses,
            shape,
            affine,
            factor=(1.0, 1.0, 1.0),
            distortion=distortion,
            other_spaces={tmp_path / "space.nii": placed_grid},
        )
    own_grid, placed_series = (
        load_image(tmp_path / f"{name}.nii")[0] for name in ("out", "space")
    )
    np.testing.assert_allclose(own_grid, placed_series, atol=2e-4)


MOVES = st.tuples(*[st.floats(-8, 8)] * 3, *[st.floats(-0.5, 0.5)] * 3)


@settings(max_examples=20, deadline=None)
@given(MOVES, MOVES, st.sampled_from(sorted(AXES)), st.floats(-20, 20))
def test_points_are_composed_in_order(
    first: tuple[float, ...], pose: tuple[float, ...], axes: str, along: float
) -> None:
    """Map space -> boldref -> volume: a linear ramp, which splines keep, has the value of the
    mapped point.
    """
    shape, affine = grid(axes)
    to_reference, to_volume = rigid_matrix(first, [0, 0, 0]), rigid_matrix(pose, [0, 0, 0])
    placed_grid = make_output_grid(
        {},
        (9, 8, 7),
        np.diag([4.0, 4, 4, 1]),
        lambda points: apply(to_reference, points),
        Volume(np.empty(shape), affine),
    )
    slope = np.array([1.0, along / 10, -2.0])
    ramp = (apply(affine, np.argwhere(np.ones(shape))) @ slope).reshape(shape)
    sampled = placed_grid.sample_volume(spline_coefficients(ramp), affine, to_volume)
    mapped_points = apply(to_volume @ to_reference, np.argwhere(placed_grid.inside) * 4.0)
    voxels = apply(invert(affine), mapped_points)
    # Values at the edge are repeated.
    away_from_edge = ((voxels > 3) & (voxels < np.array(shape) - 4)).all(axis=1)
    # corresponds to .02 mm
    np.testing.assert_allclose(
        sampled[away_from_edge], (mapped_points @ slope)[away_from_edge], atol=0.05
    )


def test_a_grid_around_a_brain_has_a_margin_in_any_orientation(tmp_path: Path) -> None:
    rotation = rigid_matrix([0, 0, 0, 0, 0, 0.4], [0, 0, 0])
    brain = mask_about(30, 1.0, 80)
    for affine in (brain.affine, rotation @ brain.affine):
        shape, grid_affine = grid_around(brain.data, affine, np.array([1.5, 1.5, 3.0]))
        corners = apply(grid_affine, np.array([[0, 0, 0], np.array(shape) - 1]))
        assert (corners[0] < -30).all()
        assert (corners[0] > -41).all()
        assert np.allclose(corners.sum(axis=0), 0, atol=1e-6)
    assert zooms_in_ras(rotation @ np.diag([-1.0, 2, 3, 1])).tolist() == pytest.approx([1, 2, 3])
    placed_grid = make_output_grid(
        {"space": "A", "res": "2"},
        shape,
        grid_affine,
        lambda points: points,
        Volume(np.empty((20, 20, 20)), np.eye(4)),
    )
    loaded = OutputGrid.load(placed_grid.save(tmp_path / "grid"))
    assert (loaded.entities, loaded.shape) == (placed_grid.entities, placed_grid.shape)
    for name in ("affine", "inside", "points"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(placed_grid, name))
