"""Test the benchmark on participants' runs: data sets, wrong calibrations, and means over
participants.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import _people_calibrations as calibrations
import _people_data as data
import _people_runs as runs
import _people_tables as tables
import nibabel as nib
import numpy as np
import numpy.testing as npt
import pytest

from bids_sr.engine.metric_rows import MetricRow

ZOOMS = (3.0, 3.0, 3.5)


def head(volumes: int = 12) -> np.ndarray:
    """Return a bright box that fluctuates in one column."""
    series = np.full((24, 20, 4, volumes), 10.0, dtype=np.float32)
    series[6:18, 4:16] = 500
    series[10, 10] += 20 * np.sin(np.arange(volumes))
    return series


def test_tested_and_calibration_volumes_do_not_overlap() -> None:
    for tested in {**data.TESTED, **data.MIDDLE}.values():
        for part in filter(None, (tested.calibration, tested.after)):
            assert part.end is not None
            assert part.end - part.first in (19, 20)
            # the reference of A is the localizer from its volume 20 on
            first = 20 if "lowres-truth" in tested.run.file else tested.run.first
            same_file = part.file == tested.run.file or "localizer/" in part.file
            before_or_after = part.end <= first or (
                tested.run.end is not None and part.first >= tested.run.end
            )
            assert not same_file or before_or_after


def test_fluctuations_are_shifted_and_the_mean_is_unchanged() -> None:
    series = head()
    out = calibrations.fluctuations_moved(x=1)(series, ZOOMS)
    npt.assert_allclose(out.mean(-1), series.mean(-1), rtol=1e-6)
    assert np.unravel_index(out.std(-1).argmax(), out.shape[:3])[:2] == (11, 10)
    out = calibrations.fluctuations_moved(y=2)(series, ZOOMS)
    assert np.unravel_index(out.std(-1).argmax(), out.shape[:3])[:2] == (10, 12)


def test_a_distortion_acts_along_y() -> None:
    series = head(2)
    series[:, :, :, 1] = series[..., 0]
    plain = np.broadcast_to(np.arange(20.0, dtype=np.float32)[:, None, None], (24, 20, 4, 2)) * 1.0
    inside = series.copy()
    inside[6:18, 4:16] += plain[6:18, 4:16]
    out = calibrations.distorted_by(1.0)(inside, ZOOMS)
    assert out.shape == series.shape
    assert np.abs(out - inside).max() > 1
    # intensities constant along y change only by stretching
    npt.assert_allclose(out[:4], inside[:4], rtol=0.5)


def test_a_spike_affects_one_volume_and_every_other_slice() -> None:
    series = head()
    changed = calibrations.with_spike(series, ZOOMS) != series
    assert set(np.argwhere(changed)[:, 3]) == {calibrations.SPIKE_AT}
    assert set(np.argwhere(changed)[:, 2]) == {0, 2}


def test_events_are_shifted_to_the_first_volume_and_merged_into_one_type(tmp_path: Path) -> None:
    file = tmp_path / "events.tsv"
    file.write_text("onset\tduration\ttrial_type\n10.5\t4\tliving\n30\t4\tgaussian\n")
    assert data.moved_events(file, 10.0, one_type=True).splitlines()[1:] == [
        "0.500\t4\tstimulus",
        "20.000\t4\tstimulus",
    ]
    assert "gaussian" in data.moved_events(file, 0.0, one_type=False)


@pytest.fixture
def study(tmp_path: Path) -> tuple[data.Tested, Path]:
    func = tmp_path / "data" / "set" / "sub-01" / "func"
    func.mkdir(parents=True)
    (tmp_path / "data" / "set" / "dataset_description.json").write_text("{}")
    image = nib.Nifti1Image(np.round(head()).astype(np.int16), np.diag([3.0, 3.0, 3.5, 1.0]))
    image.header["pixdim"][4] = 2.0
    nib.save(image, func / "sub-01_task-see_bold.nii.gz")
    (func / "sub-01_task-see_bold.json").write_text(
        json.dumps({"TaskName": "see", "RepetitionTime": 2.0})
    )
    (func / "sub-01_task-see_events.tsv").write_text("onset\tduration\ttrial_type\n12\t4\ta\n")
    file = "set/sub-01/func/sub-01_task-see_bold.nii.gz"
    part = data.Part(file=file, first=0, end=4)
    return data.Tested(
        name="S", title="S", person="S", run=data.Part(file=file, first=4), calibration=part
    ), tmp_path


def test_data_sets_of_a_run(study: tuple[data.Tested, Path]) -> None:
    tested, folder = study
    low, truth = data.make_tested(tested, folder / "data", folder / "out")
    shapes = [nib.load(next(place.rglob("*_bold.nii.gz"))).shape for place in (low, truth)]
    assert shapes == [(12, 10, 4, 8), (24, 20, 4, 8)]
    assert next(low.rglob("*_events.tsv")).read_text().splitlines()[1] == "4.000\t4\ta"
    file = calibrations.make_calibration("mirrored", tested, folder / "data", folder / "out")
    assert file.name == "sub-01_task-see_acq-mirrored_bold.nii.gz"
    calibration, run_image = nib.load(file), nib.load(folder / "data" / tested.run.file)
    npt.assert_array_equal(
        np.asarray(calibration.dataobj), np.asarray(run_image.dataobj)[::-1, ..., :4]
    )
    assert not list(file.parent.glob("*_events.tsv"))  # no task to regress out
    assert calibration.header["pixdim"][4] == 2.0


def test_noise_is_restored_to_the_level_of_a_measured_voxel(
    study: tuple[data.Tested, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cropping to a quarter of k-space halves the standard deviation of noise."""
    tested, folder = study
    monkeypatch.setattr(data, "thermal_noise", lambda *_: 40.0)
    sd = {}
    for noisy in (False, True):
        tested_with_noise = replace(tested, name=f"S{noisy}", noisy=noisy)
        low, _ = data.make_tested(tested_with_noise, folder / "data", folder / "out")
        series = nib.load(next(low.rglob("*_bold.nii.gz"))).get_fdata()
        sd[noisy] = series[4:8, 3:7].std(-1, ddof=1).mean()
    assert sd[False] < 2
    assert sd[True] == pytest.approx(40 * np.sqrt(3 / 4), rel=0.15)


def test_the_explained_share_is_one_for_the_truth_and_zero_for_zero_filling() -> None:
    rng = np.random.default_rng(0)
    truth = head(60) + rng.normal(size=(24, 20, 4, 60)).astype(np.float32)
    zero = truth + rng.normal(size=truth.shape).astype(np.float32)
    half = truth + (zero - truth) / 2
    assert runs.share(zero, truth, truth) == pytest.approx(1)
    assert runs.share(zero, zero, truth) == pytest.approx(0)
    assert runs.share(zero, half, truth) == pytest.approx(0.75, abs=0.01)


def test_means_are_over_participants() -> None:
    def metric_rows(value: float) -> dict[str, list[MetricRow]]:
        return {
            name: [MetricRow(series="sbl", statistic="m", value=value)] * 2
            for name in tables.MEASURES
        }

    row = tables._mean_over_people(
        "sbl", [("A", metric_rows(0.2)), ("B", metric_rows(0.4)), ("B", metric_rows(0.8))]
    )
    assert row["r"] == "0.40 (0.20 to 0.60) / 0.40 (0.20 to 0.60)"
    row = tables._mean_over_people("sbl", [("A", metric_rows(0.2)), ("B", metric_rows(math.nan))])
    assert row["r"] == "0.20 (0.20 to 0.20, 1 people) / 0.20 (0.20 to 0.20, 1 people)"


@pytest.mark.parametrize(
    ("status", "card", "calibration", "text"),
    [
        ({"status": 1}, {}, {}, "refused at the start: as blind"),
        ({"status": 0}, {"blend": 0.6}, {"usable": True}, "weight 0.6"),
        ({"status": 0}, {"blend": 0.6, "applied": False}, {}, "weight 0.6, sbl not applied"),
        ({"status": 0}, {}, {"usable": False, "reason": "it moved"}, "not used: it moved"),
        (
            {"status": 0},
            {
                "weight": 0.5,
                "position_correction_mm": 0.7,
                "predicted_gain_by_weight": {"0.25": 0.02, "0.5": -0.01},
            },
            {},
            "weight 0.5, place corrected by 0.7 mm, predicted gain +0.020 at 0.25, -0.010 at 0.5",
        ),
    ],
)
def test_the_summary_of_the_self_test_names_weights_and_reasons(
    tmp_path: Path,
    status: dict[str, object],
    card: dict[str, object],
    calibration: dict[str, object],
    text: str,
) -> None:
    applied = {"held_out": card, "applied": card.get("applied", True)}
    for name, content in (("about", status), ("card", applied), ("calibration", calibration)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert tables.chosen(runs.Kept(tmp_path)) == text


def test_the_contrast_of_all_events_comes_first() -> None:
    rows = [
        MetricRow(
            series="sbl",
            statistic="r",
            band="beyond",
            reference="measured",
            value=v,
            region="brain",
            contrast=c,
            fwhm_mm=0,
            lower=math.nan,
        )
        for v, c in ((0.1, "face"), (0.5, "all"))
    ]
    assert runs.value(rows, "sbl", "split_r_beyond", "brain").value == 0.5
