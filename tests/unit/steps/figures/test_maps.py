"""Figures are functions of values: they draw what a run has, by names known to store and page."""

import io
import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from figure_helpers import content_of, kept
from mapmaker import mapped

from bids_sr.figures.svg_files import save_svg
from bids_sr.glm.regressors import Seeds, read_events
from bids_sr.io.nifti import SeriesReader
from bids_sr.pipeline.artifacts import Derivative, Volume
from bids_sr.pipeline.figure import Drawn, figure
from bids_sr.report.sections import Shown
from bids_sr.sr.training.journal import log_tsv
from bids_sr.steps.figures import anatomy as anatomy_figures
from bids_sr.steps.figures import maps as maps_figures
from bids_sr.steps.figures import model_training as model_training_figures
from bids_sr.steps.figures import motion as motion_figures
from bids_sr.steps.figures import registration as registration_figures
from bids_sr.steps.figures import run_maps as run_maps_figures
from bids_sr.steps.figures import series as series_figures
from bids_sr.steps.figures.display_grids import onto

SHAPE, LOW, FINE, COARSE = (
    (24, 24, 6),
    (12, 12, 6),
    np.diag([-3.0, 3, 4, 1]),
    np.diag([-6.0, 6, 4, 1]),
)
COARSE[:3, 3] = [-1.5, 1.5, 0]
SERIES = ("raw", "bspline", "srgan")


@pytest.fixture(scope="module")
def images() -> dict[str, Volume]:
    """Small images of everything a run has, on the acquired and on the high-resolution grid."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = (x**2 + y**2 + 0.3 * z**2 < 0.8).astype(np.float32)
    image = mask * (400 + 200 * (x**2 + y**2 < 0.1)).astype(np.float32)
    low = lambda a: a.reshape(12, 2, 12, 2, 6).mean(axis=(1, 3)).astype(np.float32)  # noqa: E731
    roi = np.zeros(SHAPE, dtype=np.float32)
    roi[5:11, 6:16, 2:5] = 1
    made = {
        "mask_hr": (mask > 0.5, FINE),
        "image_hr": (image, FINE),
        "roi_hr": (roi * mask > 0.5, FINE),
        "mask": (low(mask) > 0.5, COARSE),
        "image": (low(image), COARSE),
        "gm": (low(mask) * (low(image) < 450), COARSE),
        "wm": (np.asarray(low(image) > 450, np.float32), COARSE),
        "csf": (np.zeros(LOW, np.float32), COARSE),
    }
    return {name: Volume(data, affine) for name, (data, affine) in made.items()}


@pytest.fixture(scope="module")
def series(images, tmp_path_factory) -> dict[str, SeriesReader]:
    folder = tmp_path_factory.mktemp("series")
    low = images["image"].data[..., None] * (
        1 + 0.02 * np.random.default_rng(3).standard_normal((*LOW, 30))
    )
    fine = np.kron(low, np.ones((2, 2, 1, 1)))
    found = {}
    for name, data, affine in (
        ("raw", low, COARSE),
        ("bspline", fine, FINE),
        ("srgan", fine + 5, FINE),
    ):
        nifti = nib.Nifti1Image(np.asarray(data, dtype=np.float32), affine)
        nifti.header.set_xyzt_units("mm", "sec")
        nifti.header["pixdim"][4] = 2.0
        nib.save(nifti, folder / f"{name}.nii")
        found[name] = SeriesReader(folder / f"{name}.nii")
    return found


@pytest.fixture(scope="module")
def maps() -> list[Derivative]:
    """Maps and regions of two conditions of three series, entities as the activation stage gives
    them.
    """
    rng = np.random.default_rng(4)
    found = []
    for name in SERIES:
        shape, affine = (LOW, COARSE) if name == "raw" else (SHAPE, FINE)
        own = {} if name == "raw" else {"res": "hr"}
        for fwhm in ("", "Fwhm50"):
            for contrast in ("thumb", "little", "thumbMinusLittle"):
                t = 3 * rng.standard_normal(shape)
                for kind, data in (("t", t), ("Quarter", t > 5), ("Fdr", t > 6)):
                    entities = (
                        {
                            **own,
                            "contrast": contrast,
                            "stat": "t",
                            "desc": name + fwhm,
                            "suffix": "statmap",
                        }
                        if kind == "t"
                        else {
                            **own,
                            "label": contrast,
                            "desc": name + fwhm + kind,
                            "suffix": "mask",
                        }
                    )
                    found.append(mapped(Volume(data.astype(np.float32), affine), entities))
    return found


def descs(found: list[tuple[str, str]]) -> list[str]:
    return [name.partition(".")[0] for _, name in found]


def test_what_was_not_declared_is_not_drawn():
    @figure(Shown("drift", "motion"))
    def draw_drift(*, desc: str) -> str:
        yield Drawn(desc, "<p>drift</p>")

    with pytest.raises(ValueError, match=r"driftA is not among the declared figures \['drift'\]"):
        draw_drift(desc="driftA")
    with pytest.raises(ValueError, match="no section moton; there are participant, overview, "):
        Shown("drift", "moton")


def test_a_figure_of_one_thing_may_return_it_or_nothing():
    @figure(Shown("drift", "motion", html=True))
    def show_drift(*, text: str) -> str | None:
        return text or None

    (drawn,) = show_drift(text="<p>0.1 mm</p>")
    assert (drawn.content, drawn.entities) == (
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


def test_anatomy(images, tmp_path):
    tpms = [images[name] for name in ("gm", "wm", "csf")]
    whole = anatomy_figures.draw_brain(images["image"], images["mask"], tpms, images["mask"])
    assert kept(anatomy_figures.draw_brain, whole, tmp_path) == [("anatomical", "brain.svg")]
    text = lambda drawn: save_svg(drawn[0].content, tmp_path / "x.svg").read_text()  # noqa: E731
    assert "region of interest" not in text(whole)  # it would repeat the brain
    part = anatomy_figures.draw_brain(
        images["image_hr"], images["mask_hr"], roi_t1w=images["roi_hr"]
    )
    assert "region of interest" in text(part)


def test_normalization(images, tmp_path):
    drawn = anatomy_figures.draw_normalization(
        images["image"], images["image_hr"], images["image_hr"], images["mask_hr"]
    )
    assert kept(anatomy_figures.draw_normalization, drawn, tmp_path) == [
        ("anatomical", "norm.svg")
    ]


def test_pair(images, tmp_path):
    facts = {"offset_mm": 0.1, "resampled": False}
    drawn = anatomy_figures.draw_pair(
        images["image_hr"], images["image"], images["mask"], images["image_hr"], facts
    )
    assert descs(kept(anatomy_figures.draw_pair, drawn, tmp_path)) == [
        "pair",
        "pairreg",
        "pairinfo",
    ]
    assert "<td>0.1</td>" in content_of(drawn, "pairinfo", html=True)


LOG = pd.DataFrame(
    {"phase": ["search"] * 2, "iteration": [0, 50], "loss": [1, 0.5], "psnr": [30, 31]}
)
CARD = {"method": "srgan", "held_out": {"iteration": 50, "network": {"psnr": 31.0, "ssim": 0.9}}}


@pytest.mark.parametrize(
    ("label", "expected"), [("", ["training", "card"]), ("tv", ["trainingTv", "cardTv"])]
)
def test_training(tmp_path, label, expected):
    drawn = model_training_figures.draw_training(LOG, CARD, method_label=label)
    assert descs(kept(model_training_figures.draw_training, drawn, tmp_path)) == expected


def test_training_of_a_model_that_came_without_its_log(tmp_path):
    empty = pd.read_csv(io.StringIO(log_tsv(())), sep="\t", na_values="n/a")
    drawn = list(model_training_figures.draw_training(empty, CARD))
    assert descs(kept(model_training_figures.draw_training, drawn, tmp_path)) == [
        "training",
        "card",
    ]
    text = save_svg(drawn[0].content, tmp_path / "x.svg").read_text()
    assert "the model has no training log" in text


def test_training_on_the_volumes_of_a_run(tmp_path):
    drawn = model_training_figures.draw_volume_training(LOG, CARD, series_name="tv")
    found = kept(model_training_figures.draw_volume_training, drawn, tmp_path)
    assert found == [("superres", "volumetrainingTv.svg"), ("superres", "volumecardTv.html")]


def test_registration_to_t1w_uses_the_transform(images, tmp_path, monkeypatch):
    moved = np.eye(4)
    moved[0, 3] = 3
    seen = []
    monkeypatch.setattr(anatomy_figures, "onto", lambda *a: seen.append(a[3:]) or onto(*a))
    monkeypatch.setattr(registration_figures, "onto", lambda *a: seen.append(a[3:]) or onto(*a))
    drawn = registration_figures.draw_coregistration(
        images["image"],
        images["image_hr"],
        images["mask_hr"],
        moved[None],
        [images["mask_hr"]] * 3,
    )
    assert kept(registration_figures.draw_coregistration, drawn, tmp_path) == [
        ("registration", "coreg.svg")
    ]
    assert sum(bool(xfm) and np.array_equal(xfm[0], moved) for xfm in seen) == 1


def test_a_display_shift_goes_the_right_way(images):
    image = images["image_hr"]
    shift = np.eye(4)
    # a grid point lies 3 mm to the right in the image: the picture moves one voxel to the left
    shift[0, 3] = 3.0
    shown = onto(image, SHAPE, FINE, shift).data
    assert np.allclose(shown[1:], image.data[:-1])


def test_guide(images, tmp_path):
    drawn = registration_figures.draw_guide(
        images["image"], *[images["image_hr"]] * 2, images["mask_hr"]
    )
    assert kept(registration_figures.draw_guide, drawn, tmp_path) == [
        ("registration", "highres.svg")
    ]


def test_motion(images, series, tmp_path):
    confounds = pd.DataFrame(
        {"trans_x": np.arange(30) / 100, "framewise_displacement": [np.nan, *[0.1] * 29]}
    )
    tpms = [images[name] for name in ("gm", "wm", "csf")]
    drawn = motion_figures.draw_motion(confounds, series["raw"], images["mask"], tpms, n_dummy=2)
    assert descs(kept(motion_figures.draw_motion, drawn, tmp_path)) == ["motion", "carpet"]


def test_the_carpet_is_thin_and_grouped(images, series, monkeypatch):
    monkeypatch.setattr(motion_figures, "_MAX_CARPET_ROWS", 20)
    tissues = {name: images[name].data for name in ("gm", "wm", "csf")}
    mask = images["mask"].data
    rows, groups = motion_figures.carpet(series["raw"], mask, tissues)
    assert rows.shape == (sum(count for _, count in groups), 30)
    assert 10 < len(rows) <= 22
    assert [name for name, _ in groups] == ["gm", "wm"]
    first = np.flatnonzero((mask > 0) & (tissues["gm"] > 0.5))[0]
    assert rows[0].tolist() == [volume.reshape(-1)[first] for volume in series["raw"].volumes()]


def test_one_slice(images, series, tmp_path):
    middle = {name: Volume(each.volume(15), each.affine) for name, each in series.items()}
    drawn = series_figures.draw_slice(
        {**middle, "srganMirror": middle["srgan"]},
        images["roi_hr"],
        images["mask_hr"],
        series_names=SERIES[1:],
    )
    assert kept(series_figures.draw_slice, drawn, tmp_path) == [("superres", "srslice.svg")]
    texts = [text.get_text() for text in drawn[0].content.axes[0].texts]
    assert {"acquired", "bspline", "srgan"} < set(texts)
    assert "srganMirror" not in texts


@pytest.mark.parametrize("background", [pytest.param("image_hr", marks=pytest.mark.slow), "image"])
def test_activation_of_every_contrast_and_smoothing(images, maps, tmp_path, background):
    drawn = maps_figures.draw_activation(
        maps,
        images["mask_hr"],
        images["roi_hr"],
        images[background],
        series_names=SERIES[1:],
        at_rest=False,
    )
    kept(maps_figures.draw_activation, drawn, tmp_path)
    assert sorted((each.entities["contrast"], each.entities["desc"]) for each in drawn) == sorted(
        (name, f"activation{fwhm}")
        for name in ("thumb", "little", "thumbMinusLittle")
        for fwhm in ("", "Fwhm50")
    )


def inside(fig) -> bool:
    """Whether nothing is cut off."""
    box, (wide, tall) = fig.get_tightbbox(), fig.get_size_inches()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= wide and box.y1 <= tall


def test_the_output_has_its_tsnr_beside_the_acquired_one_and_a_carpet(images, series, tmp_path):
    tpms = [images[name] for name in ("gm", "wm", "csf")]
    tsnr = {name: Volume(each.volume(15), each.affine) for name, each in series.items()}
    given = ({"srgan": series["srgan"]}, tsnr, images["mask_hr"], {"best": "srgan"}, tpms)
    drawn = series_figures.draw_output(*given, n_dummy=2)
    assert kept(series_figures.draw_output, drawn, tmp_path) == [
        ("superres", "madetsnr.svg"),
        ("superres", "madecarpet.svg"),
    ]
    sheet = drawn[0].content.axes[0]
    assert {text.get_text() for text in sheet.texts} >= {"acquired", "srgan"}
    assert len({image.get_clim() for image in sheet.images}) == 1  # one scale
    assert {"GM", "WM"} <= {text.get_text() for text in drawn[1].content.axes[0].texts}
    assert inside(drawn[1].content)


def test_tables_and_summaries(images, tmp_path):
    drawn = motion_figures.summarize_run(run_facts={"Run": "x"}, n_dummy=3)
    assert kept(motion_figures.summarize_run, drawn, tmp_path) == [("motion", "runsummary.html")]
    assert "<td>3</td>" in content_of(drawn, "runsummary", html=True)
    drawn = anatomy_figures.summarize_subject(subject_facts={"Runs": ["a", "b"]})
    assert kept(anatomy_figures.summarize_subject, drawn, tmp_path) == [
        ("summary", "summary.html")
    ]


def test_events_and_design_matrix_are_those_of_the_model(tmp_path: Path):
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
    drawn = maps_figures.draw_design(
        read_events(tmp_path / "events.tsv"),
        confounds,
        n_dummy=2,
        tr=2.0,
        high_pass=0.01,
        start_time=1.0,
        contrasts={
            "all": {"face": 0.5, "<house>": 0.5},
            "difference": {"face": 1.0, "<house>": -1.0},
        },
    )
    assert kept(maps_figures.draw_design, drawn, tmp_path) == [("activation", "design.svg")]
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
    events, matrix, weights = drawn[0].content.axes
    # conditions by their names
    assert [text.get_text() for text in weights.texts] == ["0.5", "0.5", "−1", "1"]
    assert [label.get_text() for label in weights.get_yticklabels()] == ["all", "difference"]
    assert inside(drawn[0].content)
    assert matrix.images[0].get_array().shape == (58, 17)
    bars = events.collections[events.get_yticks().tolist().index(1)]  # face comes second
    assert bars.get_paths()[0].get_extents().intervalx.tolist() == [20, 36]
    course = events.lines[1].get_xdata()[np.argmin(events.lines[1].get_ydata())]
    assert 26 < course < 40  # the response follows its block


def test_weights_at_rest_are_those_of_the_seeds_inside_the_field_of_view(tmp_path: Path):
    rng = np.random.default_rng(1)
    seeds = Seeds.of(pd.DataFrame(rng.standard_normal((60, 2)), columns=["motor", "visual"]))
    contrasts = {name: {name: 1.0} for name in ("motor", "visual", "outside")}
    names = [
        f"{kind}_{axis}{end}"
        for end in ("", "_derivative1")
        for kind in ("trans", "rot")
        for axis in "xyz"
    ]
    confounds = pd.DataFrame(rng.standard_normal((60, 12)), columns=names)
    drawn = maps_figures.draw_design(
        seeds,
        confounds,
        tr=2.0,
        high_pass=0.01,
        start_time=1.0,
        contrasts=contrasts,
    )
    assert kept(maps_figures.draw_design, drawn, tmp_path) == [("activation", "design.svg")]
    assert [label.get_text() for label in drawn[0].content.axes[2].get_yticklabels()] == [
        "motor",
        "visual",
    ]


def test_maps_in_a_template_space_are_left_out(images):
    own = {"space": "MNI", "contrast": "thumb", "stat": "t", "desc": "raw", "suffix": "statmap"}
    assert not run_maps_figures.sort_maps([Derivative(images["image"], own)]).stats


def test_a_run_at_rest_has_connectivity(images, maps, tmp_path):
    drawn = maps_figures.draw_activation(
        maps,
        images["mask_hr"],
        images["roi_hr"],
        images["image_hr"],
        series_names=(),
        at_rest=True,
    )
    kept(maps_figures.draw_activation, drawn, tmp_path)
    assert {each.entities["desc"] for each in drawn} == {"connectivity", "connectivityFwhm50"}
