"""Test figures of two conditions: regions and their Dice coefficient, and maps of
cross-correlation in two planes.
"""

from dataclasses import replace

import numpy as np
import pytest
from data.maps import mapped
from figure_helpers import kept
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from bids_sr.engine.artifacts import Derivative
from bids_sr.glm.activation_regions import parse_thresholds
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.map_summary import activation_rows, find_regions
from bids_sr.io.volume import Volume
from bids_sr.report.evaluation_rows import label_series
from bids_sr.report.figure_steps.correlation import draw_correlation
from bids_sr.report.figure_steps.overlap import draw_overlap
from bids_sr.report.figure_steps.run_maps import SceneImages
from bids_sr.report.figures import slices
from bids_sr.report.figures.canvas import FigureInputError
from bids_sr.report.figures.correlation import correlation_figure, display_threshold
from bids_sr.report.figures.maps import Scene
from bids_sr.report.figures.overlap import overlap_figure, overlap_labels
from bids_sr.report.figures.seed_correlation import network_figure

SHAPE = (48, 56, 20)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
AFFINE[:3, 3] = [-70.5, -100.0, -20.0]
COARSE = np.diag([6.0, 6.0, 4.0, 1.0])
COARSE[:3, 3] = [-69.0, -98.5, -20.0]
LOW = (24, 28, 20)
CONTRASTS: Contrasts = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "all": {"thumb": 0.5, "little": 0.5},
    "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
}
PAIR = ("thumb", "little")


@pytest.fixture(scope="module")
def scene() -> Scene:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    brain = x**2 + y**2 + 0.3 * z**2 < 0.9
    roi = np.zeros(SHAPE, dtype=bool)
    roi[6:20, 20:40, 6:16] = True
    return Scene(
        background=Volume(brain * 500.0, AFFINE),
        mask=Volume(brain, AFFINE),
        roi=Volume(roi & brain, AFFINE),
    )


def block(*where: slice, low: bool = False) -> Volume:
    data = np.zeros(LOW if low else SHAPE, dtype=np.float32)
    data[where] = 1
    return Volume(data, COARSE if low else AFFINE)


def sheet_texts(fig) -> list[str]:
    return [text.get_text() for text in fig.axes[0].texts]


def drawn_colors(fig) -> list[set[tuple[float, ...]]]:
    """Return the colors of the overlay of each panel."""
    layers = [layer for layer in fig.axes[0].images if layer.get_cmap().name != "gray"]
    colors = []
    for layer in layers:
        values = np.ma.masked_invalid(layer.get_array()).compressed()
        colors.append({tuple(layer.to_rgba(np.array([v]))[0, :3]) for v in values})
    return colors


def legend_colors(fig) -> dict[str, tuple[float, ...]]:
    """Return the color of each entry of the legend."""
    (legend,) = fig.legends
    lines_or_patches = [(handle.get_label(), handle) for handle in legend.legend_handles]
    return {
        label: to_rgb(handle.get_facecolor() if isinstance(handle, Patch) else handle.get_color())
        for label, handle in lines_or_patches
    }


def test_labels_distinguish_both_conditions_and_their_overlap() -> None:
    a = block(slice(0, 3), slice(0, 1), slice(0, 1))
    b = block(slice(2, 4), slice(0, 1), slice(0, 1))
    assert overlap_labels(a, b).data[:5, 0, 0].tolist() == [1, 1, 3, 2, 0]


def test_regions_are_drawn_in_three_colors_with_their_dice(scene: Scene) -> None:
    place = (slice(24, 30), slice(10, 12))
    overlapping = (block(slice(8, 14), *place), block(slice(12, 18), *place))
    disjoint = (block(slice(8, 12), *place), block(slice(12, 16), *place))
    acquired = (
        block(slice(4, 7), slice(12, 15), slice(10, 12), low=True),
        block(slice(6, 9), slice(12, 15), slice(10, 12), low=True),
    )
    regions = {"acquired": acquired, "bspline": overlapping, "srgan": disjoint}
    fig = overlap_figure(regions, scene, PAIR, n_slices=2)
    texts = sheet_texts(fig)
    assert {"acquired\nDice 0.33", "bspline\nDice 0.33", "srgan\nDice 0.00"} <= set(texts)
    colors = drawn_colors(fig)
    assert len(colors) == 3 * 2 * 2  # series, planes, whole and enlarged
    by_label = legend_colors(fig)
    assert [*by_label] == ["region of interest", "thumb only", "little only", "both"]
    first, second, both = (by_label[name] for name in ("thumb only", "little only", "both"))
    assert len({first, second, both}) == 3
    assert colors[:8] == [{first, second, both}] * 8
    assert colors[8:] == [{first, second}] * 4


def test_planes_are_chosen_from_the_first_series(scene: Scene) -> None:
    first_place = (slice(8, 14), slice(24, 30), slice(7, 8))
    second_place = (slice(8, 14), slice(24, 30), slice(14, 15))
    fig = overlap_figure(
        {
            "acquired": (block(*first_place), block(*first_place)),
            "srgan": (block(*second_place), block(*second_place)),
        },
        scene,
        PAIR,
    )
    # the second region is outside these planes; its Dice is computed from all voxels
    assert drawn_colors(fig)[:2] == [{legend_colors(fig)["both"]}] * 2
    assert not any(drawn_colors(fig)[2:])
    assert "srgan\nDice 1.00" in sheet_texts(fig)


def test_empty_regions_raise_an_error(scene: Scene) -> None:
    empty = block(slice(0, 0))
    with pytest.raises(FigureInputError, match="thumb and little are empty in acquired"):
        overlap_figure({"acquired": (empty, empty)}, scene, PAIR)
    with pytest.raises(FigureInputError, match="no series has regions"):
        overlap_figure({}, scene, PAIR)
    full = block(slice(8, 14), slice(24, 30), slice(7, 8))
    fig = overlap_figure({"acquired": (full, empty)}, scene, PAIR)
    assert "acquired\nDice n/a" in sheet_texts(fig)


@pytest.fixture(scope="module")
def maps(scene: Scene) -> list[Derivative]:
    """Return cross-correlation maps and regions above a quarter, as computed by the activation
    step.
    """
    rng = np.random.default_rng(5)
    grid = np.moveaxis(np.indices(SHAPE), 0, -1)
    derivatives = []
    for series in ("acquired", "bspline", "zerofill", "srgan"):
        for fwhm in ("", "Fwhm50"):
            values = {
                name: 0.8 * np.exp(-(((grid - center) / 5) ** 2).sum(-1))
                + rng.normal(0, 0.05, SHAPE)
                for name, center in (("thumb", (12, 28, 10)), ("little", (14, 30, 10)))
            }
            values |= {"all": sum(values.values()) / 2, "thumbMinusLittle": values["thumb"]}
            data = {
                name: values_of_map.astype(np.float32) for name, values_of_map in values.items()
            }
            affine, mask, roi = AFFINE, scene.mask.data, scene.roi.data
            entities_of_grid = {"res": "hr"}
            if series == "acquired":  # every second voxel in-plane
                data = {name: values_of_map[::2, ::2] for name, values_of_map in data.items()}
                affine, mask, roi, entities_of_grid = COARSE, mask[::2, ::2], roi[::2, ::2], {}
            by_stat = {(name, "cc"): values_of_map for name, values_of_map in data.items()}
            regions = find_regions(by_stat, mask, roi, parse_thresholds(["quarter"]))
            label = series + fwhm
            for name, values_of_map in data.items():
                entities = {"contrast": name, "stat": "cc", "desc": label, "suffix": "statmap"}
                derivatives.append(
                    mapped(Volume(values_of_map, affine), {**entities_of_grid, **entities})
                )
            for (name, kind), (region, _) in regions.items():
                entities = {"label": name, "desc": label + kind, "suffix": "mask"}
                derivatives.append(
                    mapped(Volume(region, affine), {**entities_of_grid, **entities})
                )
    return derivatives


def test_overlap_figures_show_the_dice_of_the_table_per_smoothing(
    scene: Scene, maps: list[Derivative], tmp_path
) -> None:
    drawn = draw_overlap(
        maps,
        SceneImages(bold_mask_hr=scene.mask, roi_hr=scene.roi, boldref=scene.background),
        series_names=("bspline", "zerofill", "srgan"),
        overlap_pair=PAIR,
    )
    assert kept(draw_overlap, drawn, tmp_path) == [
        ("activation", "overlap.svg"),
        ("activation", "overlapFwhm50.svg"),
    ]
    assert [derivative.entities["contrast"] for derivative in drawn] == ["thumb+little"] * 2
    texts = sheet_texts(drawn[0].content)
    assert not [text for text in texts if text.startswith("zerofill")]
    for series in ("bspline", "srgan"):
        maps_of_series = {
            (derivative.entities["contrast"], "cc"): derivative.content.data
            for derivative in maps
            if derivative.entities["desc"] == series and derivative.entities["suffix"] == "statmap"
        }
        rows = activation_rows(
            maps_of_series,
            find_regions(
                maps_of_series,
                scene.mask.data,
                scene.roi.data,
                thresholds := parse_thresholds(["quarter"]),
            ),
            CONTRASTS,
            mask=scene.mask.data,
            roi=scene.roi.data,
            affine=AFFINE,
            series=series,
            fwhm_mm=0.0,
            per_acquired=4,
        )
        assert thresholds[0].label == "Quarter"
        (dice,) = (
            row.value for row in rows if (row.statistic, row.contrast) == ("dice", "thumb+little")
        )
        assert 0 < dice < 1
        assert f"{series}\nDice {dice:.2f}" in texts


def test_cross_correlation_is_drawn_per_condition_and_smoothing(
    scene: Scene, maps: list[Derivative], tmp_path
) -> None:
    drawn = draw_correlation(
        maps,
        SceneImages(bold_mask_hr=scene.mask, roi_hr=scene.roi, boldref=scene.background),
        series_names=("bspline", "zerofill", "srgan"),
        contrasts=CONTRASTS,
    )
    kept(draw_correlation, drawn, tmp_path)
    labels = sorted(
        (derivative.entities["contrast"], derivative.entities["desc"]) for derivative in drawn
    )
    assert labels == [
        (name, f"correlation{fwhm}") for name in ("little", "thumb") for fwhm in ("", "Fwhm50")
    ]


def test_series_have_the_labels_of_their_context_in_figures(
    scene: Scene, maps: list[Derivative], tmp_path
) -> None:
    """The label is a setting of the step, and applies only to this step."""
    images = SceneImages(bold_mask_hr=scene.mask, roi_hr=scene.roi, boldref=scene.background)
    options = {"series_names": ("bspline", "srgan"), "contrasts": CONTRASTS}
    label = "srgan (fast, no critic)"
    with label_series({"srgan": label}):
        labeled = draw_correlation(maps, images, **options)
    named = draw_correlation(maps, images, **options)
    for drawn, name, other in ((labeled, label, "srgan peak"), (named, "srgan peak", label)):
        texts = [" ".join(text.split()) for text in sheet_texts(drawn[0].content)]
        assert any(text.startswith(name) for text in texts)
        assert not any(text.startswith(other) for text in texts)


def test_captions_state_the_smoothing_before_super_resolution(
    scene: Scene, maps: list[Derivative]
) -> None:
    images = SceneImages(bold_mask_hr=scene.mask, roi_hr=scene.roi, boldref=scene.background)
    smoothed = [
        replace(derivative, sidecar={**derivative.sidecar, "InputSmoothingFWHM": 13.2})
        for derivative in maps
    ]
    options = {"series_names": ("bspline", "srgan")}
    drawn = [
        *draw_correlation(smoothed, images, **options, contrasts=CONTRASTS),
        *draw_overlap(smoothed, images, **options, overlap_pair=("thumb", "little")),
    ]
    assert len(drawn) > 4
    for derivative in drawn:
        assert "13.2 mm before" in derivative.sidecar["heading"] or (
            "13.2 mm FWHM kernel before" in derivative.sidecar["heading"]
        )


def test_planes_pass_through_the_peak_of_the_first_map(scene: Scene) -> None:
    first, second = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    first[12, 28, 10], first[40, 28, 10], first[12, 24, 10] = 0.7, 0.95, -0.9
    second[16, 30, 8] = 0.9  # outside these planes
    maps = {"acquired": Volume(first, AFFINE), "srgan": Volume(second, AFFINE)}
    fig = correlation_figure(maps, scene)
    texts = sheet_texts(fig)
    # the stronger voxel is outside the region of interest
    assert {"acquired\npeak 0.70", "srgan\npeak 0.90"} <= set(texts)
    assert {
        slices.coordinate_text(2, AFFINE[2, 3] + 40),
        slices.coordinate_text(0, AFFINE[0, 3] + 36),
    } <= (set(texts))
    layers = [layer for layer in fig.axes[0].images if layer.get_cmap().name != "gray"]
    shown = [np.ma.masked_invalid(layer.get_array()).compressed() for layer in layers]
    # the axial plane shows both positive voxels, the others only the voxel in the region
    assert [len(values) for values in shown[:4]] == [2, 1, 1, 1]
    assert np.concatenate(shown[1:4]) == pytest.approx(0.7)
    assert not any(values.size for values in shown[4:])
    assert {layer.get_clim() for layer in layers} == {(0.25, 0.9)}
    with pytest.raises(FigureInputError, match="no cross-correlation map"):
        correlation_figure({}, scene)


def test_seed_maps_are_drawn_completely_and_thresholded_at_half(scene: Scene) -> None:
    first, second = np.zeros(SHAPE, np.float32), np.full(SHAPE, 0.3, np.float32)
    first[20, 28, 10], first[24, 28, 10], first[20, 24, 10] = 0.9, 0.4, -0.7
    maps = {"acquired": Volume(first, AFFINE), "bspline": Volume(second, AFFINE)}
    fig = network_figure(maps, scene)
    inside = int((scene.mask.data > 0).sum())
    assert {f"acquired\n{100 / inside:.1f} % at .5", "bspline\n0.0 % at .5"} <= set(
        sheet_texts(fig)
    )
    layers = [layer for layer in fig.axes[0].images if layer.get_cmap().name == "bids-sr-r"]
    shown = [np.ma.masked_invalid(layer.get_array()).compressed() for layer in layers]
    assert len(shown) == 8
    # axial: the whole brain, with the negative voxel and the voxel below .5; then only the network
    assert {0.9, 0.4, -0.7} <= {round(float(value), 3) for value in shown[0]}
    assert shown[1] == pytest.approx([0.9])
    assert shown[3] == pytest.approx([0.9])
    assert shown[4] == pytest.approx(0.3)
    assert not shown[5].size
    assert {layer.get_clim() for layer in layers} == {(-1.0, 1.0)}
    with pytest.raises(FigureInputError, match="no seed correlation map"):
        network_figure({}, scene)


@pytest.mark.parametrize(("spread", "expected"), [(0.05, 0.25), (0.2, 0.4), (0.4, 0.5)])
def test_the_display_threshold_follows_the_spread_of_the_acquired_map(
    scene: Scene, spread: float, expected: float
) -> None:
    noise = np.random.default_rng(6).normal(0, spread, SHAPE)
    noise[8:14, 24:30, 8:12] += 1  # activation does not affect the threshold
    assert display_threshold(Volume(noise, AFFINE), scene.mask) == pytest.approx(
        expected, abs=0.04
    )
    empty = Volume(np.full(SHAPE, np.nan), AFFINE)
    assert display_threshold(empty, scene.mask) == 0.25
