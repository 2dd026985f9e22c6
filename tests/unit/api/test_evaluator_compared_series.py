"""Series of other programs in Python and in `bids-sr-evaluate`: one code, and the verdicts of a
known truth.
"""

import json

import nibabel as nib
import numpy as np
import pytest
from shortrun import EVENTS, FACTOR, FINE, TR

from bids_sr import Evaluator
from bids_sr.api.image_inputs import ImageInputError
from bids_sr.cli.evaluate_main import main
from bids_sr.glm.smoothing import smooth
from bids_sr.io.nifti import load_image, save_image
from bids_sr.sr.matrices import kspace_crop, upsample

HOW = {"baselines": ["zerofill"], "n_boot": 100}


@pytest.fixture(scope="module")
def series(run, tmp_path_factory):
    """Files of series whose verdict is known: less noise, smoothed, the detail measured, detail
    mirrored, shifted.
    """
    folder = tmp_path_factory.mktemp("compared")
    bold, affine = load_image(run / "bold.nii")
    truth, _ = load_image(run / "truth.nii")
    count = bold.shape[3]
    low = np.stack([kspace_crop(truth[..., t], FINE, factor=FACTOR)[0] for t in range(count)], -1)
    fine = np.stack([upsample("zerofill", bold[..., t], FACTOR) for t in range(count)], -1)
    detail = truth - np.stack(
        [upsample("zerofill", low[..., t], FACTOR) for t in range(count)], -1
    )
    made = {
        "smoothed": (
            np.stack([smooth(bold[..., t], (3, 3, 4), 6.0) for t in range(count)], -1),
            affine,
        ),
        "finer": (fine + detail, FINE),
        "mirrored": (fine + detail[::-1], FINE),
        "shifted": (np.roll(bold, 1, 0), affine),
    }
    for name, (data, grid) in made.items():
        save_image(data.astype(np.float32), grid, folder / f"{name}.nii", tr=TR)
    return {name: folder / f"{name}.nii" for name in made}


@pytest.fixture(scope="module")
def judged(run, series):
    compared = {name: series[name] for name in ("smoothed", "finer", "mirrored")}
    return Evaluator(**HOW).fit(
        run / "bold.nii",
        motion=run / "hmc.txt",
        compared=compared,
        events=EVENTS,
        mask=run / "mask.nii",
        truth=run / "truth.nii",
    )


def test_true_detail_comes_out_truer_and_invented_detail_is_found_out(judged):
    found = {each["name"]: each for each in judged.compared_}
    assert {name: each["status"] for name, each in found.items()} == {
        "smoothed": "less accurate",
        "finer": "more accurate",
        "mirrored": "less accurate",
    }
    bands = {name: each["decisions"] for name, each in found.items()}
    assert bands["finer"]["beyond"] == "better"
    assert bands["mirrored"]["beyond"] == "worse"
    assert bands["smoothed"]["beyond"] != "better"


def test_table_summary_and_page_have_them(judged, tmp_path):
    rows = judged.table_
    assert set(rows[rows.statistic == "compared_fwhm"].series) == {"smoothed", "finer", "mirrored"}
    control = rows.query(
        "series == 'smoothed' and minus == 'smoothedSame' and statistic == 'ev' and band =="
        " 'within'"
    )
    assert len(control) > 0
    width = rows.query("series == 'smoothed' and statistic == 'compared_fwhm'").value.item()
    assert width == pytest.approx(6.0, abs=2.5)  # a Gaussian of two voxels, sampled coarsely
    assert judged.summary().startswith(judged.compared_[0]["text"])
    assert judged.verdict_["status"] == "not assessed", "no method of the program was run"
    judged.generate_report().save_as_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Series of other programs, compared with the acquired series" in page
    assert judged.compared_[0]["text"].replace(">", "&gt;") in page
    assert "Evidence" not in page, "no method of the program was run"
    assert "has no high-resolution reference" not in page
    assert "series are interpolations" not in page


def test_another_run_is_a_reference_within_the_acquired_band(run, series):
    found = Evaluator(**HOW).fit(
        run / "bold.nii",
        motion=run / "hmc.txt",
        compared={"smoothed": series["smoothed"]},
        events=EVENTS,
        mask=run / "mask.nii",
        other_run=run / "bold.nii.gz",
        other_events=run / "events.tsv",
    )
    (one,) = found.compared_
    assert [*one["references"].values()] == ["another acquired run of the task"]
    assert "it is on the acquired grid" in one["text"]
    assert ((found.table_.statistic == "ev") & (found.table_.reference == "otherRun")).any()
    assert "Agreement with the other run" in str(found.generate_report())


def test_without_a_reference_nothing_is_assessed_and_what_to_scan_is_said(run, series):
    (one,) = (
        Evaluator(**HOW)
        .fit(
            run / "bold.nii",
            motion=run / "hmc.txt",
            compared={"finer": series["finer"]},
            events=EVENTS,
            mask=run / "mask.nii",
        )
        .compared_
    )
    assert one["status"] == "not assessed"
    assert "scan the task twice" in one["text"]
    assert "pass the measurement as truth" in one["text"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"compared": {"bspline": "x.nii"}}, "compared: 'bspline' is not a valid name"),
        ({"compared": {"x": "nowhere.nii"}}, "x: the file nowhere.nii does not exist"),
        ({"compared": {}, "series": {}}, "expected a dictionary"),
        ({"compared": ["a"]}, "compared: expected a dictionary that maps names"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_the_work(run, given, why, monkeypatch):
    monkeypatch.setattr("bids_sr.api.evaluator.find_run", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(ImageInputError, match=why):
        Evaluator(**HOW).fit(run / "bold.nii", events=EVENTS, mask=run / "mask.nii", **given)


def test_one_of_other_run_and_its_events_alone_is_refused(run, series):
    with pytest.raises(
        ImageInputError, match="other_run, other_events: a second run can only be compared"
    ):
        Evaluator(**HOW).fit(
            run / "bold.nii",
            compared={"finer": series["finer"]},
            events=EVENTS,
            other_run=run / "bold.nii",
        )


def test_grids_times_and_shifts_that_do_not_fit_are_refused(run, series, tmp_path):
    bold, affine = load_image(run / "bold.nii")
    save_image(bold[..., :-1], affine, tmp_path / "short.nii", tr=TR)
    save_image(bold, affine, tmp_path / "slow.nii", tr=1.5 * TR)
    away = affine.copy()
    away[0, 3] += 3
    save_image(bold, away, tmp_path / "away.nii", tr=TR)
    save_image(bold[::2], affine, tmp_path / "coarse.nii", tr=TR)
    files = {
        "short": (tmp_path / "short.nii", "the series has 83 volumes, but its run has 84 volumes"),
        "slow": (
            tmp_path / "slow.nii",
            "repetition time of the series is 3 s, but the repetition time of its run is 2 s",
        ),
        "away": (tmp_path / "away.nii", "outer edges are shifted by up to 3 mm"),
        "coarse": (
            tmp_path / "coarse.nii",
            "size 15×28×5 is smaller than .* 30×28×5",
        ),
        "shifted": (series["shifted"], r"\+1.00 voxels along x"),
    }
    for name, (file, why) in files.items():
        with pytest.raises(ImageInputError, match=why):
            Evaluator(**HOW).fit(
                run / "bold.nii", compared={name: file}, events=EVENTS, mask=run / "mask.nii"
            )


def test_the_command_says_a_line_on_each_and_writes_what_was_asked_for(
    run, series, tmp_path, capsys
):
    argv = [str(run / "bold.nii"), f"finer={series['finer']}", "--events", str(run / "events.tsv")]
    argv += ["--truth", str(run / "truth.nii"), "--mask", str(run / "mask.nii")]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    assert "finer is more accurate than the acquired series." in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "verdict.json",
        "evaluation.tsv",
        "report.html",
    }
    (told,) = json.loads((tmp_path / "out" / "verdict.json").read_text())["compared"]
    assert (told["name"], told["status"]) == ("finer", "more accurate")


def test_wrong_input_of_the_command_ends_with_code_2(run, series, tmp_path, capsys):
    argv = [
        str(run / "bold.nii"),
        f"shifted={series['shifted']}",
        "--events",
        str(run / "events.tsv"),
    ]
    assert main(argv) == 2
    assert "+1.00 voxels along x" in capsys.readouterr().err
    image = nib.load(run / "bold.nii")
    assert main([str(tmp_path / "nowhere.nii"), *argv[1:]]) == 2
    for wrong in (
        ["x=a", "x=b"],
        ["x"],
        ["x=a", "--other-run", "b.nii"],
        ["x=a", "--truth", "a.nii", "b.nii"],
    ):
        assert main([argv[0], *wrong, "--events", "e.tsv"]) == 2
    assert image.shape[3] == 84


def test_the_command_gives_advice_in_its_own_options(run, series, tmp_path, capsys):
    argv = [str(run / "bold.nii"), f"finer={series['finer']}", "--events", str(run / "events.tsv")]
    argv += ["--mask", str(run / "mask.nii"), "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    shown, page = capsys.readouterr().out, (tmp_path / "out" / "report.html").read_text()
    for text in (shown, page):
        assert "--other-run and --other-events" in text
        assert "--truth FILE" in text
        assert "other_run" not in text
        assert "Evaluator.fit" not in text
