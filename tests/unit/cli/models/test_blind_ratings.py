"""Kit for blinded ratings: codes, sheets, scores and rejected input."""

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bids_sr.cli.models.blind_ratings import (
    average_ratings,
    check_sheet,
    compare_ratings,
    intraclass_correlation,
)
from bids_sr.cli.models.commands import main as models_main
from bids_sr.cli.models.commands.rate import read_key
from bids_sr.io.notices import InvalidInput

SERIES = ("bspline", "attunet", "measured")
PARTICIPANTS = ("sub-01", "sub-02")


@pytest.fixture
def derivatives(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    for number, person in enumerate(PARTICIPANTS):
        folder = out / person / "anat"
        folder.mkdir(parents=True)
        for k, series in enumerate(SERIES):
            data = np.zeros((12, 14, 10), np.float32)
            data[2:10, 2:12, 1:9] = 0.2 + 0.2 * k + 0.1 * number
            data[2, 2, 1:9] = 1
            path = folder / f"{person}_res-hr_desc-{series}_T1w.nii.gz"
            nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), path)
    return out


def rate(*arguments: object) -> int:
    return models_main.main(["rate", *map(str, arguments)])


def fill(kit: Path, sheet: Path, scores: dict[str, float]) -> Path:
    """Rate the pictures of a kit with a constant score per series."""
    key = read_key(kit)
    lines = [f"{code}\t{scores[entry['series']]}" for code, entry in key.items()]
    sheet.write_text("code\trating\n" + "\n".join(lines) + "\n")
    return sheet


def test_a_kit_hides_series_names_and_scores_completed_sheets(
    derivatives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = tmp_path / "kit"
    assert rate(kit, "--make", derivatives) == 0
    key = read_key(kit)
    assert {(e["participant"], e["series"]) for e in key.values()} == {
        (person, series) for person in PARTICIPANTS for series in SERIES
    }
    pictures = sorted(path.stem for path in (kit / "images").iterdir())
    assert pictures == sorted(key)
    for path in (kit / "ratings.tsv", kit / "README.txt", kit / "key.sealed"):
        assert not any(series in path.read_text() for series in SERIES), path
    sheets = [
        fill(kit, tmp_path / "a.tsv", {"bspline": 2, "attunet": 3, "measured": 5}),
        fill(kit, tmp_path / "b.tsv", {"bspline": 1, "attunet": 3, "measured": 4}),
    ]
    assert rate(kit, *sheets, "-o", tmp_path / "scores.tsv") == 0
    table = pd.read_csv(tmp_path / "scores.tsv", sep="\t").query("contrast == 'all'")
    means = dict(zip(table["series"], table["mean"], strict=True))
    assert means == {"bspline": 1.5, "attunet": 3.0, "measured": 4.5}
    facts = json.loads((tmp_path / "scores.json").read_text())
    assert facts["raters"] == 2
    assert 0.8 < facts["icc_2_1"] < 1
    tests = pd.read_csv(tmp_path / "scores_tests.tsv", sep="\t").set_index(
        ["contrast", "series", "minus"]
    )
    assert tests.loc[("all", "attunet", "bspline"), ["n", "difference"]].tolist() == [2, 1.5]
    assert set(json.loads((tmp_path / "scores_tests.json").read_text())) == {
        *tests.index.names,
        *tests,
    }
    assert "ICC(2,1)" in capsys.readouterr().out


def test_acquired_scans_are_the_series_native_of_the_kit(
    derivatives: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw" / "sub-01" / "anat"
    raw.mkdir(parents=True)
    # slices of 4 mm instead of 2 mm, with one intensity per slice
    low = np.zeros((12, 14, 5), np.float32)
    low[2:10, 2:12] = 100 * np.arange(1, 6)
    for name, zooms in (("lowres", [2.0, 2, 4, 1]), ("highres", [2.0, 2, 2, 1])):
        image = nib.Nifti1Image(low, np.diag(zooms))
        nib.save(image, raw / f"sub-01_acq-{name}_T1w.nii.gz")
    (derivatives / "dataset_description.json").write_text('{"DatasetLinks": {"raw": "../raw"}}')
    sources = [
        f"bids:raw:sub-01/anat/sub-01_acq-{name}_T1w.nii.gz" for name in ("highres", "lowres")
    ]
    sidecar = derivatives / "sub-01" / "anat" / "sub-01_res-hr_desc-bspline_T1w.json"
    sidecar.write_text(json.dumps({"Sources": sources}))
    kit = tmp_path / "kit"
    assert rate(kit, "--make", derivatives) == 0
    key = read_key(kit)
    (code,) = (code for code, entry in key.items() if entry["series"] == "native")
    assert key[code] == {"participant": "sub-01", "contrast": "T1w", "series": "native"}
    for path in (kit / "ratings.tsv", kit / "README.txt", kit / "key.sealed"):
        assert "native" not in path.read_text(), path
    codes = {e["series"]: c for c, e in key.items() if e["participant"] == "sub-01"}
    pictures = {
        series: np.asarray(Image.open(kit / "images" / f"{name}.png"))
        for series, name in codes.items()
    }
    # three axial planes (12 x 14 pixels), a coronal (12 x 10) and a sagittal one (14 x 10)
    zoom = pictures["measured"].shape[0] // 14
    assert pictures["native"].shape == pictures["measured"].shape == (14 * zoom, 62 * zoom)
    pixels = pictures["native"][zoom // 2 :: zoom, zoom // 2 :: zoom].astype(float)
    # the brain of the other scans is in their slices 1 to 8; their slices 4, 5 and 6, at 8, 10 and
    # 12 mm, are in slices 2, 2 and 3 of this scan
    axial = [pixels[5, start + 5] for start in (0, 12, 24)]
    assert np.round(np.array(axial) / 255 * 5).tolist() == [3, 3, 4]
    # the coronal plane has five slices of two pixels, the highest on top
    column = pixels[:10, 36 + 5]
    assert np.round(column / 255 * 5).tolist() == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert rate(tmp_path / "only", "--make", derivatives, "--series", "native") == 0
    assert [e["series"] for e in read_key(tmp_path / "only").values()] == ["native"]
    (derivatives / "dataset_description.json").unlink()
    assert rate(tmp_path / "none", "--make", derivatives, "--series", "native") == 2


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("code\trating\nXXXXX\t3\n", "line 2: the code XXXXX"),
        ("code\trating\nFIRST\t7\n", "from 0 to 5"),
        ("code\trating\nFIRST\tgood\n", "good"),
        ("code\trating\nFIRST\t3\nFIRST\t4\n", "line 3"),
        ("code\tscore\nFIRST\t3\n", "column rating"),
        ("code\trating\nFIRST\t\n", "sheet.tsv"),
    ],
)
def test_an_invalid_sheet_is_rejected(
    derivatives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, part: str
) -> None:
    kit, sheet = tmp_path / "kit", tmp_path / "sheet.tsv"
    assert rate(kit, "--make", derivatives) == 0
    sheet.write_text(text.replace("FIRST", next(iter(read_key(kit)))))
    assert rate(kit, sheet, "-o", tmp_path / "scores.tsv") == 2
    error = capsys.readouterr().err
    assert part in error
    assert sheet.name in error
    assert not (tmp_path / "scores.tsv").exists()


def test_kits_that_cannot_be_made_or_scored_are_rejected(
    derivatives: Path, tmp_path: Path
) -> None:
    kit = tmp_path / "kit"
    assert rate(kit, "--make", tmp_path / "nothing") == 2
    assert rate(kit, "--make", derivatives, "--series", "vit") == 2
    assert not kit.exists()
    assert rate(derivatives, "--make", derivatives) == 2  # not empty
    kit.mkdir()
    assert rate(kit, tmp_path / "a.tsv") == 2


def test_pairs_are_compared_over_participants() -> None:
    rows = [
        {"participant": p, "contrast": c, "series": s, "rater": r, "rating": value + p}
        for p in range(3)
        for c in ("T1w", "FLAIR")
        for r in ("a", "b")
        for s, value in (("x", 1.0), ("y", 2.0))
    ]
    ratings = pd.DataFrame(rows)
    ratings.loc[0, "rating"] = math.nan
    means = average_ratings(ratings).set_index(["contrast", "series"])
    assert means.loc[("all", "x"), "n"] == 3
    assert means.loc[("all", "y"), "mean"] == pytest.approx(3)
    tests = compare_ratings(ratings).set_index("contrast")
    assert tests.loc["all", "difference"] == pytest.approx(-1)
    assert tests.loc["all", "p_wilcoxon"] == pytest.approx(0.25)


def test_intraclass_correlation_equals_shrout_and_fleiss() -> None:
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert intraclass_correlation(table) == pytest.approx(0.29, abs=0.005)
    assert intraclass_correlation([[1, 1], [3, 3], [2, 2]]) == pytest.approx(1)
    assert math.isnan(intraclass_correlation([[1], [2]]))


def test_a_missing_row_is_not_rated() -> None:
    ratings = check_sheet([(2, {"code": "A", "rating": "2,5"})], ["A", "B"])
    assert ratings["A"] == 2.5
    assert math.isnan(ratings["B"])
    with pytest.raises(InvalidInput, match="empty"):
        check_sheet([(2, {"code": "", "rating": "1"})], ["A"])
