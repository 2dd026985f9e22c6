"""Test `Evaluator` with a high-resolution reference, with halves of the run and with seeds, and
its errors.
"""

import copy
import logging

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from shortrun import EVENTS
from sklearn.exceptions import NotFittedError

from bids_sr import Evaluator, SuperResolver
from bids_sr.api.evaluation_inputs import load_confounds
from bids_sr.api.image_inputs import ImageInputError, SuperResolutionWarning
from bids_sr.io.nifti import load_image
from bids_sr.metrics.rows import COLUMNS

PLAIN = {"baselines": ["zerofill"], "n_boot": 20, "realigned": True}


@pytest.fixture(scope="module")
def lanczos(run):
    """Return a series that is not a default baseline, as an image in memory."""
    return SuperResolver("lanczos", realigned=True).fit_transform(
        run / "bold.nii", mask=run / "mask.nii"
    )


@pytest.fixture(scope="module")
def halves(run, lanczos):
    """Evaluate without a high-resolution reference."""
    return Evaluator(**PLAIN).fit(
        run / "bold.nii", series={"mine": lanczos}, events=EVENTS, mask=run / "mask.nii"
    )


@pytest.fixture(scope="module")
def measured(run, lanczos):
    """Evaluate against the measured high-resolution series."""
    return Evaluator(**PLAIN).fit(
        run / "bold.nii",
        series={"mine": lanczos},
        events=EVENTS,
        mask=run / "mask.nii",
        truth=run / "truth.nii",
    )


def test_no_differences_or_verdicts_without_a_high_resolution_reference(halves, tmp_path):
    table = halves.table_
    assert list(table) == list(COLUMNS)
    assert set(table.series) == {"mine"}
    assert set(table.minus) == {"n/a"}  # no differences
    assert not any(sentence.get("decision") for sentence in halves.verdict_["sentences"])
    assert table.value.dtype == float
    assert not (table.query("statistic == 'verdict_function'").value == 1).any()
    summary = halves.summary()
    assert summary.startswith(halves.verdict_["headline"])
    assert "\nLimitations\n- " in summary
    assert "as truth to Evaluator.fit" in summary
    assert "--" not in summary, "options of the command line are of no use in Python"
    halves.generate_report().save_as_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<svg" not in page, "no figures without a reference"
    assert page.count("Accuracy of ") == 2, "title and heading"
    assert "roi" not in set(halves.table_.region), (
        "a region equal to the brain would repeat its rows"
    )


@pytest.mark.parametrize(
    ("status", "color"),
    [("more accurate", "#009e73"), ("not more accurate", "#d55e00"), ("not assessed", "#d55e00")],
)
def test_only_a_positive_verdict_is_green_on_the_page(halves, status, color):
    fitted = copy.copy(halves)
    better = [{"text": "mine exceeds bspline.", "decision": "better"}]
    fitted.verdict_ = halves.verdict_ | {"status": status, "sentences": better}
    assert f"border-left:4px solid {color}" in str(fitted.generate_report())


def test_a_repetition_time_without_a_unit_is_rejected_unless_tr_is_passed(
    run, lanczos, halves, tmp_path
):
    image = nib.Nifti1Image(*load_image(run / "bold.nii"))
    assert image.header["pixdim"][4] == 1, "nibabel's default if the header has no unit"
    nib.save(image, tmp_path / "silent.nii")
    nib.save(image, tmp_path / "silent.nii.gz")
    arguments = {"series": {"mine": lanczos}, "events": EVENTS, "mask": run / "mask.nii"}
    for series in (image, tmp_path / "silent.nii", tmp_path / "silent.nii.gz"):
        with pytest.raises(ImageInputError, match=r"tr: .* repetition time .*Pass tr"):
            Evaluator(**PLAIN).fit(series, **arguments)
    table = Evaluator(**PLAIN, tr=2.0).evaluate(tmp_path / "silent.nii", **arguments)
    pd.testing.assert_frame_equal(table, halves.table_)


@pytest.mark.parametrize(
    ("contrast", "shift", "step", "message"),
    [
        ("thumbs", 0, 1, "truth: 'thumbs' not found among the contrasts .* from .*thumb"),
        ("thumb", 20, 1, "truth: the field of view of thumb covers only [1-9].% of the brain"),
        ("thumb", 900, 1, "truth: the field of view of thumb covers only 0% of the brain"),
        (None, 20, 1, "truth: .* are up to 20 mm apart"),
        (None, 0, 2, r"truth: the grid has shape \(30, 28, 5\)"),
    ],
)
def test_a_reference_of_another_grid_place_or_contrast_is_rejected(
    run, lanczos, contrast, shift, step, message
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
    with pytest.raises(ImageInputError, match=message):
        Evaluator(**PLAIN).fit(
            run / "bold.nii",
            series={"mine": lanczos},
            events=EVENTS,
            mask=run / "mask.nii",
            truth=truth,
        )


def test_an_events_file_and_a_fitted_estimator_give_the_same_table(run, measured):
    resolver = SuperResolver("lanczos", realigned=True).fit(
        run / "bold.nii", mask=run / "mask.nii"
    )
    table = Evaluator(**PLAIN).evaluate(
        run / "bold.nii",
        series={"mine": resolver},
        events=run / "events.tsv",
        truth=run / "truth.nii",
    )
    pd.testing.assert_frame_equal(table, measured.table_)


def test_the_noisy_truth_explains_more_than_the_baselines(run):
    truth, affine = load_image(run / "truth.nii")
    rng = np.random.default_rng(0)
    noisy_truth = nib.Nifti1Image(
        (truth + rng.normal(0, 0.5, truth.shape)).astype(np.float32), affine
    )
    evaluated = Evaluator(**PLAIN).fit(
        run / "bold.nii",
        series={"mine": noisy_truth},
        events=EVENTS,
        mask=run / "mask.nii",
        truth=run / "truth.nii",
    )
    ev_rows = evaluated.table_.query(
        "statistic == 'ev' and reference == 'measured' and band == 'beyond' and minus == 'n/a'"
    )
    brain_rows = ev_rows.query("region == 'brain' and contrast == 'all'")
    explained = brain_rows.set_index("series").value
    assert explained["mine"] > 0.5 > explained["bspline"]
    assert "acquired40" in set(ev_rows.region), "the acquired series was mapped"
    metrics = set(
        zip(
            evaluated.table_.statistic,
            evaluated.table_.reference,
            evaluated.table_.minus != "n/a",
            strict=True,
        )
    )
    assert {
        ("psnr", "measured", False),
        ("psnr", "measured", True),
        ("r", "measuredMap", False),
    } <= metrics
    from_maps = Evaluator(**PLAIN, contrasts=["thumb"]).fit(
        run / "bold.nii",
        series={"mine": noisy_truth},
        events=EVENTS,
        mask=run / "mask.nii",
        truth={"thumb": nib.Nifti1Image(truth.std(-1), affine)},
    )
    assert set(from_maps.contrasts_) == {"thumb"}
    assert not from_maps.table_.query(
        "statistic == 'ev' and reference == 'truth' and band == 'beyond'"
    ).empty


def test_seeds_replace_events(run, lanczos):
    image = nib.load(run / "mask.nii")
    center = image.affine @ [15, 14, 2, 1]
    evaluated = Evaluator(**PLAIN).fit(
        run / "bold.nii",
        series={"mine": lanczos},
        seeds={"spot": tuple(center[:3])},
        mask=run / "mask.nii",
    )
    assert set(evaluated.contrasts_) == {"spot"}
    assert set(evaluated.table_.statistic) == {
        f"verdict_{name}" for name in ("applied", "function", "image", "specific")
    }
    with pytest.raises(ImageInputError, match=r"seeds: the seed far at \(900, 0, 0\)"):
        Evaluator(**PLAIN).fit(
            run / "bold.nii",
            series={"mine": lanczos},
            seeds={"far": (900, 0, 0)},
            mask=run / "mask.nii",
        )


def test_a_method_that_was_not_applied_is_named_and_not_compared(run, lanczos):
    with pytest.warns(SuperResolutionWarning, match="mine was not applied"):
        evaluated = Evaluator(**PLAIN).fit(
            run / "bold.nii",
            series={"mine": lanczos},
            events=EVENTS,
            mask=run / "mask.nii",
            not_applied=["mine"],
        )
    assert evaluated.table_.query("minus != 'n/a' and (series == 'mine' or minus == 'mine')").empty
    assert evaluated.summary().startswith("mine was not applied (zero filled)")
    assert "mine was not applied (zero filled)" in str(evaluated.generate_report())


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_invalid_arguments_are_rejected_by_name(run, lanczos, arguments, message):
    arguments = {
        "series": {"mine": lanczos},
        "events": EVENTS,
        "mask": run / "mask.nii",
    } | arguments
    if isinstance(arguments.get("truth"), str):
        arguments["truth"] = run / arguments["truth"]
    if isinstance(arguments["series"], dict) and "bold.nii" in arguments["series"].values():
        arguments["series"] = dict.fromkeys(arguments["series"], run / "bold.nii")
    with pytest.raises(ImageInputError, match=message):
        Evaluator(**PLAIN).fit(run / "bold.nii", **arguments)


def test_confounds_can_be_tables_arrays_or_files(tmp_path):
    """From a table of fMRIPrep, the columns of the program's models are used; from other tables,
    all columns.
    """
    rng = np.random.default_rng(0)
    table = load_confounds(rng.standard_normal((60, 2)), 60)
    assert list(table) == ["0", "1"]
    columns = {"trans_x": 0.0, "csf": 1.0, "framewise_displacement": 0.0}
    components = {f"a_comp_cor_{k:02d}": 1.0 for k in range(7)}
    fmriprep_table = pd.DataFrame(columns | components, range(60))
    fmriprep_table.loc[0, "framewise_displacement"] = np.nan
    fmriprep_table.loc[5, "a_comp_cor_02"] = np.nan
    fmriprep_table.to_csv(tmp_path / "confounds.tsv", sep="\t", index=False, na_rep="n/a")
    assert list(load_confounds(tmp_path / "confounds.tsv", 60)) == [
        "framewise_displacement",
        "trans_x",
        *(f"a_comp_cor_{k:02d}" for k in (0, 1, 3, 4, 5)),
    ]
    assert list(load_confounds(fmriprep_table[["csf"]], 60)) == ["csf"]
    for confounds, message in (
        (tmp_path / "none.tsv", "values that are not numbers"),
        (pd.DataFrame({"a": ["x"] * 60}), "values that are not numbers"),
        (pd.DataFrame({"a": [np.nan] * 60}), "missing values were found after the first row in a"),
    ):
        with pytest.raises(ImageInputError, match=message):
            load_confounds(confounds, 60)


def test_confounds_of_any_name_enter_the_models(run, lanczos):
    arguments = {"series": {"mine": lanczos}, "events": EVENTS, "mask": run / "mask.nii"}
    arguments["truth"] = run / "truth.nii"
    n_volumes = nib.load(run / "bold.nii").shape[3]
    noise = np.random.default_rng(0).standard_normal((n_volumes, 6))
    without_confounds, with_confounds = (
        Evaluator(**PLAIN).fit(run / "bold.nii", **arguments, confounds=confounds).table_.value
        for confounds in (None, noise)
    )
    assert len(without_confounds) != len(with_confounds) or not np.allclose(
        without_confounds, with_confounds, equal_nan=True
    )


def test_unknown_or_incomplete_methods_are_rejected(run, lanczos):
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


def test_a_block_outside_the_run_is_reported_once(run, lanczos, caplog):
    """Several steps read the events, but only one of them logs the warning."""
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


def test_a_list_of_runs_is_evaluated_run_by_run(run, lanczos, measured, capsys):
    """As in nilearn, images, events and confounds can be lists."""
    bold, mask = run / "bold.nii", run / "mask.nii"
    resolver = SuperResolver("lanczos", realigned=True).fit([bold, bold], mask=mask)
    shifted = EVENTS.assign(onset=EVENTS.onset + 2)
    truth = run / "truth.nii"
    evaluated = Evaluator(**PLAIN).fit(
        [bold, bold], series={"mine": resolver}, events=[EVENTS, shifted], mask=mask, truth=truth
    )
    first = evaluated.table_.query("run == 1").drop(columns="run").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, measured.table_)
    assert next(iter(evaluated.table_)) == "run"
    assert set(evaluated.table_.run) == {1, 2}
    second = evaluated.table_.query("run == 2").reset_index(drop=True)
    assert not second.value.equals(first.value)
    assert (
        evaluated.summary()
        == f"Run 1\n{measured.summary()}\n\nRun 2\n{evaluated.runs_[1].summary()}"
    )
    assert str(evaluated.generate_report()).count("<h2>Run ") == 2
    with pytest.raises(ImageInputError, match=r"events: 1 value\(s\) were passed for 2 runs"):
        evaluated.fit([bold, bold], series={"mine": resolver}, events=[EVENTS], mask=mask)
    with pytest.raises(
        ImageInputError, match="series mine: a list was passed, but there is only a single run"
    ):
        evaluated.fit(bold, series={"mine": resolver}, events=EVENTS, mask=mask)
    assert capsys.readouterr().out == ""
    Evaluator(**PLAIN, verbose=1).fit(bold, series={"mine": lanczos}, events=EVENTS, mask=mask)
    assert "s: decide verdict" in capsys.readouterr().out
