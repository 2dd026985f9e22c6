"""Test figures of a run: their content, and names known to the store and the page."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.maps import mapped
from data.outputs import expected_outputs
from data.rows import make_tested_rows
from figure_helpers import kept

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Derivative, Volume
from bids_sr.engine.metric_rows import metric_rows
from bids_sr.evaluation.contrast_results import collect_results
from bids_sr.evaluation.result import RunResult, make_result
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Seeds, read_events
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps import (
    anatomy as anatomy_figures,
    maps as maps_figures,
    model_training as model_training_figures,
    motion as motion_figures,
    registration as registration_figures,
    run_maps as run_maps_figures,
    series as series_figures,
)
from bids_sr.report.figure_steps.display_grids import resample_to
from bids_sr.report.figure_steps.page_maps import PageMaps
from bids_sr.report.figure_steps.run_maps import SceneImages
from bids_sr.report.figures.svg_files import save_svg
from bids_sr.report.sections import FigureSpec
from bids_sr.sr.steps.training import ModelReport

SHAPE, LOW, HIGH_AFFINE, LOW_AFFINE = (
    (24, 24, 6),
    (12, 12, 6),
    np.diag([-3.0, 3, 4, 1]),
    np.diag([-6.0, 6, 4, 1]),
)
LOW_AFFINE[:3, 3] = [-1.5, 1.5, 0]
SERIES = ("acquired", "bspline", "srgan")


@pytest.fixture(scope="module")
def images() -> dict[str, Volume]:
    """Return small images of everything that a run has, on the acquired and the high-resolution
    grid.
    """
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = (x**2 + y**2 + 0.3 * z**2 < 0.8).astype(np.float32)
    image = mask * (400 + 200 * (x**2 + y**2 < 0.1)).astype(np.float32)

    def downsample(array: np.ndarray) -> np.ndarray:
        return array.reshape(12, 2, 12, 2, 6).mean(axis=(1, 3)).astype(np.float32)

    roi = np.zeros(SHAPE, dtype=np.float32)
    roi[5:11, 6:16, 2:5] = 1
    arrays = {
        "mask_hr": (mask > 0.5, HIGH_AFFINE),
        "image_hr": (image, HIGH_AFFINE),
        "roi_hr": (roi * mask > 0.5, HIGH_AFFINE),
        "mask": (downsample(mask) > 0.5, LOW_AFFINE),
        "image": (downsample(image), LOW_AFFINE),
        "gm": (downsample(mask) * (downsample(image) < 450), LOW_AFFINE),
        "wm": (np.asarray(downsample(image) > 450, np.float32), LOW_AFFINE),
        "csf": (np.zeros(LOW, np.float32), LOW_AFFINE),
    }
    return {name: Volume(data, affine) for name, (data, affine) in arrays.items()}


@pytest.fixture(scope="module")
def series(images, tmp_path_factory) -> dict[str, SeriesReader]:
    folder = tmp_path_factory.mktemp("series")
    acquired = images["image"].data[..., None] * (
        1 + 0.02 * np.random.default_rng(3).standard_normal((*LOW, 30))
    )
    high_res = np.kron(acquired, np.ones((2, 2, 1, 1)))
    readers = {}
    for name, data, affine in (
        ("acquired", acquired, LOW_AFFINE),
        ("bspline", high_res, HIGH_AFFINE),
        ("srgan", high_res + 5, HIGH_AFFINE),
    ):
        nifti = nib.Nifti1Image(np.asarray(data, dtype=np.float32), affine)
        nifti.header.set_xyzt_units("mm", "sec")
        nifti.header["pixdim"][4] = 2.0
        nib.save(nifti, folder / f"{name}.nii")
        readers[name] = SeriesReader(folder / f"{name}.nii")
    return readers


@pytest.fixture(scope="module")
def maps() -> list[Derivative]:
    """Return t maps and their regions of two contrasts, two smoothings and three series."""
    rng = np.random.default_rng(4)
    derivatives = []
    for name, fwhm, contrast in itertools.product(SERIES, ("", "Fwhm50"), ("thumb", "little")):
        is_acquired = name == "acquired"
        shape, affine = (LOW, LOW_AFFINE) if is_acquired else (SHAPE, HIGH_AFFINE)
        resolution = {} if is_acquired else {"res": "hr"}
        t = 3 * rng.standard_normal(shape).astype(np.float32)
        statmap = {"contrast": contrast, "stat": "t", "desc": name + fwhm, "suffix": "statmap"}
        derivatives.append(mapped(Volume(t, affine), resolution | statmap))
        for kind, least in (("Quarter", 5), ("Fdr", 6)):
            region = {"label": contrast, "desc": name + fwhm + kind, "suffix": "mask"}
            data = (t > least).astype(np.float32)
            derivatives.append(mapped(Volume(data, affine), resolution | region))
    return derivatives


def test_undeclared_figures_and_unknown_sections_are_rejected():
    @figure(FigureSpec("drift", "motion"))
    def draw_drift(*, desc: str) -> str:
        yield FigureDrawing(desc, "<p>drift</p>")

    with pytest.raises(ValueError, match="driftA"):
        draw_drift(desc="driftA")
    with pytest.raises(ValueError, match="moton"):
        FigureSpec("drift", "moton")


def test_a_step_with_one_figure_may_return_it_or_nothing():
    @figure(FigureSpec("drift", "motion", html=True))
    def show_drift(*, text: str) -> str | None:
        return text or None

    (drawing,) = show_drift(text="<p>0.1 mm</p>")
    assert drawing.content == "<p>0.1 mm</p>"
    assert drawing.entities == {"desc": "drift", "suffix": "bold"}
    assert show_drift(text="") == []


LOG = pd.DataFrame(
    {"phase": ["search"] * 2, "iteration": [0, 50], "loss": [1, 0.5], "psnr": [30, 31]}
)
CARD = {"method": "srgan", "held_out": {"iteration": 50, "network": {"psnr": 31.0, "ssim": 0.9}}}
REPORT = ModelReport(card_file=CARD, log_file=LOG)
FD = pd.DataFrame({"framewise_displacement": [np.nan, *[0.1] * 29], "trans_x": np.arange(30)})


def draw_all(images, series):
    """Yield the step of each figure of a participant and a run, and its drawings."""
    image, mask, image_hr, mask_hr = (
        images[name] for name in ("image", "mask", "image_hr", "mask_hr")
    )
    tpms = [images[name] for name in ("gm", "wm", "csf")]
    anatomical, registered = anatomy_figures, registration_figures
    yield anatomical.draw_brain, (image, mask, tpms, mask), {}
    yield anatomical.draw_normalization, (image, image_hr, image_hr, mask_hr), {}
    yield anatomical.draw_pair, (image_hr, image, mask, image_hr, {"offset_mm": 0.1}), {}
    yield anatomical.summarize_subject, (), {"subject_facts": {"Runs": ["a", "b"]}}
    yield model_training_figures.draw_training, (REPORT,), {"method_label": ""}
    yield model_training_figures.draw_training, (REPORT,), {"method_label": "tv"}
    yield model_training_figures.draw_volume_training, (REPORT,), {"series_name": "tv"}
    coregistered = (image, image_hr, mask_hr, np.eye(4)[None], [mask_hr] * 3)
    yield registered.draw_coregistration, coregistered, {}
    yield registered.draw_guide, (image, image_hr, image_hr, mask_hr), {}
    yield registered.show_registration, ({"bold_t1w_nmi": 0.25},), {}
    yield motion_figures.draw_motion, (FD, series["acquired"], mask, tpms), {"n_dummy": 2}
    yield motion_figures.summarize_run, (), {"run_facts": {"Run": "x"}, "n_dummy": 3}


NAMES = [
    [("anatomical", "brain.svg")],
    [("anatomical", "norm.svg")],
    [
        ("superres-training", "pair.svg"),
        ("registration", "pairreg.svg"),
        ("registration", "pairinfo.html"),
    ],
    [("summary", "summary.html")],
    [("superres-training", "training.svg"), ("superres-training", "card.html")],
    [("superres-training", "trainingTv.svg"), ("superres-training", "cardTv.html")],
    [("superres", "volumetrainingTv.svg"), ("superres", "volumecardTv.html")],
    [("registration", "coreg.svg")],
    [("registration", "highres.svg")],
    [("registration", "registration.html")],
    [("motion", "motion.svg"), ("motion", "carpet.svg")],
    [("motion", "runsummary.html")],
]
"""Section and name of each figure of `draw_all`."""


def test_figures_are_drawn_with_their_values_in_their_sections(images, series, tmp_path):
    pages = []
    for position, (step, inputs, options) in enumerate(draw_all(images, series)):
        drawings = step(*inputs, **options)
        assert kept(step, drawings, tmp_path / str(position)) == NAMES[position]
        pages += [drawing.content for drawing in drawings if isinstance(drawing.content, str)]
    shown = "".join(pages)
    for value in ("<td>0.1</td>", ".25", "<td>3</td>"):  # offset, mutual information, dummies
        assert value in shown


def svg_text(drawing: Derivative, folder: Path) -> str:
    return save_svg(drawing.content, folder / "x.svg").read_text()


def test_the_brain_figure_shows_a_region_of_interest_only_if_it_is_smaller_than_the_brain(
    images, tmp_path
):
    brain = (images["image_hr"], images["mask_hr"])
    for region, is_shown in ((images["roi_hr"], True), (images["mask_hr"], False)):
        (drawing,) = anatomy_figures.draw_brain(*brain, roi_t1w=region)
        assert ("region of interest" in svg_text(drawing, tmp_path)) == is_shown


def test_a_display_transform_shifts_in_the_right_direction(images):
    image = images["image_hr"]
    shift = np.eye(4)
    # Grid points are 3 mm further to the right in the image, so the picture moves one voxel to the
    # left.
    shift[0, 3] = 3.0
    resampled = resample_to(image, SHAPE, HIGH_AFFINE, shift).data
    assert np.allclose(resampled[1:], image.data[:-1])


def test_the_carpet_is_grouped_by_tissue(images, series):
    tissues = {name: images[name].data for name in ("gm", "wm", "csf")}
    mask = images["mask"].data
    rows, groups = motion_figures.sample_carpet(series["acquired"], mask, tissues)
    assert rows.shape == (sum(count for _, count in groups), 30)
    assert [name for name, _ in groups] == ["gm", "wm"]
    first = np.flatnonzero((mask > 0) & (tissues["gm"] > 0.5))[0]
    volumes = [volume.reshape(-1)[first] for volume in series["acquired"].volumes()]
    assert rows[0].tolist() == volumes


def texts_of(axes) -> set[str]:
    return {text.get_text() for text in axes.texts}


def is_inside(fig) -> bool:
    """Return whether the drawing is completely inside the figure."""
    box, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_series_are_shown_next_to_the_acquired_one(images, series, tmp_path):
    middle = {name: Volume(reader.volume(15), reader.affine) for name, reader in series.items()}
    regions = (images["roi_hr"], images["mask_hr"])
    (one_slice,) = drawings = series_figures.draw_slice(middle, *regions, series_names=SERIES[1:])
    assert kept(series_figures.draw_slice, drawings, tmp_path) == [("superres", "srslice.svg")]
    assert {*SERIES} < texts_of(one_slice.content.axes[0])


def test_maps_in_a_template_space_are_skipped(images):
    entities = {"space": "MNI", "contrast": "thumb", "stat": "t", "desc": "acquired"}
    derivative = Derivative(images["image"], entities | {"suffix": "statmap"})
    assert not run_maps_figures.sort_maps([derivative]).stats


def page_of(maps: list[Derivative], stored: StoredMaps) -> PageMaps:
    """Return the maps of the page of a run, without rows of the evaluation."""
    brain = Volume(np.ones((10, 10, 2), np.float32), np.eye(4))
    return PageMaps(
        shown_maps=run_maps_figures.sort_maps(maps),
        images=SceneImages(bold_mask_hr=brain, roi_hr=brain, boldref=brain),
        factor=(2, 2, 1),
        rows=[],
        stored=stored,
        entities={"subject": "01", "task": "tap"},
    )


def test_the_files_to_use_are_stored_maps_of_the_shown_contrast():
    """Files are those of a whole run, with unsmoothed and error maps of sbl, without masks."""
    outputs = expected_outputs()
    outputs += [name.replace("desc-bspline_", "desc-sbl_") for name in outputs]
    sbl_effects = [name for name in outputs if re.search("_stat-effect_desc-sbl(Fwhm50)?_", name)]
    outputs = [*outputs, *(name.replace("-effect_", "-sdTotal_") for name in sbl_effects)]
    maps = []
    for name in outputs:
        if match := re.fullmatch(r"sub-01/func/sub-01_task-tap_(\S+)_statmap.nii.gz", name):
            pairs = (part.split("-", 1) for part in match.group(1).split("_"))
            maps.append(mapped(Path(name), dict(pairs) | {"suffix": "statmap"}))
    options = {"thresholds": ["fdr"], "methods": ["srgan", "sbl"], "kinds": ["glm"]}
    stored = StoredMaps(level="standard", smoothing=[0.0, 5.0], primary="sbl", **options)
    contrast = run_maps_figures.sort_maps(maps).choose_contrast("")
    page = page_of(maps, stored)
    of_sbl = "Fwhm50_effect", "Fwhm50_sdTotal", "_effect", "_sdTotal"
    for series, stats in (("sbl", of_sbl), ("srgan", ("Fwhm50_effect", "_t"))):
        rows = make_tested_rows({contrast: ((0.5, 0.1), (0.4, 0.1))}, series=series)
        result = make_result(series, collect_results(rows, series), rows)
        uses = replace(page, rows=rows).list_used_files(result, contrast)
        parts = [stat.rpartition("_")[::2] for stat in stats]
        ends = [
            f"contrast-{contrast}_stat-{stat}_desc-{series}{width}_statmap.nii.gz"
            for width, stat in parts
        ]
        assert [use.file.endswith(end) for use, end in zip(uses, ends, strict=True)] == [
            True for _ in ends
        ]
        assert {use.file for use in uses} <= set(outputs)
    (spline,) = page.list_used_files(RunResult(), contrast)
    assert spline.file in outputs
    assert "_desc-bspline_" in spline.file
    minimal = replace(page, stored=replace(stored, level="minimal"))
    (nothing,) = minimal.list_used_files(RunResult(), contrast)
    assert (nothing.file, "--level standard" in nothing.text) == ("", True)


def test_the_size_of_effects_in_the_mask_is_stated():
    values = np.zeros((10, 10, 2), np.float32)
    values[:5, :4, 0] = np.arange(-20, 0).reshape(5, 4)
    mask, other = (values < 0), {"contrast": "house", "desc": "sbl", "suffix": "statmap"}
    effect = mapped(Volume(values, np.eye(4)), {**other, "stat": "effect"})
    region = mapped(
        Volume(mask.astype(np.uint8), np.eye(4)),
        {"label": "house", "desc": "sblSignReliable", "suffix": "mask"},
    )
    sidecar = {**region.sidecar, "SourceSeries": "sbl", "ThresholdLabel": "SignReliable"}
    maps = [effect, replace(region, sidecar=sidecar)]
    rows = make_tested_rows({"house": ((0.5, 0.1), (0.4, 0.1))})
    shares = metric_rows("sbl", {"large_share": 0.75}, contrast="house", threshold="signReliable")
    result = make_result("sbl", collect_results(rows, "sbl"), rows)
    options = {"thresholds": ["fdr"], "methods": ["sbl"], "kinds": ["glm"]}
    stored = StoredMaps(level="standard", smoothing=[0.0, 5.0], primary="sbl", **options)
    page = replace(page_of(maps, stored), rows=[*rows, *shares])
    _, use = page.list_used_files(result, "house")
    assert use.remark.endswith(
        "20 voxels (20 decreases), effects: median 10.5, 95th percentile 19.1 %"
    )
    assert "sblSignReliable_mask" in use.file


def empty_series(folder: Path) -> SeriesReader:
    """Return a series of 60 volumes with a repetition time of 2 s."""
    save_image(np.zeros((2, 2, 2, 60), dtype=np.float32), np.eye(4), folder / "bold.nii", tr=2.0)
    return SeriesReader(folder / "bold.nii")


def test_the_design_figure_shows_events_matrix_and_weights_of_the_model(tmp_path: Path):
    rng = np.random.default_rng(0)
    confounds = pd.DataFrame(
        np.round(rng.standard_normal((60, 12)), 3), columns=list(MOTION_REGRESSORS)
    )
    (tmp_path / "events.tsv").write_text(
        "onset\tduration\ttrial_type\n20\t16\tface\n60\t16\t<house>\n"
    )
    drawings = maps_figures.draw_design(
        empty_series(tmp_path),
        LinearModel(
            inputs=DesignInputs(
                regressors=read_events(tmp_path / "events.tsv"),
                confounds=confounds,
                n_dummy=2,
                design=DesignSettings(high_pass=0.01),
            ),
            contrasts={
                "all": {"face": 0.5, "<house>": 0.5},
                "difference": {"face": 1.0, "<house>": -1.0},
            },
        ),
    )
    assert kept(maps_figures.draw_design, drawings, tmp_path) == [("activation", "design.svg")]
    text = (tmp_path / "desc-design_bold.svg").read_text()
    for word in (
        "face",
        "&lt;house&gt;",
        "conditions",
        "head motion",
        "drift",
        "design matrix: 17 columns",
    ):
        assert word in text
    events, matrix, weights = drawings[0].content.axes
    # Conditions are labeled by name.
    assert [text.get_text() for text in weights.texts] == ["0.5", "0.5", "−1", "1"]
    assert [label.get_text() for label in weights.get_yticklabels()] == ["all", "difference"]
    assert is_inside(drawings[0].content)
    assert matrix.images[0].get_array().shape == (58, 17)
    bars = events.collections[events.get_yticks().tolist().index(1)]  # face is the second row
    assert bars.get_paths()[0].get_extents().intervalx.tolist() == [20, 36]
    response_peak = events.lines[1].get_xdata()[np.argmin(events.lines[1].get_ydata())]
    assert 26 < response_peak < 40  # The response follows its block.
    assert events.lines[1].get_xdata()[0] == 5.0  # s, middle of the first volume after 2 dummies


def test_without_linear_model_the_task_design_is_shown_without_a_design_matrix(tmp_path: Path):
    (tmp_path / "events.tsv").write_text("onset\tduration\ttrial_type\n20\t16\tface\n")
    (drawing,) = maps_figures.draw_design(
        empty_series(tmp_path),
        LinearModel(
            inputs=DesignInputs(
                regressors=read_events(tmp_path / "events.tsv"),
                n_dummy=0,
                design=DesignSettings(high_pass=0.01),
            ),
            contrasts={"face": {"face": 1.0}},
        ),
        kinds=["cc"],
    )
    events, weights = drawing.content.axes
    assert [label.get_text() for label in events.get_yticklabels()] == ["face"]
    assert [text.get_text() for text in weights.texts] == ["1"]
    assert drawing.entities["desc"] == "design"
    assert "matrix" not in drawing.sidecar["caption"]
    assert "predicted response" in drawing.sidecar["caption"]


def test_weights_at_rest_are_shown_for_seeds_inside_the_field_of_view(tmp_path: Path):
    rng = np.random.default_rng(1)
    seeds = Seeds.standardize(
        pd.DataFrame(rng.standard_normal((60, 2)), columns=["motor", "visual"])
    )
    contrasts = {name: {name: 1.0} for name in ("motor", "visual", "outside")}
    confounds = pd.DataFrame(rng.standard_normal((60, 12)), columns=list(MOTION_REGRESSORS))
    drawings = maps_figures.draw_design(
        empty_series(tmp_path),
        LinearModel(
            inputs=DesignInputs(
                regressors=seeds,
                confounds=confounds,
                n_dummy=0,
                design=DesignSettings(high_pass=0.01),
            ),
            contrasts=contrasts,
        ),
    )
    assert kept(maps_figures.draw_design, drawings, tmp_path) == [("activation", "design.svg")]
    assert [label.get_text() for label in drawings[0].content.axes[2].get_yticklabels()] == [
        "motor",
        "visual",
    ]
