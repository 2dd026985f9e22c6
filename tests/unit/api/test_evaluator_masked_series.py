"""A masked, scaled or shifted copy of the acquired series is neither more nor less accurate."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from shortrun import EVENTS, FINE, TR

from bids_sr import Evaluator
from bids_sr.cli.evaluate_main import main
from bids_sr.io.nifti import load_image, save_image

SETTINGS = {"baselines": ["zerofill"], "n_boot": 100, "realigned": True}
MASKED = ("tight", "loose", "eroded", "half", "zeroed", "nan", "fineHalf")


def first_columns(mask: np.ndarray, share: float) -> np.ndarray:
    """Mark the first part of the voxels along x."""
    return np.broadcast_to(
        (np.arange(mask.shape[0]) < share * mask.shape[0])[:, None, None], mask.shape
    )


@pytest.fixture(scope="module")
def acquired(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run noisy enough that a series of zeros explains more than the run, and altered
    copies of it.
    """
    folder = tmp_path_factory.mktemp("masked")
    bold, affine = load_image(run / "bold.nii")
    inside = load_image(run / "mask.nii")[0] > 0
    rng = np.random.default_rng(3)
    noisy = bold + ndimage.gaussian_filter(rng.normal(0, 120, bold.shape), (1, 1, 0, 1))
    median_signal = float(np.median(bold[inside]))
    fine, _ = load_image(run / "truth.nii")

    def masked(mask: np.ndarray, outside: float = 0.0) -> np.ndarray:
        return np.where(mask[..., None], noisy, outside)

    copies = {
        "acquired": noisy,
        "tight": masked(inside),
        "loose": masked(ndimage.binary_dilation(inside)),
        "eroded": masked(ndimage.binary_erosion(inside, np.ones((3, 3, 1)))),
        "half": masked(first_columns(inside, 0.5)),
        "zeroed": masked(rng.random(inside.shape) < 0.8),
        "nan": masked(inside, np.nan),
        "scaled": 30000 * noisy,
        "shiftedUp": noisy + 0.3 * median_signal,
        "shiftedDown": noisy - 0.3 * median_signal,
        "holes": masked(rng.random(inside.shape) < 0.99, np.nan),
    }
    for name, data in copies.items():
        save_image(data.astype(np.float32), affine, folder / f"{name}.nii", tr=TR)
    half_of_truth = np.where(first_columns(fine[..., 0], 0.5)[..., None], fine, 0)
    save_image(half_of_truth.astype(np.float32), FINE, folder / "fineHalf.nii", tr=TR)
    return folder


@pytest.fixture(scope="module")
def judged(run: Path, acquired: Path) -> Evaluator:
    names = (
        "tight",
        "loose",
        "eroded",
        "half",
        "zeroed",
        "nan",
        "scaled",
        "shiftedUp",
        "shiftedDown",
        "fineHalf",
    )
    files: dict[str, Path | nib.Nifti1Image] = {name: acquired / f"{name}.nii" for name in names}
    with_nan = nib.load(acquired / "nan.nii")
    # passed as an image in memory
    files["nan"] = nib.Nifti1Image(
        with_nan.get_fdata(dtype=np.float32), with_nan.affine, with_nan.header
    )
    return Evaluator(**SETTINGS).fit(
        acquired / "acquired.nii",
        compared=files,
        events=EVENTS,
        mask=run / "mask.nii",
        truth=run / "truth.nii",
        other_run=run / "bold.nii",
        other_events=run / "events.tsv",
    )


def claim_values(
    table: pd.DataFrame, name: str, band: str, *, difference: bool = False
) -> pd.Series:
    """Return explained variance of a series, or its gain, for the region and contrast of a
    claim.
    """
    claim_rows = table[(table.series == name) & (table.band == band)]
    claim = claim_rows[claim_rows.statistic == "compared"].iloc[0]
    ev_rows = claim_rows[
        (claim_rows.statistic == "ev")
        & (claim_rows.region == claim.region)
        & (claim_rows.contrast == claim.contrast)
        & (claim_rows.minus == (claim.minus if difference else "n/a"))
    ]
    values = ev_rows.value.dropna()
    assert len(values) > 0
    return values


def test_a_copy_of_the_acquired_series_is_neither_better_nor_worse(judged: Evaluator) -> None:
    for verdict in judged.compared_:
        if verdict["name"] != "fineHalf":
            assert verdict["status"] == "not more accurate", verdict["text"]
            assert verdict["decisions"] == {"within": "same", "beyond": "same"}, verdict["text"]
            for band in ("within", "beyond"):
                gain = claim_values(judged.table_, verdict["name"], band, difference=True)
                assert (gain.abs() < 1e-3).all(), verdict["text"]
            assert verdict["frame"]["frame"] == "as acquired"


def test_the_number_of_excluded_voxels_is_reported(judged: Evaluator) -> None:
    verdicts = {verdict["name"]: verdict for verdict in judged.compared_}
    excluded_share = {
        name: verdict["frame"]["left_out"] / verdict["frame"]["brain_voxels"]
        for name, verdict in verdicts.items()
    }
    assert [excluded_share[name] for name in ("tight", "loose", "nan", "scaled", "shiftedUp")] == [
        0
    ] * 5
    assert excluded_share["half"] == pytest.approx(0.5, abs=0.05)
    assert excluded_share["fineHalf"] == pytest.approx(0.5, abs=0.05)
    assert excluded_share["zeroed"] == pytest.approx(0.2, abs=0.03)
    facts = verdicts["half"]["frame"]
    count_text = f"{facts['left_out']:,} of {facts['brain_voxels']:,} brain voxels"
    assert count_text in verdicts["half"]["text"]
    assert "were excluded from the evaluation" not in verdicts["loose"]["text"]


def test_voxels_of_a_masked_hemisphere_do_not_count_as_missing_detail(judged: Evaluator) -> None:
    """The true series with one half set to 0 is correct in the other half."""
    (verdict,) = (
        compared_series
        for compared_series in judged.compared_
        if compared_series["name"] == "fineHalf"
    )
    assert verdict["status"] == "more accurate"
    explained = claim_values(judged.table_, "fineHalf", "beyond").max()
    assert explained > 0.65, "zeros in the other half would count as detail that is missing"


def test_nan_inside_the_brain_is_listed_with_all_other_errors(
    run: Path, acquired: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(acquired / "acquired.nii")
    data = image.get_fdata(dtype=np.float32)
    data[15, 14, 2, 7] = np.nan
    save_image(data, image.affine, tmp_path / "once.nii", tr=TR)
    save_image(data[..., 1:], image.affine, tmp_path / "short.nii", tr=1.5 * TR)
    argv = [
        str(acquired / "acquired.nii"),
        f"holes={acquired / 'holes.nii'}",
        f"once={tmp_path / 'once.nii'}",
    ]
    argv += [
        f"short={tmp_path / 'short.nii'}",
        f"gone={tmp_path / 'gone.nii'}",
        "--mask",
        str(tmp_path / "mask.nii"),
    ]
    argv += [
        "--events",
        str(run / "events.tsv"),
        "--truth",
        f"toe={run / 'fine.nii'}",
        "--dry-run",
    ]
    assert main(argv) == 2
    stderr = capsys.readouterr().err
    for message in (
        "voxels inside the brain are NaN",
        "once: volume 7 has NaN values in other voxels",
        "short: the series has 83 volumes, but its run has 84 volumes",
        "short: the repetition time of the series is 3 s",
        "the repetition time of its run is 2 s",
        f"gone: the file {tmp_path / 'gone.nii'} does not exist",
        f"mask: the file {tmp_path / 'mask.nii'} does not exist",
        "truth: 'toe' not found among the contrasts",
    ):
        assert message in stderr, stderr


def test_a_dry_run_of_the_command_checks_input_and_writes_nothing(
    run: Path, acquired: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        str(acquired / "acquired.nii"),
        f"nan={acquired / 'nan.nii'}",
        "--events",
        str(run / "events.tsv"),
    ]
    assert main([*argv, "--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert "All inputs are valid" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    data = nib.load(acquired / "acquired.nii").get_fdata(dtype=np.float32)
    single = tmp_path / "single.nii"
    save_image(data[..., 0], np.eye(4), single)
    data[15, 14, 2, 7] = np.nan
    save_image(data, np.eye(4), tmp_path / "holed.nii", tr=TR)
    assert main([str(single), *argv[1:], "--dry-run"]) == 2
    single_volume = "expected a series (x, y, z, t), got a single volume of shape (30, 28, 5)"
    assert f"acquired: {single_volume}" in capsys.readouterr().err
    other_run_options = ["--other-events", str(run / "events.tsv"), "--dry-run", "--other-run"]
    assert main([str(tmp_path / "holed.nii"), *argv[1:], *other_run_options, str(single)]) == 2
    stderr = capsys.readouterr().err
    assert f"other_run: {single_volume}" in stderr
    assert "holed.nii" in stderr
