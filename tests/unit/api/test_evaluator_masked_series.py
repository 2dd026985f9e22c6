"""A series that is the acquired one, masked, scaled or shifted, is no more and no less accurate
than it.
"""

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

HOW = {"baselines": ["zerofill"], "n_boot": 100, "realigned": True}
MASKED = ("tight", "loose", "eroded", "half", "zeroed", "nan", "fineHalf")


def rows_of(mask: np.ndarray, share: float) -> np.ndarray:
    """The first voxels along x."""
    return np.broadcast_to(
        (np.arange(mask.shape[0]) < share * mask.shape[0])[:, None, None], mask.shape
    )


@pytest.fixture(scope="module")
def acquired(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with so much noise that a series of zeros explains more than it; a folder of what is
    made of it.
    """
    folder = tmp_path_factory.mktemp("masked")
    bold, affine = load_image(run / "bold.nii")
    inside = load_image(run / "mask.nii")[0] > 0
    rng = np.random.default_rng(3)
    noisy = bold + ndimage.gaussian_filter(rng.normal(0, 120, bold.shape), (1, 1, 0, 1))
    level = float(np.median(bold[inside]))
    fine, _ = load_image(run / "truth.nii")

    def where(mask: np.ndarray, outside: float = 0.0) -> np.ndarray:
        return np.where(mask[..., None], noisy, outside)

    made = {
        "acquired": noisy,
        "tight": where(inside),
        "loose": where(ndimage.binary_dilation(inside)),
        "eroded": where(ndimage.binary_erosion(inside, np.ones((3, 3, 1)))),
        "half": where(rows_of(inside, 0.5)),
        "zeroed": where(rng.random(inside.shape) < 0.8),
        "nan": where(inside, np.nan),
        "scaled": 30000 * noisy,
        "shiftedUp": noisy + 0.3 * level,
        "shiftedDown": noisy - 0.3 * level,
        "holes": where(rng.random(inside.shape) < 0.99, np.nan),
    }
    for name, data in made.items():
        save_image(data.astype(np.float32), affine, folder / f"{name}.nii", tr=TR)
    half = np.where(rows_of(fine[..., 0], 0.5)[..., None], fine, 0)
    save_image(half.astype(np.float32), FINE, folder / "fineHalf.nii", tr=TR)
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
    stored = nib.load(acquired / "nan.nii")
    # in memory
    files["nan"] = nib.Nifti1Image(
        stored.get_fdata(dtype=np.float32), stored.affine, stored.header
    )
    return Evaluator(**HOW).fit(
        acquired / "acquired.nii",
        compared=files,
        events=EVENTS,
        mask=run / "mask.nii",
        truth=run / "truth.nii",
        other_run=run / "bold.nii",
        other_events=run / "events.tsv",
    )


def of_claim(table: pd.DataFrame, name: str, band: str, *, difference: bool = False) -> pd.Series:
    """Explained variance of a series, or its gain, where a claim of the verdict on it is made."""
    own = table[(table.series == name) & (table.band == band)]
    claim = own[own.statistic == "compared"].iloc[0]
    found = own[
        (own.statistic == "ev")
        & (own.region == claim.region)
        & (own.contrast == claim.contrast)
        & (own.minus == (claim.minus if difference else "n/a"))
    ]
    known = found.value.dropna()
    assert len(known) > 0
    return known


def test_what_is_the_acquired_series_does_not_differ_from_it(judged: Evaluator) -> None:
    for each in judged.compared_:
        if each["name"] != "fineHalf":
            assert each["status"] == "not more accurate", each["text"]
            assert each["decisions"] == {"within": "same", "beyond": "same"}, each["text"]
            for band in ("within", "beyond"):
                gain = of_claim(judged.table_, each["name"], band, difference=True)
                assert (gain.abs() < 1e-3).all(), each["text"]
            assert each["frame"]["frame"] == "as acquired"


def test_how_many_voxels_were_left_out_is_said(judged: Evaluator) -> None:
    found = {each["name"]: each for each in judged.compared_}
    share = {
        name: each["frame"]["left_out"] / each["frame"]["brain_voxels"]
        for name, each in found.items()
    }
    assert [share[name] for name in ("tight", "loose", "nan", "scaled", "shiftedUp")] == [0] * 5
    assert share["half"] == pytest.approx(0.5, abs=0.05)
    assert share["fineHalf"] == pytest.approx(0.5, abs=0.05)
    assert share["zeroed"] == pytest.approx(0.2, abs=0.03)
    facts = found["half"]["frame"]
    said = f"{facts['left_out']:,} of {facts['brain_voxels']:,} brain voxels"
    assert said in found["half"]["text"]
    assert "were excluded from the evaluation" not in found["loose"]["text"]


def test_detail_in_half_of_the_brain_is_seen_there(judged: Evaluator) -> None:
    """The true series with one half set to 0 is true in the other."""
    (one,) = (each for each in judged.compared_ if each["name"] == "fineHalf")
    assert one["status"] == "more accurate"
    level = of_claim(judged.table_, "fineHalf", "beyond").max()
    assert level > 0.65, "zeros in the other half would count as detail that is missing"


def test_nan_inside_the_brain_is_refused_with_all_else_that_is_wrong(
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
    shown = capsys.readouterr().err
    for said in (
        "voxels inside the brain are NaN",
        "once: volume 7 has NaN values in other voxels",
        "short: the series has 83 volumes, but its run has 84 volumes",
        "short: the repetition time of the series is 3 s",
        "the repetition time of its run is 2 s",
        f"gone: the file {tmp_path / 'gone.nii'} does not exist",
        f"mask: the file {tmp_path / 'mask.nii'} does not exist",
        "truth: 'toe' not found among the contrasts",
    ):
        assert said in shown, shown


def test_a_dry_run_of_the_command_computes_nothing(
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
    holed = nib.load(acquired / "acquired.nii").get_fdata(dtype=np.float32)
    single = tmp_path / "single.nii"
    save_image(holed[..., 0], np.eye(4), single)
    holed[15, 14, 2, 7] = np.nan
    save_image(holed, np.eye(4), tmp_path / "holed.nii", tr=TR)
    assert main([str(single), *argv[1:], "--dry-run"]) == 2
    single_volume = "expected a series (x, y, z, t), got a single volume of shape (30, 28, 5)"
    assert f"acquired: {single_volume}" in capsys.readouterr().err
    other = ["--other-events", str(run / "events.tsv"), "--dry-run", "--other-run"]
    assert main([str(tmp_path / "holed.nii"), *argv[1:], *other, str(single)]) == 2
    shown = capsys.readouterr().err
    assert f"other_run: {single_volume}" in shown
    assert "holed.nii" in shown
