"""Test orientation of planes, content of figures, and small reproducible files."""

import base64
import io
import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_rgb, to_rgba
from PIL import Image
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.report.figures import (
    anatomy,
    canvas,
    maps as map_figures,
    motion as motion_figures,
    slices,
    svg_files,
    training as figures_training,
)
from bids_sr.report.figures.maps import Scene

FINE = np.diag([-2.0, 2.0, 3.0, 1.0])
FINE[:3, 3] = [31.0, -40.0, 5.0]
COARSE = np.diag([-4.0, 4.0, 3.0, 1.0])
COARSE[:3, 3] = [30.0, -39.0, 5.0]
SHAPE, LOW = (32, 40, 6), (16, 20, 6)


def marked(orientation: str) -> Volume:
    """Return an image with one bright voxel at (10, 20, 30) mm, in any axis order."""
    import nibabel as nib

    data = np.zeros((11, 13, 15), dtype=np.float32)
    data[7, 9, 11] = 1
    affine = np.eye(4)
    affine[:3, 3] = [10 - 7, 20 - 9, 30 - 11]
    transform = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(orientation)
    )
    turned = nib.orientations.apply_orientation(data, transform)
    return Volume(turned, affine @ nib.orientations.inv_ornt_aff(transform, data.shape))


@pytest.fixture
def head() -> tuple[Volume, Volume]:
    """Return a bright ellipsoid with a brighter core, and its mask."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = x**2 + y**2 + 0.4 * z**2 < 0.7
    image = (mask * 500.0 + (x**2 + y**2 < 0.1) * 300.0).astype(np.float32)
    return Volume(image, FINE), Volume(mask, FINE)


@pytest.fixture
def scene(head) -> Scene:
    image, mask = head
    roi = np.zeros(SHAPE, dtype=bool)
    roi[4:12, 12:24, 2:5] = True
    return Scene(background=image, mask=mask, roi=mask.like(roi & mask.data))


def images_of(path) -> list[np.ndarray]:
    """Return the pixel images inside an SVG file."""
    encoded_images = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", path.read_text())
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA"))
        for encoded in encoded_images
    ]


def labels_of(image: Volume, cut: slices.Cut) -> list[str]:
    """Return the texts around a drawn plane."""
    row = slices.make_row("", [cut], slices.Layer(image=image, low=0, high=1))
    return [text.get_text() for text in slices.image_figure([row], tallest_inch=2).axes[0].texts]


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "LPS", "PIR", "SAL"])
def test_a_point_is_drawn_at_its_position_in_any_storage_order(orientation):
    image = marked(orientation)
    volume = slices.reorient_to_ras(image)
    z = int(np.argmax(volume.data.sum(axis=(0, 1))))
    cut = slices.Cut(axis=2, position_mm=z + 0.5, box=slices.field_of_view(image))
    values, edges = slices.cut_out(image, cut)
    row, column = np.unravel_index(np.argmax(values), values.shape)
    assert np.allclose((volume.affine @ [column, row, z, 1])[:3], [10, 20, 30])
    assert np.all(np.diag(volume.affine)[:3] > 0)
    assert edges == (0, volume.data.shape[0], 0, volume.data.shape[1])
    assert "z = +30 mm" in labels_of(image, cut)


def test_left_is_drawn_on_the_left_and_anterior_above():
    data = np.zeros((10, 12, 5), dtype=np.float32)
    # stored from right to left: x index 1 is on the right; y index 10 is anterior
    data[1, 10, :] = 1
    image = Volume(data, np.diag([-1.0, 1.0, 1.0, 1.0]))
    cuts = slices.make_cuts([2.5], slices.field_of_view(image))
    fig = slices.image_figure(
        [slices.make_row("", cuts, slices.Layer(image=image, low=0, high=1))], tallest_inch=12.0
    )
    ax = fig.axes[0]
    assert [label.get_text() for label in ax.texts] == ["", "L", "R", "z = +2 mm"]
    for text in ax.texts:
        text.remove()
    fig.canvas.draw()
    drawn = np.asarray(fig.canvas.buffer_rgba())[..., 0].astype(float)
    rows, columns = np.nonzero(drawn[5:-5, 5:-5] > 200)
    assert columns.mean() > drawn.shape[1] / 2
    assert rows.mean() < drawn.shape[0] / 2


@pytest.mark.parametrize(("tilt", "text"), [(0.0, "z = +14 mm"), (0.3, "z = +14 mm (center)")])
def test_the_coordinate_of_an_oblique_slice_is_labeled_as_its_center(tilt, text):
    """The same slice was once labeled −24 mm (by its voxel) in the overview and −12 mm (by its
    center) in another figure.
    """
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[2] = [0, 3 * tilt, 3, 14 - 3 * tilt * 9.5 - 6]
    image = Volume(np.zeros((20, 20, 5)), affine)
    thick = float(image.zooms[2])
    cut = slices.Cut(axis=2, position_mm=2.5 * thick, box=slices.field_of_view(image))
    assert text in labels_of(image, cut)


def test_labels_of_oblique_planes_end_within_their_panels():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[2, 1] = 0.6
    x, y, z = np.indices((60, 70, 50))
    head = ((x - 30) / 28) ** 2 + ((y - 35) / 33) ** 2 + ((z - 25) / 23) ** 2 < 1
    image = Volume(head * 100.0, affine)
    images = dict.fromkeys(("T1w", "boldref before", "boldref after"), image)
    fig = anatomy.registration_figure(images, [], mask=image.like(head))
    fig.canvas.draw()
    ax = fig.axes[0]
    labels = [text for text in ax.texts if " mm" in text.get_text()]
    assert len(labels) == 9
    extents = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    for left, right in itertools.pairwise(extents):
        assert left.x1 < right.x0


def test_planes_are_spread_over_the_mask():
    mask = np.zeros((4, 4, 40), dtype=bool)
    mask[:, :, 10:30] = True
    grid = np.diag([1.0, 1, 2, 1])
    image = Volume(np.random.default_rng(0).random(mask.shape), grid)
    fig = anatomy.mosaic_figure(image, [], mask=Volume(mask, grid), views=((2, 5),))
    texts = [text.get_text() for ax in fig.axes for text in ax.texts]
    planes = [float(text.split()[2]) for text in texts if text.startswith("z =")]
    assert len(set(planes)) == 5
    assert min(planes) >= 20
    assert max(planes) <= 58


@given(low=st.integers(2, 9), factor=st.integers(1, 3))
@settings(max_examples=20)
def test_nearest_neighbor_images_repeat_acquired_voxels(low, factor):
    data = np.arange(low**3, dtype=float).reshape(low, low, low)
    fine = Volume(np.zeros((low * factor,) * 3), np.eye(4))
    assert np.array_equal(
        slices.resample_nearest(Volume(data, np.eye(4)), fine),
        np.kron(data, np.ones((factor,) * 3)),
    )


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAL"])
def test_a_part_of_a_plane_keeps_its_position(orientation):
    image = marked(orientation)
    box = np.array([[2.2, 3.0, 4.0], [8.7, 11.0, 14.0]])
    values, (left, _, bottom, _) = slices.cut_out(
        image, slices.Cut(axis=2, position_mm=11.5, box=box)
    )
    row, column = np.unravel_index(np.argmax(values), values.shape)
    assert (column + left, row + bottom) == (7, 9)
    assert values.shape == (8, 7)  # partially covered voxels are included


def test_acquired_and_high_resolution_grids_are_drawn_at_the_same_position():
    fine = np.zeros(SHAPE, np.float32)
    fine[10:12, 24:26, 3] = 1
    low = Volume(fine.reshape(16, 2, 20, 2, 6).mean(axis=(1, 3)), COARSE)
    fov = slices.field_of_view(low)
    assert np.allclose(fov, slices.field_of_view(Volume(fine, FINE)))
    corners = []
    for image in (low, Volume(fine, FINE)):
        values, (left, right, bottom, top) = slices.cut_out(
            image, slices.Cut(axis=2, position_mm=10.5, box=fov)
        )
        rows, columns = np.nonzero(values)
        size = np.divide((right - left, top - bottom), values.shape[::-1])
        corners.append((left, bottom) + size * (columns.min(), rows.min()))
    assert corners[0] == pytest.approx(corners[1])


def test_a_part_of_a_box_stays_inside():
    full_box = np.array([[10.0, 0, 2], [50, 60, 8]])
    assert np.array_equal(
        slices.crop_box(full_box, np.array([10, 59, 0]), (20, 20)), [[10, 40, 2], [30, 60, 8]]
    )
    assert np.array_equal(
        slices.crop_box(full_box, np.array([30, 30, 0]), (200, 10)), [[10, 25, 2], [50, 35, 8]]
    )


def test_rows_of_different_heights_are_aligned_in_columns(head):
    image, mask = head
    full_box = slices.bounding_box_mm(mask, 2.0)
    low_box = full_box.copy()
    low_box[1, 1] = low_box[0, 1] + 20
    layer = slices.make_gray_layer(image, mask)
    rows = [
        slices.make_row("a", slices.make_cuts([9.0] * 3, box), layer)
        for box in (full_box, low_box)
    ]
    sheets = [
        patch
        for patch in slices.image_figure(rows, tallest_inch=1.0).axes[0].patches
        if patch.get_zorder() < 0
    ]
    x = [(sheet.get_x(), sheet.get_width()) for sheet in sheets]
    heights = [sheet.get_height() for sheet in sheets]
    assert len(sheets) == 6
    assert np.allclose(x[:3], x[3:])
    assert max(heights) == pytest.approx(1.0)
    assert heights[3] / heights[0] == pytest.approx(20 / np.ptp(full_box[:, 1]))


def test_a_figure_file_is_reproducible_and_has_no_metadata(tmp_path, head):
    image, mask = head
    names = []
    for name in ("a.svg", "b.svg"):
        fig = anatomy.mosaic_figure(
            image, anatomy.make_isolines(image, mask), mask=mask, views=((2, 3),)
        )
        names.append(svg_files.save_svg(fig, tmp_path / name))
    text = names[0].read_text()
    assert text == names[1].read_text()
    assert "<metadata" not in text
    assert not text.splitlines()[0].strip().startswith("<svg")
    root = ElementTree.fromstring(text)
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib


def test_png_compression_preserves_colors():
    rng = np.random.default_rng(0)
    for pixels in (
        np.repeat(rng.integers(0, 255, (9, 7, 1), dtype=np.uint8), 4, axis=2),
        rng.choice(
            np.array([[255, 0, 0, 255], [0, 0, 0, 0], [3, 4, 5, 80]], dtype=np.uint8), (9, 7)
        ),
        rng.integers(0, 255, (40, 40, 4), dtype=np.uint8),
    ):
        if pixels.shape[:2] == (9, 7) and (pixels[..., 0] == pixels[..., 3]).all():
            pixels[..., 3] = 255
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="png")
        small = svg_files.compress_image(base64.b64encode(buffer.getvalue()).decode())
        decoded = np.asarray(
            Image.open(io.BytesIO(base64.b64decode(small.partition(",")[2]))).convert("RGBA")
        )
        assert np.array_equal(decoded, pixels)


def test_a_map_of_up_to_256_colors_is_stored_with_a_small_palette():
    """Use the color scale of a map and a transparent background."""
    values = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((120, 110)), 3)
    values /= np.abs(values).max()
    pixels = colormaps["coolwarm"](values / 2 + 0.5, bytes=True)
    pixels[np.abs(values) < 0.2] = 0
    assert 100 < len(np.unique(pixels.reshape(-1, 4), axis=0)) <= 256
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    small = svg_files.compress_image(base64.b64encode(buffer.getvalue()).decode())
    content = base64.b64decode(small.partition(",")[2])
    decoded = Image.open(io.BytesIO(content))
    assert decoded.mode == "P"
    np.testing.assert_array_equal(decoded.convert("RGBA"), pixels)
    smallest = io.BytesIO()
    decoded.save(smallest, format="png", optimize=True)
    assert len(content) < 1.05 * len(smallest.getvalue())
    assert len(content) < 0.7 * len(buffer.getvalue())


def test_the_registered_image_alternates_with_the_reference(tmp_path, head):
    image, mask = head
    moved = image.like(np.roll(image.data, 3, axis=0))
    fig = anatomy.registration_figure(
        {"a": image, "b": moved, "c": image}, [], mask=mask, views=((2, 2),)
    )
    text = svg_files.save_svg(fig, tmp_path / "r.svg").read_text()
    assert text.count('id="flicker-') == 2
    assert "@keyframes" in text
    # reference, before, reference below after, after: two planes each, several of them identical
    # in this test
    assert len(images_of(tmp_path / "r.svg")) + text.count("<use xlink:href=") == 8
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_a_constant_image_has_no_isolines():
    assert anatomy.make_isolines(*[Volume(np.ones((6, 6, 6)), np.eye(4))] * 2) == []


def test_carpet_rows_are_detrended_with_unit_sd():
    rng = np.random.default_rng(1)
    series = 100 + 0.5 * np.arange(60) + rng.normal(0, 3, (5, 60))
    series[4] = 7
    series[:, :3] += 50
    rows = motion_figures.carpet_rows(series, 3)
    assert np.allclose(rows[:4, 3:].mean(axis=1), 0, atol=1e-4)
    assert np.allclose(rows[:4, 3:].std(axis=1), 1, atol=1e-4)
    assert np.abs(np.polyfit(np.arange(57), rows[0, 3:], 1)[0]) < 1e-4
    assert not rows[4, 3:].any()
    assert rows[0, 0] > 5


def test_motion_figure_names_missing_columns():
    table = {f"trans_{a}": np.zeros(10) for a in "xyz"} | {
        "framewise_displacement": np.r_[np.nan, np.ones(9)]
    }
    fig = motion_figures.motion_figure(table, 2.0, n_dummy=2)
    texts = [text.get_text() for ax in fig.axes for text in ax.texts]
    assert texts.count("not in the confounds table") == 2
    assert "mean 1.00\nmax 1.00 mm" in texts


def test_motion_figure_summarizes_uncensored_volumes():
    # the second volume is not in the steady state
    displacement = np.r_[np.nan, 9, np.ones(7), 5.0]
    table = {"framewise_displacement": displacement, "std_dvars": 2 * displacement}
    kept_volumes = np.arange(10) != 9
    fig = motion_figures.motion_figure(table, 2.0, n_dummy=2, uncensored=kept_volumes)
    texts = [text.get_text() for ax in fig.axes for text in ax.texts]
    assert "kept volumes:\nmean 1.00\nmax 1.00 mm" in texts
    assert "kept volumes:\nmean 2.00\nmax 2.00" in texts
    assert fig.axes[-1].get_xlabel() == "Time (s); gray: non-steady, red: censored volumes"
    shaded = [patch for patch in fig.axes[0].patches if patch.get_alpha() == 0.25]
    assert [patch.get_x() for patch in shaded] == [17.0]
    uncensored = motion_figures.motion_figure(table, 2.0, n_dummy=2)
    texts = [text.get_text() for ax in uncensored.axes for text in ax.texts]
    assert "mean 1.50\nmax 5.00 mm" in texts


def is_outside_panel(legend) -> bool:
    """Return True if a legend or text does not overlap its panel."""
    legend.get_figure().canvas.draw()
    return not legend.get_window_extent().overlaps(legend.axes.bbox)


def test_legends_do_not_hide_data():
    table = {f"{kind}_{a}": np.ones(10) for kind in ("trans", "rot") for a in "xyz"}
    table |= {"framewise_displacement": np.r_[np.nan, np.ones(9)], "std_dvars": np.ones(10)}
    motion = motion_figures.motion_figure(table, 2.0)
    assert [len(ax.get_legend_handles_labels()[1]) for ax in motion.axes] == [3, 3, 0, 0]
    assert all(is_outside_panel(ax.get_legend()) for ax in motion.axes[:2])
    assert all(is_outside_panel(text) for ax in motion.axes[2:] for text in ax.texts)
    steps = np.arange(0.0, 100, 10)
    columns = {"iteration": steps, "psnr": steps, "loss": np.ones(10)}
    training = figures_training.training_figure(columns, {"held_out": {"iteration": 9}})
    assert all(is_outside_panel(ax.get_legend()) for ax in training.axes)


def test_carpet_figure_names_groups_and_counts_rows():
    fig = motion_figures.carpet_figure(
        np.zeros((12, 20), np.float32), [("GM", 7), ("WM", 5)], 2.0, traces={"FD": np.ones(20)}
    )
    texts = [text.get_text() for text in fig.axes[1].texts]
    assert texts == ["GM", "WM"]
    assert "12 voxels" in fig.axes[1].get_xlabel()


def test_carpet_and_traces_have_the_same_round_times():
    """Times below the carpet were once 0, 34, 68 and 101 s, but 0, 50 and 100 s below the
    traces.
    """
    rows = np.zeros((12, 136), np.float32)
    fig = motion_figures.carpet_figure(rows, [("brain", 12)], 2.0, traces={"FD": np.ones(136)})
    fig.canvas.draw()
    places = [[label.get_text() for label in ax.get_xticklabels()] for ax in fig.axes[:2]]
    assert {"0", "50", "100", "250"} <= set(places[1])
    assert np.array_equal(fig.axes[0].get_xticks(), fig.axes[1].get_xticks())


def test_training_figure_shows_levels_and_the_stopping_point(tmp_path):
    steps = np.arange(0.0, 100, 10)
    levels = {"bspline": {"psnr": 3.0}, "inject": {"psnr": np.nan}}
    columns = {"iteration": steps, "psnr": steps / 10, "loss": np.ones(10)}
    card = {"method": "srgan", "held_out": {"iteration": 50, **levels}}
    fig = figures_training.training_figure(columns, card)
    labels = fig.axes[0].get_legend_handles_labels()[1]
    assert labels == ["srgan", "bspline (3.00 dB)", "stopping point: 50"]
    svg_files.save_svg(fig, tmp_path / "training.svg")
    # powers of ten are rendered as mathtext
    assert all(label.get_parse_math() for label in fig.axes[1].get_yticklabels())


def series_of(image: Volume) -> dict[str, Volume]:
    low = image.data.reshape(16, 2, 20, 2, 6).mean(axis=(1, 3))
    return {
        "acquired": Volume(low, COARSE),
        "bspline": image,
        "srgan": image.like(image.data + 20),
    }


def test_slice_figure_shows_differences_to_the_reference(head, scene):
    image, mask = head
    shown = map_figures.series_figure(series_of(image), scene.roi, mask=mask).axes[0].images
    differences = [
        np.asarray(image_artist.get_array())
        for image_artist in shown
        if image_artist.get_cmap().name == "RdBu_r"
    ]
    assert len(differences) == 2
    assert not differences[0].any()
    assert np.allclose(differences[1], 20)
    gray = {
        image_artist.get_clim() for image_artist in shown if image_artist.get_cmap().name == "gray"
    }
    assert len(gray) == 1


def test_the_color_scale_is_the_median_of_the_maps_with_a_minimum():
    maps = [Volume(np.full(LOW, float(v)), COARSE) for v in (1, 8, 300)]
    assert map_figures.common_scale(maps, 6.0) == 8
    assert map_figures.common_scale(maps[:1], 6.0) == 6


def outlines_of(fig) -> set:
    """Return the colors of outlines and frames of a figure."""
    return {patch.get_edgecolor() for ax in fig.axes for patch in ax.patches}


def test_the_frame_is_yellow_and_a_region_smaller_than_the_brain_is_outlined(head, scene):
    image, mask = head
    brain_colors, roi_colors = (
        outlines_of(map_figures.series_figure(series_of(image), roi, mask=mask))
        for roi in (mask, scene.roi)
    )
    assert to_rgba(canvas.YELLOW) in brain_colors & roi_colors
    assert roi_colors - brain_colors == {to_rgba("#00e5ff")}, "light blue, as in the caption"


def test_map_colors_have_sufficient_contrast_with_a_dark_brain():
    """Luminance contrast (WCAG 2) with black of each color of the scale; contrast increases with
    distance from 0.
    """
    values = np.array([to_rgb(color) for color in map_figures.MAP_COLORS])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    contrast = (linear @ [0.2126, 0.7152, 0.0722] + 0.05) / 0.05
    assert contrast.min() > 4
    assert (np.diff(contrast[:5]) < 0).all()
    assert (np.diff(contrast[5:]) > 0).all()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda image, scene: slices.reorient_to_ras(Volume(np.zeros((2, 2)), FINE)), "(2, 2)"),
        (
            lambda image, scene: anatomy.registration_figure(
                {"a": image, "b": image.like(image.data[:-1])}, [], mask=scene.mask
            ),
            "one grid",
        ),
        (
            lambda image, scene: map_figures.series_figure(
                series_of(image), scene.roi, reference="zerofill"
            ),
            "zerofill",
        ),
    ],
)
def test_images_that_cannot_be_drawn_are_named(head, scene, draw, message):
    with pytest.raises(canvas.FigureInputError, match=re.escape(message)):
        draw(head[0], scene)
