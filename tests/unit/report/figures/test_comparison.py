"""Figures of super-resolved images and a reference show correct values."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bids_sr.report.figures.comparison import busiest_region, comparison_figure
from bids_sr.report.figures.decorrelation import decorrelation_figure
from bids_sr.report.figures.svg_files import svg_text
from bids_sr.spatial.decorrelation import decorrelation_curves
from bids_sr.spatial.effective_resolution import analyze_decorrelation, cutoff

RNG = np.random.default_rng(2)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (30, 36, 3)
MASK = np.zeros(SHAPE, bool)
MASK[4:26, 5:31, 1] = True


def blurred(width: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(RNG.normal(0, 1, SHAPE), (width, width, 0))


def test_the_figure_shows_images_and_three_differences() -> None:
    target, source, output = (RNG.normal(100, 10, SHAPE) for _ in range(3))
    fig = comparison_figure("a", AFFINE, target, source, MASK, {"unet": output})
    panels = [np.asarray(ax.images[0].get_array()).T for ax in fig.axes if ax.images]
    shown = [image for image in panels if image.shape == SHAPE[:2]]
    expected_images = [target, output, source - target, output - target, output - source]
    assert len(shown) == len(expected_images)
    for image, expected in zip(shown, expected_images, strict=True):
        np.testing.assert_allclose(image, expected[..., 1], rtol=1e-4, atol=1e-3)
    (x, y), side = busiest_region(target[..., 1], MASK[..., 1])
    assert x != y
    enlarged = [image for image in panels if image.shape == (side, side)]
    for image, expected in zip(enlarged, (target, output), strict=True):
        region = expected[x : x + side, y : y + side, 1]
        np.testing.assert_allclose(image, region, rtol=1e-4, atol=1e-3)
    assert "unet" in svg_text(fig)


def test_the_enlarged_region_is_most_variable_in_the_reference() -> None:
    image = RNG.normal(0, 0.1, SHAPE[:2])
    image[18:24, 8:14] += 10 * RNG.normal(0, 1, (6, 6))
    (x, y), side = busiest_region(image, MASK[..., 1])
    assert x <= 20 < x + side
    assert y <= 11 < y + side
    assert side == 7


def test_decorrelation_curves_have_the_reported_cutoff() -> None:
    image = blurred(1.0)[..., 0]
    curves = decorrelation_curves(image)
    assert curves is not None
    assert curves.cutoff == cutoff(image)
    assert curves.cutoff == max(frequency for frequency, _ in curves.maxima)
    assert (curves.spectrum.min(), curves.spectrum.max()) == (0, 1)
    assert decorrelation_curves(np.zeros((20, 20))) is None


def test_decorrelation_curves_are_unfiltered_filtered_and_refined_around_the_maximum() -> None:
    image = blurred(1.0)[..., 0]
    magnitudes = analyze_decorrelation(image).magnitudes
    curves = decorrelation_curves(image)
    assert curves.plain[-1] == pytest.approx(
        magnitudes.sum() / np.sqrt((magnitudes**2).sum() * len(magnitudes))
    )
    assert (len(curves.filtered), len(curves.radii)) == (11, 50)
    assert all(curve.shape == curves.radii.shape for curve in curves.filtered)
    assert len(curves.refined) > 1
    assert all(curve.shape == curves.fine_radii.shape for curve in curves.refined)
    assert curves.fine_radii[0] < curves.cutoff < curves.fine_radii[-1]
    assert np.ptp(curves.fine_radii) < np.ptp(curves.radii)


def test_the_decorrelation_figure_states_the_resolution() -> None:
    image = blurred(1.0)
    fig = decorrelation_figure("a", {"one": image, "flat": np.zeros(SHAPE)}, (2.0, 2.0), MASK)
    titles = [ax.get_title() for ax in fig.axes]
    cutoff_frequency = cutoff(image[..., 1])
    assert cutoff_frequency is not None
    assert titles[0] == f"one: K = {cutoff_frequency:.2f}, {2 / cutoff_frequency:.3g} mm"
    assert titles[1] == "flat: constant slice"
    line = next(plot_line for plot_line in fig.axes[0].lines if plot_line.get_linestyle() == "--")
    assert line.get_xdata()[0] == pytest.approx(cutoff_frequency)


def test_long_labels_of_rows_do_not_overlap() -> None:
    target, source, output = (RNG.normal(100, 10, SHAPE) for _ in range(3))
    names = ["srgan (sub-01_acq-highres_desc-srgan_model.safetensors)", "x" * 80, "unet"]
    fig = comparison_figure("a", AFFINE, target, source, MASK, dict.fromkeys(names, output))
    renderer = FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    boxes = [
        ax.yaxis.label.get_window_extent(renderer) for ax in fig.axes if ax.yaxis.label.get_text()
    ]
    assert len(boxes) == len(names) + 1
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0
