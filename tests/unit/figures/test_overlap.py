"""Figures of two conditions: regions and their Dice, maps of cross-correlation in two planes."""

import numpy as np
import pytest
from figure_helpers import kept
from mapmaker import mapped
from matplotlib.colors import to_rgba

from bids_sr.figures import slices
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.correlation import correlation_figure, shown_above
from bids_sr.figures.maps import Scene
from bids_sr.figures.networks import network_figure
from bids_sr.figures.overlap import _BOTH, _FIRST, _SECOND, overlap_figure, overlap_labels
from bids_sr.glm.activation_regions import parse_thresholds
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.map_summary import activation_rows, find_regions
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.steps.figures.correlation import draw_correlation
from bids_sr.steps.figures.overlap import draw_overlap

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
    """Colors of the overlay of each panel."""
    layers = [each for each in fig.axes[0].images if each.get_cmap().name != "gray"]
    found = []
    for each in layers:
        values = np.ma.masked_invalid(each.get_array()).compressed()
        found.append({tuple(each.to_rgba(np.array([v]))[0, :3]) for v in values})
    return found


def rgb(color: str) -> tuple[float, ...]:
    return tuple(np.array(to_rgba(color))[:3])


def test_voxels_are_of_one_condition_of_the_other_or_of_both() -> None:
    a = block(slice(0, 3), slice(0, 1), slice(0, 1))
    b = block(slice(2, 4), slice(0, 1), slice(0, 1))
    assert overlap_labels(a, b).data[:5, 0, 0].tolist() == [1, 1, 3, 2, 0]


def test_regions_of_each_series_have_three_colors_and_their_dice(scene: Scene) -> None:
    place = (slice(24, 30), slice(10, 12))
    whole = (block(slice(8, 14), *place), block(slice(12, 18), *place))
    apart = (block(slice(8, 12), *place), block(slice(12, 16), *place))
    acquired = (
        block(slice(4, 7), slice(12, 15), slice(10, 12), low=True),
        block(slice(6, 9), slice(12, 15), slice(10, 12), low=True),
    )
    regions = {"raw": acquired, "bspline": whole, "srgan": apart}
    fig = overlap_figure(regions, scene, PAIR, n_slices=2)
    texts = sheet_texts(fig)
    assert {"acquired\nDice 0.33", "bspline\nDice 0.33", "srgan\nDice 0.00"} <= set(texts)
    colors = drawn_colors(fig)
    assert len(colors) == 3 * 2 * 2  # series, planes, whole and enlarged
    assert all(each == {rgb(_FIRST), rgb(_SECOND), rgb(_BOTH)} for each in colors[:8])
    assert all(each == {rgb(_FIRST), rgb(_SECOND)} for each in colors[8:])
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "region of interest",
        "thumb only",
        "little only",
        "both",
    ]


def test_the_first_series_chooses_the_planes(scene: Scene) -> None:
    here = (slice(8, 14), slice(24, 30), slice(7, 8))
    there = (slice(8, 14), slice(24, 30), slice(14, 15))
    fig = overlap_figure(
        {"raw": (block(*here), block(*here)), "srgan": (block(*there), block(*there))},
        scene,
        PAIR,
    )
    # the region of the second lies in no plane; its Dice is that of all voxels
    assert drawn_colors(fig)[:2] == [{rgb(_BOTH)}] * 2
    assert not any(drawn_colors(fig)[2:])
    assert "srgan\nDice 1.00" in sheet_texts(fig)


def test_without_any_region_there_is_no_figure(scene: Scene) -> None:
    empty = block(slice(0, 0))
    with pytest.raises(FigureInputError, match="regions of thumb and little are empty in raw"):
        overlap_figure({"raw": (empty, empty)}, scene, PAIR)
    with pytest.raises(FigureInputError, match="no series has regions"):
        overlap_figure({}, scene, PAIR)
    full = block(slice(8, 14), slice(24, 30), slice(7, 8))
    fig = overlap_figure({"raw": (full, empty)}, scene, PAIR)
    assert "acquired\nDice n/a" in sheet_texts(fig)


@pytest.fixture(scope="module")
def maps(scene: Scene) -> list[Derivative]:
    """Maps of CC and regions of the upper quarter, as the activation step makes them."""
    rng = np.random.default_rng(5)
    grid = np.moveaxis(np.indices(SHAPE), 0, -1)
    found = []
    for series in ("raw", "bspline", "zerofill", "srgan"):
        for fwhm in ("", "Fwhm50"):
            values = {
                name: 0.8 * np.exp(-(((grid - at) / 5) ** 2).sum(-1)) + rng.normal(0, 0.05, SHAPE)
                for name, at in (("thumb", (12, 28, 10)), ("little", (14, 30, 10)))
            }
            values |= {"all": sum(values.values()) / 2, "thumbMinusLittle": values["thumb"]}
            data = {name: each.astype(np.float32) for name, each in values.items()}
            affine, mask, roi = AFFINE, scene.mask.data, scene.roi.data
            own = {"res": "hr"}
            if series == "raw":  # every second voxel in plane
                data = {name: each[::2, ::2] for name, each in data.items()}
                affine, mask, roi, own = COARSE, mask[::2, ::2], roi[::2, ::2], {}
            by_stat = {(name, "cc"): each for name, each in data.items()}
            regions = find_regions(by_stat, mask, roi, parse_thresholds(["quarter"]))
            label = series + fwhm
            for name, each in data.items():
                entities = {"contrast": name, "stat": "cc", "desc": label, "suffix": "statmap"}
                found.append(mapped(Volume(each, affine), {**own, **entities}))
            for (name, kind), (region, _) in regions.items():
                entities = {"label": name, "desc": label + kind, "suffix": "mask"}
                found.append(mapped(Volume(region, affine), {**own, **entities}))
    return found


def test_the_overlap_of_each_smoothing_is_drawn_with_the_dice_of_the_table(
    scene: Scene, maps: list[Derivative], tmp_path
) -> None:
    drawn = draw_overlap(
        maps,
        scene.mask,
        scene.roi,
        scene.background,
        series_names=("bspline", "zerofill", "srgan"),
        overlap_pair=PAIR,
    )
    assert kept(draw_overlap, drawn, tmp_path) == [
        ("activation", "overlap.svg"),
        ("activation", "overlapFwhm50.svg"),
    ]
    assert [each.entities["contrast"] for each in drawn] == ["thumb+little"] * 2
    texts = sheet_texts(drawn[0].content)
    assert not [text for text in texts if text.startswith("zerofill")]
    for series in ("bspline", "srgan"):
        own = {
            (each.entities["contrast"], "cc"): each.content.data
            for each in maps
            if each.entities["desc"] == series and each.entities["suffix"] == "statmap"
        }
        rows = activation_rows(
            own,
            find_regions(
                own, scene.mask.data, scene.roi.data, thresholds := parse_thresholds(["quarter"])
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


def test_maps_of_cross_correlation_of_each_condition_and_smoothing(
    scene: Scene, maps: list[Derivative], tmp_path
) -> None:
    drawn = draw_correlation(
        maps,
        scene.mask,
        scene.roi,
        scene.background,
        series_names=("bspline", "zerofill", "srgan"),
        contrasts=CONTRASTS,
    )
    kept(draw_correlation, drawn, tmp_path)
    found = sorted((each.entities["contrast"], each.entities["desc"]) for each in drawn)
    assert found == [
        (name, f"correlation{fwhm}") for name in ("little", "thumb") for fwhm in ("", "Fwhm50")
    ]


def test_axial_and_sagittal_planes_pass_through_the_peak_of_the_first_map(scene: Scene) -> None:
    first, second = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    first[12, 28, 10], first[40, 28, 10], first[12, 24, 10] = 0.7, 0.95, -0.9
    second[16, 30, 8] = 0.9  # in none of these planes
    maps = {"raw": Volume(first, AFFINE), "srgan": Volume(second, AFFINE)}
    fig = correlation_figure(maps, scene)
    texts = sheet_texts(fig)
    # the stronger voxel lies outside the region of interest
    assert {"acquired\npeak 0.70", "srgan\npeak 0.90"} <= set(texts)
    assert {slices.coordinate(2, AFFINE[2, 3] + 40), slices.coordinate(0, AFFINE[0, 3] + 36)} <= (
        set(texts)
    )
    layers = [each for each in fig.axes[0].images if each.get_cmap().name != "gray"]
    shown = [np.ma.masked_invalid(each.get_array()).compressed() for each in layers]
    # in the axial plane both positive voxels, in the others that in the region of interest
    assert [len(values) for values in shown[:4]] == [2, 1, 1, 1]
    assert np.concatenate(shown[1:4]) == pytest.approx(0.7)
    assert not any(values.size for values in shown[4:])
    assert {each.get_clim() for each in layers} == {(0.25, 0.9)}
    with pytest.raises(FigureInputError, match="no cross-correlation map"):
        correlation_figure({}, scene)


def test_seed_maps_are_drawn_whole_and_at_half(scene: Scene) -> None:
    first, second = np.zeros(SHAPE, np.float32), np.full(SHAPE, 0.3, np.float32)
    first[20, 28, 10], first[24, 28, 10], first[20, 24, 10] = 0.9, 0.4, -0.7
    maps = {"raw": Volume(first, AFFINE), "bspline": Volume(second, AFFINE)}
    fig = network_figure(maps, scene)
    inside = int((scene.mask.data > 0).sum())
    assert {f"acquired\n{100 / inside:.1f} % at .5", "bspline\n0.0 % at .5"} <= set(
        sheet_texts(fig)
    )
    layers = [each for each in fig.axes[0].images if each.get_cmap().name == "bids-sr-r"]
    shown = [np.ma.masked_invalid(each.get_array()).compressed() for each in layers]
    assert len(shown) == 8
    # axial: all of the brain, with the negative voxel and the one below .5; then the network alone
    assert {0.9, 0.4, -0.7} <= {round(float(value), 3) for value in shown[0]}
    assert shown[1] == pytest.approx([0.9])
    assert shown[3] == pytest.approx([0.9])
    assert shown[4] == pytest.approx(0.3)
    assert not shown[5].size
    assert {each.get_clim() for each in layers} == {(-1.0, 1.0)}
    with pytest.raises(FigureInputError, match="no seed correlation map"):
        network_figure({}, scene)


@pytest.mark.parametrize(("spread", "expected"), [(0.05, 0.25), (0.2, 0.4), (0.4, 0.5)])
def test_the_threshold_follows_the_spread_of_the_acquired_map(
    scene: Scene, spread: float, expected: float
) -> None:
    noise = np.random.default_rng(6).normal(0, spread, SHAPE)
    noise[8:14, 24:30, 8:12] += 1  # activation does not move it
    assert shown_above(Volume(noise, AFFINE), scene.mask) == pytest.approx(expected, abs=0.04)
    empty = Volume(np.full(SHAPE, np.nan), AFFINE)
    assert shown_above(empty, scene.mask) == 0.25
