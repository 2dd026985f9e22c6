"""Test figures of a run: their content, and names known to the store and the page."""

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.maps import mapped
from figure_helpers import content_of, kept

from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.figures.svg_files import save_svg
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Seeds, read_events
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.pipeline.artifacts import Derivative, Volume
from bids_sr.pipeline.figure import FigureDrawing, figure
from bids_sr.report.sections import FigureSpec
from bids_sr.sr.models.training_log import log_tsv
from bids_sr.steps.figures import (
    anatomy as anatomy_figures,
    maps as maps_figures,
    model_training as model_training_figures,
    motion as motion_figures,
    registration as registration_figures,
    run_maps as run_maps_figures,
    series as series_figures,
)
from bids_sr.steps.figures.display_grids import resample_to
from bids_sr.steps.figures.run_maps import SceneImages
from bids_sr.steps.linear_models import DesignInputs, LinearModel
from bids_sr.steps.training import ModelReport

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
    downsample = lambda array: array.reshape(12, 2, 12, 2, 6).mean(axis=(1, 3)).astype(np.float32)  # noqa: E731
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
    """Return maps and regions of two conditions for three series, with the entities of the
    activation step.
    """
    rng = np.random.default_rng(4)
    derivatives = []
    for name in SERIES:
        shape, affine = (LOW, LOW_AFFINE) if name == "acquired" else (SHAPE, HIGH_AFFINE)
        resolution = {} if name == "acquired" else {"res": "hr"}
        for fwhm in ("", "Fwhm50"):
            for contrast in ("thumb", "little", "thumbMinusLittle"):
                t = 3 * rng.standard_normal(shape)
                for kind, data in (("t", t), ("Quarter", t > 5), ("Fdr", t > 6)):
                    entities = (
                        {
                            **resolution,
                            "contrast": contrast,
                            "stat": "t",
                            "desc": name + fwhm,
                            "suffix": "statmap",
                        }
                        if kind == "t"
                        else {
                            **resolution,
                            "label": contrast,
                            "desc": name + fwhm + kind,
                            "suffix": "mask",
                        }
                    )
                    derivatives.append(mapped(Volume(data.astype(np.float32), affine), entities))
    return derivatives


def descs(saved: list[tuple[str, str]]) -> list[str]:
    return [name.partition(".")[0] for _, name in saved]


def test_undeclared_figures_and_unknown_sections_are_rejected():
    @figure(FigureSpec("drift", "motion"))
    def draw_drift(*, desc: str) -> str:
        yield FigureDrawing(desc, "<p>drift</p>")

    with pytest.raises(ValueError, match=r"driftA is not among the declared figures \['drift'\]"):
        draw_drift(desc="driftA")
    with pytest.raises(ValueError, match="no section moton; there are participant, overview, "):
        FigureSpec("drift", "moton")


def test_a_step_with_one_figure_may_return_it_or_nothing():
    @figure(FigureSpec("drift", "motion", html=True))
    def show_drift(*, text: str) -> str | None:
        return text or None

    (drawing,) = show_drift(text="<p>0.1 mm</p>")
    assert (drawing.content, drawing.entities) == (
        "<p>0.1 mm</p>",
        {"desc": "drift", "suffix": "bold"},
    )
    assert show_drift(text="") == []
    assert list(show_drift.settings) == ["text"]
    assert list(show_drift.outputs) == ["show_drift"]


def test_a_figure_runs_as_a_node(images, tmp_path):
    port = registration_figures.show_registration.inputs["registration"]
    facts = port.save({"bold_t1w_nmi": 0.25}, tmp_path / "facts")
    interface = registration_figures.show_registration.interface(registration=facts)
    outputs = pickle.loads(pickle.dumps(interface)).run(cwd=str(tmp_path)).outputs
    listing = Path(outputs.show_registration).read_text(encoding="utf-8")
    path, note = map(Path, listing.splitlines())
    assert path.name == "desc-registration_bold.html"
    assert ".25" in path.read_text()
    assert json.loads(note.read_text())["figure"] == "registration"


def test_the_brain_figure_shows_a_region_of_interest_only_if_it_is_smaller_than_the_brain(
    images, tmp_path
):
    tpms = [images[name] for name in ("gm", "wm", "csf")]
    full = anatomy_figures.draw_brain(images["image"], images["mask"], tpms, images["mask"])
    assert kept(anatomy_figures.draw_brain, full, tmp_path) == [("anatomical", "brain.svg")]
    svg_text = lambda drawings: save_svg(drawings[0].content, tmp_path / "x.svg").read_text()  # noqa: E731
    # The region of interest would repeat the brain.
    assert "region of interest" not in svg_text(full)
    partial = anatomy_figures.draw_brain(
        images["image_hr"], images["mask_hr"], roi_t1w=images["roi_hr"]
    )
    assert "region of interest" in svg_text(partial)


def test_the_normalization_figure_is_drawn(images, tmp_path):
    drawings = anatomy_figures.draw_normalization(
        images["image"], images["image_hr"], images["image_hr"], images["mask_hr"]
    )
    assert kept(anatomy_figures.draw_normalization, drawings, tmp_path) == [
        ("anatomical", "norm.svg")
    ]


def test_pair_figures_are_drawn_with_their_facts(images, tmp_path):
    facts = {"offset_mm": 0.1, "resampled": False}
    drawings = anatomy_figures.draw_pair(
        images["image_hr"], images["image"], images["mask"], images["image_hr"], facts
    )
    assert descs(kept(anatomy_figures.draw_pair, drawings, tmp_path)) == [
        "pair",
        "pairreg",
        "pairinfo",
    ]
    assert "<td>0.1</td>" in content_of(drawings, "pairinfo", html=True)


LOG = pd.DataFrame(
    {"phase": ["search"] * 2, "iteration": [0, 50], "loss": [1, 0.5], "psnr": [30, 31]}
)
CARD = {"method": "srgan", "held_out": {"iteration": 50, "network": {"psnr": 31.0, "ssim": 0.9}}}


def report_of(log):
    return ModelReport(card_file=CARD, log_file=log)


@pytest.mark.parametrize(
    ("label", "expected"), [("", ["training", "card"]), ("tv", ["trainingTv", "cardTv"])]
)
def test_training_figures_are_named_by_method(tmp_path, label, expected):
    drawings = model_training_figures.draw_training(report_of(LOG), method_label=label)
    assert descs(kept(model_training_figures.draw_training, drawings, tmp_path)) == expected


def test_the_training_figure_of_a_model_without_a_log_says_so(tmp_path):
    empty = pd.read_csv(io.StringIO(log_tsv(())), sep="\t", na_values="n/a")
    drawings = list(model_training_figures.draw_training(report_of(empty)))
    assert descs(kept(model_training_figures.draw_training, drawings, tmp_path)) == [
        "training",
        "card",
    ]
    text = save_svg(drawings[0].content, tmp_path / "x.svg").read_text()
    assert "the model has no training log" in text


def test_training_figures_on_volumes_are_in_the_super_resolution_section(tmp_path):
    drawings = model_training_figures.draw_volume_training(report_of(LOG), series_name="tv")
    saved = kept(model_training_figures.draw_volume_training, drawings, tmp_path)
    assert saved == [("superres", "volumetrainingTv.svg"), ("superres", "volumecardTv.html")]


def test_the_registration_figure_uses_the_transform_to_t1w(images, tmp_path, monkeypatch):
    shift = np.eye(4)
    shift[0, 3] = 3
    transforms = []
    monkeypatch.setattr(
        anatomy_figures,
        "resample_to",
        lambda *arguments: transforms.append(arguments[3:]) or resample_to(*arguments),
    )
    monkeypatch.setattr(
        registration_figures,
        "resample_to",
        lambda *arguments: transforms.append(arguments[3:]) or resample_to(*arguments),
    )
    drawings = registration_figures.draw_coregistration(
        images["image"],
        images["image_hr"],
        images["mask_hr"],
        shift[None],
        [images["mask_hr"]] * 3,
    )
    assert kept(registration_figures.draw_coregistration, drawings, tmp_path) == [
        ("registration", "coreg.svg")
    ]
    assert sum(bool(xfm) and np.array_equal(xfm[0], shift) for xfm in transforms) == 1


def test_a_display_transform_shifts_in_the_right_direction(images):
    image = images["image_hr"]
    shift = np.eye(4)
    # Grid points are 3 mm further to the right in the image, so the picture moves one voxel to the
    # left.
    shift[0, 3] = 3.0
    resampled = resample_to(image, SHAPE, HIGH_AFFINE, shift).data
    assert np.allclose(resampled[1:], image.data[:-1])


def test_the_high_resolution_image_is_drawn_on_the_boldref(images, tmp_path):
    drawings = registration_figures.draw_guide(
        images["image"], *[images["image_hr"]] * 2, images["mask_hr"]
    )
    assert kept(registration_figures.draw_guide, drawings, tmp_path) == [
        ("registration", "highres.svg")
    ]


def test_motion_and_carpet_are_drawn(images, series, tmp_path):
    confounds = pd.DataFrame(
        {"trans_x": np.arange(30) / 100, "framewise_displacement": [np.nan, *[0.1] * 29]}
    )
    tpms = [images[name] for name in ("gm", "wm", "csf")]
    drawings = motion_figures.draw_motion(
        confounds, series["acquired"], images["mask"], tpms, n_dummy=2
    )
    assert descs(kept(motion_figures.draw_motion, drawings, tmp_path)) == ["motion", "carpet"]


def test_the_carpet_is_subsampled_and_grouped_by_tissue(images, series, monkeypatch):
    monkeypatch.setattr(motion_figures, "_MAX_CARPET_ROWS", 20)
    tissues = {name: images[name].data for name in ("gm", "wm", "csf")}
    mask = images["mask"].data
    rows, groups = motion_figures.sample_carpet(series["acquired"], mask, tissues)
    assert rows.shape == (sum(count for _, count in groups), 30)
    assert 10 < len(rows) <= 22
    assert [name for name, _ in groups] == ["gm", "wm"]
    first = np.flatnonzero((mask > 0) & (tissues["gm"] > 0.5))[0]
    assert rows[0].tolist() == [
        volume.reshape(-1)[first] for volume in series["acquired"].volumes()
    ]


def test_one_slice_of_acquired_series_and_methods_is_drawn(images, series, tmp_path):
    middle = {name: Volume(reader.volume(15), reader.affine) for name, reader in series.items()}
    drawings = series_figures.draw_slice(
        {**middle, "srganMirror": middle["srgan"]},
        images["roi_hr"],
        images["mask_hr"],
        series_names=SERIES[1:],
    )
    assert kept(series_figures.draw_slice, drawings, tmp_path) == [("superres", "srslice.svg")]
    texts = [text.get_text() for text in drawings[0].content.axes[0].texts]
    assert {"acquired", "bspline", "srgan"} < set(texts)
    assert "srganMirror" not in texts


@pytest.mark.parametrize("background", [pytest.param("image_hr", marks=pytest.mark.slow), "image"])
def test_activation_of_every_contrast_and_smoothing_is_drawn(images, maps, tmp_path, background):
    drawings = maps_figures.draw_activation(
        maps,
        SceneImages(
            bold_mask_hr=images["mask_hr"], roi_hr=images["roi_hr"], boldref=images[background]
        ),
        series_names=SERIES[1:],
        at_rest=False,
    )
    kept(maps_figures.draw_activation, drawings, tmp_path)
    assert sorted(
        (drawing.entities["contrast"], drawing.entities["desc"]) for drawing in drawings
    ) == sorted(
        (name, f"activation{fwhm}")
        for name in ("thumb", "little", "thumbMinusLittle")
        for fwhm in ("", "Fwhm50")
    )


def is_inside(fig) -> bool:
    """Return whether the drawing is completely inside the figure."""
    box, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_the_exported_series_has_a_tsnr_map_next_to_the_acquired_one_and_a_carpet(
    images, series, tmp_path
):
    tpms = [images[name] for name in ("gm", "wm", "csf")]
    tsnr = {name: Volume(reader.volume(15), reader.affine) for name, reader in series.items()}
    arguments = (
        {"srgan": series["srgan"]},
        tsnr,
        images["mask_hr"],
        RunEvidence(best="srgan"),
        tpms,
    )
    drawings = series_figures.draw_output(*arguments, n_dummy=2)
    assert kept(series_figures.draw_output, drawings, tmp_path) == [
        ("superres", "madetsnr.svg"),
        ("superres", "madecarpet.svg"),
    ]
    sheet = drawings[0].content.axes[0]
    assert {text.get_text() for text in sheet.texts} >= {"acquired", "srgan"}
    assert len({image.get_clim() for image in sheet.images}) == 1  # same color scale
    assert {"GM", "WM"} <= {text.get_text() for text in drawings[1].content.axes[0].texts}
    assert is_inside(drawings[1].content)


def test_summaries_of_run_and_participant_are_tables(images, tmp_path):
    drawings = motion_figures.summarize_run(run_facts={"Run": "x"}, n_dummy=3)
    assert kept(motion_figures.summarize_run, drawings, tmp_path) == [
        ("motion", "runsummary.html")
    ]
    assert "<td>3</td>" in content_of(drawings, "runsummary", html=True)
    drawings = anatomy_figures.summarize_subject(subject_facts={"Runs": ["a", "b"]})
    assert kept(anatomy_figures.summarize_subject, drawings, tmp_path) == [
        ("summary", "summary.html")
    ]


def empty_series(folder: Path) -> SeriesReader:
    """Return a series of 60 volumes with a repetition time of 2 s."""
    save_image(np.zeros((2, 2, 2, 60), dtype=np.float32), np.eye(4), folder / "bold.nii", tr=2.0)
    return SeriesReader(folder / "bold.nii")


def test_the_design_figure_shows_events_matrix_and_weights_of_the_model(tmp_path: Path):
    rng = np.random.default_rng(0)
    names = [
        f"{kind}_{axis}{end}"
        for end in ("", "_derivative1")
        for kind in ("trans", "rot")
        for axis in "xyz"
    ]
    confounds = pd.DataFrame(np.round(rng.standard_normal((60, 12)), 3), columns=names)
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
    names = [
        f"{kind}_{axis}{end}"
        for end in ("", "_derivative1")
        for kind in ("trans", "rot")
        for axis in "xyz"
    ]
    confounds = pd.DataFrame(rng.standard_normal((60, 12)), columns=names)
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


def test_maps_in_a_template_space_are_skipped(images):
    entities = {
        "space": "MNI",
        "contrast": "thumb",
        "stat": "t",
        "desc": "acquired",
        "suffix": "statmap",
    }
    assert not run_maps_figures.sort_maps([Derivative(images["image"], entities)]).stats


@pytest.mark.parametrize("at_rest", [True, False])
def test_correlation_maps_are_not_captioned_as_t_maps(images, maps, at_rest):
    correlations = [
        replace(derivative, entities={**derivative.entities, "stat": "cc"})
        for derivative in maps
        if derivative.entities.get("stat") == "t" and derivative.entities["contrast"] == "thumb"
    ]
    for drawn_maps, name in ((maps, "t maps"), (correlations, "Correlation maps")):
        drawings = maps_figures.draw_activation(
            drawn_maps,
            SceneImages(
                bold_mask_hr=images["mask_hr"], roi_hr=images["roi_hr"], boldref=images["image_hr"]
            ),
            series_names=SERIES[1:],
            at_rest=at_rest,
        )
        assert drawings
        assert all(drawing.sidecar["caption"].startswith(name) for drawing in drawings)


def test_a_resting_state_run_has_connectivity_figures(images, maps, tmp_path):
    drawings = maps_figures.draw_activation(
        maps,
        SceneImages(
            bold_mask_hr=images["mask_hr"], roi_hr=images["roi_hr"], boldref=images["image_hr"]
        ),
        series_names=(),
        at_rest=True,
    )
    kept(maps_figures.draw_activation, drawings, tmp_path)
    assert {drawing.entities["desc"] for drawing in drawings} == {
        "connectivity",
        "connectivityFwhm50",
    }
