"""The evaluator: what comes out for truth, halves and seeds, and what it refuses."""

import copy
import logging

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from shortrun import EVENTS
from sklearn.exceptions import NotFittedError

from bids_sr import Evaluator, SuperResolver
from bids_sr.api.evaluation_inputs import confounds_of
from bids_sr.api.image_inputs import ImageInputError, SuperResolutionWarning
from bids_sr.io.nifti import load_image
from bids_sr.metrics.rows import COLUMNS

PLAIN = {"baselines": ["zerofill"], "n_boot": 20, "realigned": True}


@pytest.fixture(scope="module")
def lanczos(run):
    """A series that is no baseline by default, as an image in memory."""
    return SuperResolver("lanczos", realigned=True).fit_transform(
        run / "bold.nii", mask=run / "mask.nii"
    )


@pytest.fixture(scope="module")
def halves(run, lanczos):
    """An evaluation without a reference."""
    return Evaluator(**PLAIN).fit(
        run / "bold.nii", series={"mine": lanczos}, events=EVENTS, mask=run / "mask.nii"
    )


@pytest.fixture(scope="module")
def measured(run, lanczos):
    """An evaluation against the measured series."""
    return Evaluator(**PLAIN).fit(
        run / "bold.nii",
        series={"mine": lanczos},
        events=EVENTS,
        mask=run / "mask.nii",
        truth=run / "truth.nii",
    )


def test_without_a_truth_nothing_is_compared_or_claimed(halves, tmp_path):
    table = halves.table_
    assert list(table) == list(COLUMNS)
    assert set(table.series) == {"mine"}
    assert set(table.minus) == {"n/a"}  # no differences
    assert not any(sentence.get("decision") for sentence in halves.verdict_["sentences"])
    assert table.value.dtype == float
    assert not (table.query("statistic == 'verdict_function'").value == 1).any()
    told = halves.summary()
    assert told.startswith(halves.verdict_["headline"])
    assert "\nLimitations\n- " in told
    assert "as truth to Evaluator.fit" in told
    assert "--" not in told, "options of the command line are of no use in Python"
    halves.generate_report().save_as_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<svg" not in page, "there is nothing to draw"
    assert page.count("Accuracy of ") == 2, "title and heading"
    assert "roi" not in set(halves.table_.region), "none was given: it would repeat the brain"


@pytest.mark.parametrize(
    ("status", "color"),
    [("more accurate", "#009e73"), ("not more accurate", "#d55e00"), ("not assessed", "#d55e00")],
)
def test_the_page_is_green_for_a_positive_verdict_alone(halves, status, color):
    fitted = copy.copy(halves)
    better = [{"text": "mine exceeds bspline.", "decision": "better"}]
    fitted.verdict_ = halves.verdict_ | {"status": status, "sentences": better}
    assert f"border-left:4px solid {color}" in str(fitted.generate_report())


def test_a_repetition_time_without_a_unit_is_none(run, lanczos, halves, tmp_path):
    image = nib.Nifti1Image(*load_image(run / "bold.nii"))
    assert image.header["pixdim"][4] == 1, "which nibabel takes where nobody tells"
    nib.save(image, tmp_path / "silent.nii")
    nib.save(image, tmp_path / "silent.nii.gz")
    given = {"series": {"mine": lanczos}, "events": EVENTS, "mask": run / "mask.nii"}
    for silent in (image, tmp_path / "silent.nii", tmp_path / "silent.nii.gz"):
        with pytest.raises(ImageInputError, match=r"tr: .* repetition time .*Pass tr"):
            Evaluator(**PLAIN).fit(silent, **given)
    told = Evaluator(**PLAIN, tr=2.0).evaluate(tmp_path / "silent.nii", **given)
    pd.testing.assert_frame_equal(told, halves.table_)


@pytest.mark.parametrize(
    ("contrast", "shift", "step", "told"),
    [
        ("thumbs", 0, 1, "truth: 'thumbs' not found among the contrasts .* from .*thumb"),
        ("thumb", 20, 1, "truth: the field of view of thumb covers only [1-9].% of the brain"),
        ("thumb", 900, 1, "truth: the field of view of thumb covers only 0% of the brain"),
        (None, 20, 1, "truth: .* are up to 20 mm apart"),
        (None, 0, 2, r"truth: the grid has shape \(30, 28, 5\)"),
    ],
)
def test_a_truth_is_of_this_run_and_of_contrasts_that_there_are(
    run, lanczos, contrast, shift, step, told
):
    data, affine = load_image(run / "truth.nii")
    affine = affine @ np.diag([step, step, 1, 1])
    affine[0, 3] += shift
    data = data[::step, ::step]
    truth = (
        nib.Nifti1Image(data, affine)
        if contrast is None
        else {contrast: nib.Nifti1Image(data.std(-1), affine)}
    )
    with pytest.raises(ImageInputError, match=told):
        Evaluator(**PLAIN).fit(
            run / "bold.nii",
            series={"mine": lanczos},
            events=EVENTS,
            mask=run / "mask.nii",
            truth=truth,
        )


def test_events_from_a_file_and_an_estimator_give_the_same(run, measured):
    resolver = SuperResolver("lanczos", realigned=True).fit(
        run / "bold.nii", mask=run / "mask.nii"
    )
    again = Evaluator(**PLAIN).evaluate(
        run / "bold.nii",
        series={"mine": resolver},
        events=run / "events.tsv",
        truth=run / "truth.nii",
    )
    pd.testing.assert_frame_equal(again, measured.table_)


def test_the_truth_itself_explains_itself_and_beats_the_baselines(run):
    truth, affine = load_image(run / "truth.nii")
    rng = np.random.default_rng(0)
    true = nib.Nifti1Image((truth + rng.normal(0, 0.5, truth.shape)).astype(np.float32), affine)
    found = Evaluator(**PLAIN).fit(
        run / "bold.nii",
        series={"mine": true},
        events=EVENTS,
        mask=run / "mask.nii",
        truth=run / "truth.nii",
    )
    halves = found.table_.query(
        "statistic == 'ev' and reference == 'measured' and band == 'beyond' and minus == 'n/a'"
    )
    level = halves.query("region == 'brain' and contrast == 'all'")
    value = level.set_index("series").value
    assert value["mine"] > 0.5 > value["bspline"]
    assert "acquired40" in set(halves.region), "the acquired series was mapped"
    told = set(
        zip(
            found.table_.statistic,
            found.table_.reference,
            found.table_.minus != "n/a",
            strict=True,
        )
    )
    assert {
        ("psnr", "measured", False),
        ("psnr", "measured", True),
        ("r", "measuredMap", False),
    } <= told
    known = Evaluator(**PLAIN, contrasts=["thumb"]).fit(
        run / "bold.nii",
        series={"mine": true},
        events=EVENTS,
        mask=run / "mask.nii",
        truth={"thumb": nib.Nifti1Image(truth.std(-1), affine)},
    )
    assert set(known.contrasts_) == {"thumb"}
    assert not known.table_.query(
        "statistic == 'ev' and reference == 'truth' and band == 'beyond'"
    ).empty


def test_seeds_take_the_place_of_events(run, lanczos):
    image = nib.load(run / "mask.nii")
    center = image.affine @ [15, 14, 2, 1]
    found = Evaluator(**PLAIN).fit(
        run / "bold.nii",
        series={"mine": lanczos},
        seeds={"spot": tuple(center[:3])},
        mask=run / "mask.nii",
    )
    assert set(found.contrasts_) == {"spot"}
    assert set(found.table_.statistic) == {
        f"verdict_{name}" for name in ("applied", "function", "image", "specific")
    }
    with pytest.raises(ImageInputError, match=r"seeds: the seed far at \(900, 0, 0\)"):
        Evaluator(**PLAIN).fit(
            run / "bold.nii",
            series={"mine": lanczos},
            seeds={"far": (900, 0, 0)},
            mask=run / "mask.nii",
        )


def test_who_was_not_applied_is_named_and_compared_with_nobody(run, lanczos):
    with pytest.warns(SuperResolutionWarning, match="mine was not applied"):
        found = Evaluator(**PLAIN).fit(
            run / "bold.nii",
            series={"mine": lanczos},
            events=EVENTS,
            mask=run / "mask.nii",
            not_applied=["mine"],
        )
    assert found.table_.query("minus != 'n/a' and (series == 'mine' or minus == 'mine')").empty
    assert found.summary().startswith("mine was not applied (zero filled)")
    assert "mine was not applied (zero filled)" in str(found.generate_report())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"events": None}, "events, seeds: exactly one of these arguments"),
        ({"seeds": {"a": (0, 0, 0)}}, "events, seeds: exactly one of these arguments"),
        ({"series": {"bspline": "bold.nii"}}, "series: 'bspline' is not a valid name"),
        ({"series": {"my-own": "bold.nii"}}, "series: 'my-own' is not a valid name"),
        (
            {"series": {"mine": "bold.nii"}},
            "series: mine is not on the high-resolution grid of the run",
        ),
        ({"not_applied": ["mien"]}, "not_applied: 'mien' not found in series. Choose from mine"),
        ({"truth": "fine.nii"}, "truth: the image has 1 volumes, but the acquired series has 84"),
        (
            {"series": ["bold.nii"]},
            "series: .*images or fitted SuperResolver objects",
        ),
        ({"series": {}}, "series: expected a dictionary"),
        (
            {"series": {"mine": ["bold.nii"]}},
            "series mine: a list was passed, but there is only a single run",
        ),
        ({"events": "nowhere.tsv"}, "events: the file nowhere.tsv does not exist"),
        ({"events": [EVENTS]}, "events: a list was passed, but there is only a single run"),
        (
            {"events": EVENTS.drop(columns="duration")},
            (
                r"^events: the events table lacks required columns: duration\. .* onset, "
                r"trial_type\. Events need the columns onset \(s\), duration \(s\) and "
                r"trial_type\.$"
            ),
        ),
        (
            {"events": EVENTS.assign(onset="soon")},
            "^events: the onset in line 2 is not a number, but 'soon'",
        ),
        ({"confounds": pd.DataFrame({"trans_x": [0.0] * 3})}, "^confounds: the table has 3 rows"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(run, lanczos, given, told):
    given = {"series": {"mine": lanczos}, "events": EVENTS, "mask": run / "mask.nii"} | given
    if isinstance(given.get("truth"), str):
        given["truth"] = run / given["truth"]
    if isinstance(given["series"], dict) and "bold.nii" in given["series"].values():
        given["series"] = dict.fromkeys(given["series"], run / "bold.nii")
    with pytest.raises(ImageInputError, match=told):
        Evaluator(**PLAIN).fit(run / "bold.nii", **given)


def test_confounds_are_taken_as_nilearn_takes_them(tmp_path):
    """Tables of any columns, arrays, and files; of fMRIPrep's table head motion alone."""
    rng = np.random.default_rng(0)
    table = confounds_of(rng.standard_normal((60, 2)), 60)
    assert list(table) == ["0", "1"]
    whole = pd.DataFrame({"trans_x": 0.0, "csf": 1.0, "framewise_displacement": 0.0}, range(60))
    whole.loc[0, "framewise_displacement"] = np.nan
    whole.to_csv(tmp_path / "confounds.tsv", sep="\t", index=False, na_rep="n/a")
    assert list(confounds_of(tmp_path / "confounds.tsv", 60)) == ["trans_x"]
    assert list(confounds_of(whole[["csf"]], 60)) == ["csf"]
    for what, why in (
        (tmp_path / "none.tsv", "values that are not numbers"),
        (pd.DataFrame({"a": ["x"] * 60}), "values that are not numbers"),
        (pd.DataFrame({"a": [np.nan] * 60}), "missing values were found after the first row in a"),
    ):
        with pytest.raises(ImageInputError, match=why):
            confounds_of(what, 60)


def test_confounds_of_any_name_enter_the_models(run, lanczos):
    given = {"series": {"mine": lanczos}, "events": EVENTS, "mask": run / "mask.nii"}
    given["truth"] = run / "truth.nii"
    n_volumes = nib.load(run / "bold.nii").shape[3]
    noise = np.random.default_rng(0).standard_normal((n_volumes, 6))
    plain, cleaned = (
        Evaluator(**PLAIN).fit(run / "bold.nii", **given, confounds=confounds).table_.value
        for confounds in (None, noise)
    )
    assert len(plain) != len(cleaned) or not np.allclose(plain, cleaned, equal_nan=True)


def test_baselines_are_those_that_there_are(run, lanczos):
    with pytest.raises(ImageInputError, match="baselines: unknown baseline sinc"):
        Evaluator(baselines=["sinc"], realigned=True).fit(
            run / "bold.nii", series={"mine": lanczos}, events=EVENTS, mask=run / "mask.nii"
        )
    with pytest.raises(ImageInputError, match="guide: the method inject requires"):
        Evaluator(baselines=["inject"], realigned=True).fit(
            run / "bold.nii", series={"mine": lanczos}, events=EVENTS, mask=run / "mask.nii"
        )
    with pytest.raises(NotFittedError):
        Evaluator().fit(run / "bold.nii", series={"mine": SuperResolver()}, events=EVENTS)


def test_a_block_outside_the_run_is_told_once(run, lanczos, caplog):
    """Every step that reads the events has it to tell."""
    early = EVENTS.iloc[:1].assign(onset=4000.0)
    events = pd.concat([EVENTS, early], ignore_index=True)
    Evaluator(**PLAIN).fit(
        run / "bold.nii",
        series={"mine": lanczos},
        events=events,
        mask=run / "mask.nii",
        truth=run / "truth.nii",
    )
    assert sum("is outside the run" in text for text in caplog.messages) == 1
    assert logging.getLogger("bids_sr.glm.blocks").filters == []


def test_runs_of_a_list_are_evaluated_one_by_one(run, lanczos, measured, capsys):
    """As nilearn takes them: lists of images, of events, of confounds."""
    bold, mask = run / "bold.nii", run / "mask.nii"
    resolver = SuperResolver("lanczos", realigned=True).fit([bold, bold], mask=mask)
    shifted = EVENTS.assign(onset=EVENTS.onset + 2)
    truth = run / "truth.nii"
    made = Evaluator(**PLAIN).fit(
        [bold, bold], series={"mine": resolver}, events=[EVENTS, shifted], mask=mask, truth=truth
    )
    first = made.table_.query("run == 1").drop(columns="run").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, measured.table_)
    assert next(iter(made.table_)) == "run"
    assert set(made.table_.run) == {1, 2}
    second = made.table_.query("run == 2").reset_index(drop=True)
    assert not second.value.equals(first.value)
    assert made.summary() == f"Run 1\n{measured.summary()}\n\nRun 2\n{made.runs_[1].summary()}"
    assert str(made.generate_report()).count("<h2>Run ") == 2
    with pytest.raises(ImageInputError, match=r"events: 1 value\(s\) were passed for 2 runs"):
        made.fit([bold, bold], series={"mine": resolver}, events=[EVENTS], mask=mask)
    with pytest.raises(
        ImageInputError, match="series mine: a list was passed, but there is only a single run"
    ):
        made.fit(bold, series={"mine": resolver}, events=EVENTS, mask=mask)
    assert capsys.readouterr().out == ""
    Evaluator(**PLAIN, verbose=1).fit(bold, series={"mine": lanczos}, events=EVENTS, mask=mask)
    assert "s: judge" in capsys.readouterr().out
