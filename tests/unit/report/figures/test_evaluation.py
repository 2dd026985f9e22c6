"""Test figures of the evaluation: values of the table, empty input, and file names."""

import html
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from data.rows import judge_rows
from figure_helpers import content_of, kept

from bids_sr.engine.artifacts import Derivative, Volume
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.qc_flags import Flag
from bids_sr.io.series import get_kind
from bids_sr.report.figure_steps.evaluation import draw_evaluation
from bids_sr.report.figure_steps.fluctuations import draw_variance
from bids_sr.report.figure_steps.run_maps import SceneImages
from bids_sr.report.figures import canvas, maps as map_figures, svg_files

SHAPE, AFFINE = (20, 24, 6), np.diag([-2.0, 2.0, 3.0, 1.0])
BRAIN = Volume(np.ones(SHAPE), AFFINE)
LEVELS = {
    "bspline": 0.018,
    "inject": 0.038,
    "bsplinePca": 0.064,
    "sbl": 0.122,
    "srgan": 0.069,
    "measured": 0.207,
}
BAD = "<b>$\\frac$ & --> x"


def evaluation(
    *, truth: bool = True, contrasts: tuple[str, ...] = ("all", "faces")
) -> list[MetricRow]:
    """Return rows of a run: halves, reference and guards."""
    rows = []
    for number, contrast in enumerate(contrasts if truth else ()):
        for region, factor in (("brain", 1.0), ("acquired40", 2.0)):
            share = {"contrast": contrast, "region": region, "n": 24, "reference": "measured"}
            for name, level in LEVELS.items():
                value = level * factor / (1 + number)
                for band, shift in (("beyond", 0.0), ("all", 0.2)):
                    r, ev = value + shift, value**2
                    rows += [
                        MetricRow(
                            series=name,
                            statistic=statistic,
                            band=band,
                            value=center,
                            lower=center - half_width,
                            upper=center + half_width,
                            **share,
                        )
                        for statistic, center, half_width in (("r", r, 0.02), ("ev", ev, 0.01))
                    ]
            rows += [
                MetricRow(
                    series="sbl",
                    minus=minus,
                    statistic="ev",
                    band="beyond",
                    value=value,
                    lower=value - 0.02,
                    upper=value + 0.02,
                    **share,
                )
                for minus, value in (("bspline", 0.05), ("bsplinePca", 0.01))
            ]
    if truth:
        rows += [
            MetricRow(
                series=name,
                reference="measuredMap",
                statistic="r_t",
                value=0.9 + level / 10,
                contrast="all",
                region="brain",
                fwhm_mm=fwhm,
            )
            for name, level in LEVELS.items()
            for fwhm in (0.0, 5.0)
        ]
    return [*rows, MetricRow(series="run", statistic="edge_mismatch", value=1.0)]


def texts_of(figure, tmp_path) -> list[str]:
    """Return all texts of a figure, in drawing order."""
    svg = svg_files.save_svg(figure, tmp_path / "figure.svg").read_text(encoding="utf-8")
    return [html.unescape(text) for text in re.findall(r"<text [^>]*>(.*?)</text>", svg)]


def test_empty_input_raises_an_error():
    with pytest.raises(canvas.FigureInputError, match="no map"):
        map_figures.plot_effects_above_nyquist({}, BRAIN, scores={}, score="r")


def overlapping_texts(texts) -> list[tuple[str, str]]:
    """Return pairs of texts whose boxes overlap, and texts outside the figure (as pairs with
    themselves).
    """
    shown = [text for text in texts if text.get_text().strip()]
    boxes = [text.get_window_extent() for text in shown]
    width, height = shown[0].get_figure().canvas.get_width_height()
    return [
        (shown[i].get_text(), shown[k].get_text())
        for i in range(len(shown))
        for k in range(i + 1, len(shown))
        if boxes[i].overlaps(boxes[k])
    ] + [
        (text.get_text(),) * 2
        for text, box in zip(shown, boxes, strict=True)
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]


def test_maps_above_nyquist_share_one_scale():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(SHAPE)
    names = ("bspline", "srgan", "sbl", "measured")
    maps = {
        name: Volume(factor * truth, AFFINE)
        for name, factor in zip(names, (100, 1, 1, 1), strict=True)
    }
    scores = {"bspline": -0.0002, "srgan": 0.093, "sbl": 0.515, "measured": math.nan}
    score_text = "explained variance, voxels active in the acquired run (|t| > 4)"
    fig = map_figures.plot_effects_above_nyquist(maps, BRAIN, scores=scores, score=score_text)
    fig.canvas.draw()
    images = fig.axes[0].images
    limits = {image.get_clim() for image in images}
    assert len(limits) == 1  # independent of an extreme series
    top = limits.pop()[1]
    assert len(images) == 2 * len(names)
    assert 0 < np.mean([np.abs(image.get_array()) > top for image in images[3::4]]) < 0.02
    titles = [text for text in fig.axes[0].texts if text.get_text().startswith(names)]
    assert {"bspline (0.000)", "measured"} <= {title.get_text() for title in titles}
    assert not overlapping_texts(titles)


def test_the_prior_sd_map_is_drawn_inside_the_brain():
    weight = np.random.default_rng(0).uniform(1, 2, SHAPE)
    weight[0] = 1000  # outside
    mask = np.zeros(SHAPE)
    mask[4:16, 4:20] = 1
    inside = Volume(mask, AFFINE)
    fig = map_figures.variance_figure(inside.like(weight), inside, BRAIN)
    maps = [image for image in fig.axes[0].images if image.get_cmap().name == "inferno"]
    assert len(maps) > 2
    for image in maps:
        shown = np.ma.masked_invalid(image.get_array())
        assert 1 <= shown.min() <= shown.max() <= 2
        assert shown.mask.any()
        assert image.get_clim() == (0.0, pytest.approx(np.percentile(weight[mask > 0], 99)))
    nothing = map_figures.variance_figure(inside.like(np.zeros(SHAPE)), inside, BRAIN)
    assert all(np.isfinite(image.get_clim()).all() for ax in nothing.axes for image in ax.images)


@pytest.fixture
def images() -> dict[str, Volume]:
    rng = np.random.default_rng(2)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[3:17, 3:21, 1:5] = True
    sd = np.abs(rng.standard_normal(SHAPE)).astype(np.float32)
    detail = mask.astype(np.float32)
    data_by_name = {"mask": mask, "guide": 100 * detail, "sd": sd, "detail": detail}
    return {name: Volume(data, AFFINE) for name, data in data_by_name.items()}


@pytest.fixture
def halves(images, tmp_path):
    """Write effects above the acquired Nyquist frequency of each series."""
    rng = np.random.default_rng(2)
    maps = {f"beyond_{name}": rng.standard_normal(SHAPE).astype(np.float32) for name in LEVELS}
    np.savez(
        tmp_path / "maps.npz",
        contrast=np.array("all"),
        series=np.array(list(LEVELS)),
        affine=AFFINE,
        mask=images["mask"].data,
        **maps,
    )
    return tmp_path / "maps.npz"


VERDICT = {"headline": BAD, "sentences": [], "limits": [BAD]}
FLAG = Flag(name="broad", raised=True, text=BAD)


def gather(rows):
    methods = [name for name in LEVELS if get_kind(name) == "method"]
    return replace(judge_rows(rows, methods).evidence, flags=(FLAG,))


def evaluation_derivatives(rows, images, halves=None) -> list[Derivative]:
    boldref_and_mask = images["guide"], images["mask"]
    return draw_evaluation(
        rows,
        VERDICT,
        gather(rows),
        *boldref_and_mask,
        halves,
        series_names=(),
    )


def test_effects_are_in_percent_of_the_mean_of_the_run(images, halves, tmp_path):
    """Relative to the mean of each series, sharp images would look active."""
    limits = []
    for gain in (1, 10):
        guide = images["guide"]
        scaled = {**images, "guide": guide.like(gain * guide.data)}
        beyond = content_of(evaluation_derivatives(evaluation(), scaled, halves), "beyond")
        assert "(% of the brain's mean signal)" in " ".join(texts_of(beyond, tmp_path))
        limits.append(beyond.axes[0].images[0].get_clim()[1])
    assert limits[0] == pytest.approx(10 * limits[1])


def test_figures_of_a_run_with_a_reference(images, halves, tmp_path):
    drawn = evaluation_derivatives(evaluation(), images, halves)
    assert kept(draw_evaluation, drawn, tmp_path / "work") == [
        ("verdict", "verdict.html"),
        ("evaluation", "beyond.svg"),
        ("evaluation", "agreement.html"),
    ]
    page = content_of(drawn, "verdict", html=True)
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_the_agreement_is_that_of_the_first_contrast_in_all_regions_and_widths(images):
    page = content_of(evaluation_derivatives(evaluation(), images), "agreement", html=True)
    halves_table, map_table = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert "faces" not in page
    lines = {}
    for table in (halves_table, map_table):
        for line in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
            name, *cells = (
                html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()
                for cell in re.split(r"</t[hd]>", line)[:-1]
            )
            lines.setdefault(name, []).extend(cells)
    # explained variance (%) in active voxels and the brain; r of maps without and with smoothing
    shares = [f"{100 * (factor * LEVELS['sbl']) ** 2:.0f} %" for factor in (2, 1)]
    assert [cell.split("[")[0] for cell in lines["sbl"][:2]] == shares
    assert lines["sbl"][2:] == [f"{0.9 + LEVELS['sbl'] / 10:.3f}"] * 2


def test_a_run_without_reference_has_no_comparison_of_series(images, halves, tmp_path):
    drawn = evaluation_derivatives(evaluation(truth=False), images, halves)
    names = [name for _, name in kept(draw_evaluation, drawn, tmp_path / "work")]
    assert names == ["verdict.html", "beyond.svg"]


def test_an_empty_table_gives_only_the_verdict(images):
    assert [derivative.entities["desc"] for derivative in evaluation_derivatives([], images)] == [
        "verdict"
    ]


@pytest.mark.parametrize("guide", [True, False])
def test_the_figure_of_the_prior_sd_map_names_a_calibration(images, tmp_path, guide):
    above = images["guide"] if guide else None
    tested = {"sbl": {"share": 0.2, "calibrated": True}}
    scene = SceneImages(
        bold_mask_hr=images["mask"],
        roi_hr=images["mask"],
        boldref=images["guide"],
        guide_hr=above,
    )
    drawn = draw_variance(images["sd"], tested, scene)
    assert any(
        "from the acquired series and the calibration" in text
        for text in texts_of(drawn[0].content, tmp_path)
    )
    uncalibrated = draw_variance(images["sd"], {"sbl": {"reason": "x"}}, scene)
    assert not any("calibration" in text for text in texts_of(uncalibrated[0].content, tmp_path))
    assert kept(draw_variance, drawn, tmp_path) == [("superres", "variance.svg")]
