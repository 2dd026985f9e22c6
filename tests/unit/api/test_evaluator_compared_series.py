"""Compare series of other programs in Python and with `bids-sr-evaluate`; their verdicts are
known.
"""

import json

import numpy as np
import pytest
from shortrun import EVENTS, FACTOR, FINE, TR

from bids_sr import Evaluator
from bids_sr.api.image_inputs import ImageInputError
from bids_sr.cli.evaluate_main import main
from bids_sr.glm.smoothing import smooth
from bids_sr.io.nifti import load_image, save_image
from bids_sr.sr.matrices import kspace_crop, upsample

SETTINGS = {"baselines": ["zerofill"], "n_boot": 100}


@pytest.fixture(scope="module")
def series(run, tmp_path_factory):
    """Write series whose verdicts are known: smoothed, with the measured detail, with mirrored
    detail, and shifted.
    """
    folder = tmp_path_factory.mktemp("compared")
    bold, affine = load_image(run / "bold.nii")
    truth, _ = load_image(run / "truth.nii")
    n_volumes = bold.shape[3]
    truth_lowres = np.stack(
        [kspace_crop(truth[..., t], FINE, factor=FACTOR)[0] for t in range(n_volumes)], -1
    )
    zero_filled = np.stack(
        [upsample("zerofill", bold[..., t], FACTOR) for t in range(n_volumes)], -1
    )
    detail = truth - np.stack(
        [upsample("zerofill", truth_lowres[..., t], FACTOR) for t in range(n_volumes)], -1
    )
    data_and_grids = {
        "smoothed": (
            np.stack([smooth(bold[..., t], (3, 3, 4), 6.0) for t in range(n_volumes)], -1),
            affine,
        ),
        "finer": (zero_filled + detail, FINE),
        "mirrored": (zero_filled + detail[::-1], FINE),
        "shifted": (np.roll(bold, 1, 0), affine),
    }
    for name, (data, grid) in data_and_grids.items():
        save_image(data.astype(np.float32), grid, folder / f"{name}.nii", tr=TR)
    return {name: folder / f"{name}.nii" for name in data_and_grids}


@pytest.fixture(scope="module")
def judged(run, series):
    compared = {name: series[name] for name in ("smoothed", "finer", "mirrored")}
    return Evaluator(**SETTINGS).fit(
        run / "bold.nii",
        motion=run / "hmc.txt",
        compared=compared,
        events=EVENTS,
        mask=run / "mask.nii",
        truth=run / "truth.nii",
    )


def test_true_detail_is_more_accurate_and_mirrored_detail_is_less_accurate(judged):
    verdicts = {verdict["name"]: verdict for verdict in judged.compared_}
    assert {name: verdict["status"] for name, verdict in verdicts.items()} == {
        "smoothed": "less accurate",
        "finer": "more accurate",
        "mirrored": "less accurate",
    }
    decisions = {name: verdict["decisions"] for name, verdict in verdicts.items()}
    assert decisions["finer"]["beyond"] == "better"
    assert decisions["mirrored"]["beyond"] == "worse"
    assert decisions["smoothed"]["beyond"] != "better"


def test_compared_series_are_in_table_summary_and_page(judged, tmp_path):
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


def test_another_run_is_a_reference_below_the_acquired_nyquist_frequency(run, series):
    evaluated = Evaluator(**SETTINGS).fit(
        run / "bold.nii",
        motion=run / "hmc.txt",
        compared={"smoothed": series["smoothed"]},
        events=EVENTS,
        mask=run / "mask.nii",
        other_run=run / "bold.nii.gz",
        other_events=run / "events.tsv",
    )
    (verdict,) = evaluated.compared_
    assert [*verdict["references"].values()] == ["another acquired run of the task"]
    assert "it is on the acquired grid" in verdict["text"]
    assert (
        (evaluated.table_.statistic == "ev") & (evaluated.table_.reference == "otherRun")
    ).any()
    assert "Agreement with the other run" in str(evaluated.generate_report())


def test_without_a_reference_the_verdict_says_which_scan_is_missing(run, series):
    (verdict,) = (
        Evaluator(**SETTINGS)
        .fit(
            run / "bold.nii",
            motion=run / "hmc.txt",
            compared={"finer": series["finer"]},
            events=EVENTS,
            mask=run / "mask.nii",
        )
        .compared_
    )
    assert verdict["status"] == "not assessed"
    assert "scan the task twice" in verdict["text"]
    assert "pass the measurement as truth" in verdict["text"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compared": {"bspline": "x.nii"}}, "compared: 'bspline' is not a valid name"),
        ({"compared": {"x": "nowhere.nii"}}, "x: the file nowhere.nii does not exist"),
        ({"compared": {}, "series": {}}, "expected a dictionary"),
        ({"compared": ["a"]}, "compared: expected a dictionary that maps names"),
    ],
)
def test_invalid_arguments_are_rejected_before_the_run_is_read(
    run, arguments, message, monkeypatch
):
    monkeypatch.setattr("bids_sr.api.evaluator.fit_basics", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(ImageInputError, match=message):
        Evaluator(**SETTINGS).fit(
            run / "bold.nii", events=EVENTS, mask=run / "mask.nii", **arguments
        )


def test_other_run_without_its_events_is_rejected(run, series):
    with pytest.raises(
        ImageInputError, match="other_run, other_events: a second run can only be compared"
    ):
        Evaluator(**SETTINGS).fit(
            run / "bold.nii",
            compared={"finer": series["finer"]},
            events=EVENTS,
            other_run=run / "bold.nii",
        )


def test_series_of_another_grid_timing_or_position_are_rejected(run, series, tmp_path):
    bold, affine = load_image(run / "bold.nii")
    save_image(bold[..., :-1], affine, tmp_path / "short.nii", tr=TR)
    save_image(bold, affine, tmp_path / "slow.nii", tr=1.5 * TR)
    shifted_affine = affine.copy()
    shifted_affine[0, 3] += 3
    save_image(bold, shifted_affine, tmp_path / "away.nii", tr=TR)
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
    for name, (file, message) in files.items():
        with pytest.raises(ImageInputError, match=message):
            Evaluator(**SETTINGS).fit(
                run / "bold.nii", compared={name: file}, events=EVENTS, mask=run / "mask.nii"
            )


def test_the_command_prints_the_verdict_and_writes_three_files(run, series, tmp_path, capsys):
    argv = [str(run / "bold.nii"), f"finer={series['finer']}", "--events", str(run / "events.tsv")]
    argv += ["--truth", str(run / "truth.nii"), "--mask", str(run / "mask.nii")]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    assert "finer is more accurate than the acquired series." in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "verdict.json",
        "evaluation.tsv",
        "report.html",
    }
    (verdict,) = json.loads((tmp_path / "out" / "verdict.json").read_text())["compared"]
    assert (verdict["name"], verdict["status"]) == ("finer", "more accurate")


def test_invalid_input_of_the_command_exits_with_code_2(run, series, tmp_path, capsys):
    argv = [
        str(run / "bold.nii"),
        f"shifted={series['shifted']}",
        "--events",
        str(run / "events.tsv"),
    ]
    assert main(argv) == 2
    assert "+1.00 voxels along x" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere.nii"), *argv[1:]]) == 2
    for arguments in (
        ["x=a", "x=b"],
        ["x"],
        ["x=a", "--other-run", "b.nii"],
        ["x=a", "--truth", "a.nii", "b.nii"],
    ):
        assert main([argv[0], *arguments, "--events", "e.tsv"]) == 2


def test_advice_of_the_command_names_its_options(run, series, tmp_path, capsys):
    argv = [str(run / "bold.nii"), f"finer={series['finer']}", "--events", str(run / "events.tsv")]
    argv += ["--mask", str(run / "mask.nii"), "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    shown, page = capsys.readouterr().out, (tmp_path / "out" / "report.html").read_text()
    for text in (shown, page):
        assert "--other-run and --other-events" in text
        assert "--truth FILE" in text
        assert "other_run" not in text
        assert "Evaluator.fit" not in text
