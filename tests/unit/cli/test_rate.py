"""``bids-sr rate``: the key is right, the page does not tell which is which, and counts are those of the answers."""

import base64
import csv
import re
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_sr.cli import main
from bids_sr.reports.rating_sheet import RatedPair, counts, joined_ratings, make_sheet, pictures

CONTRASTS = ("thumb", "little", "all")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Maps of one run: bspline, zerofill, sbl, a method that was not applied, and the measured series."""
    folder = tmp_path / "sub-01" / "func"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for contrast in CONTRASTS:
        for series in ("bspline", "zerofill", "sbl", "measured"):
            save(folder, contrast, series, rng.normal(size=(8, 9, 5)))
        zero = folder / f"sub-01_task-tap_res-2_contrast-{contrast}_stat-t_desc-zerofill_statmap.nii.gz"
        zero.with_name(zero.name.replace("zerofill", "srgan")).write_bytes(zero.read_bytes())
        save(folder, contrast, "raw", rng.normal(size=(4, 5, 5)))
        save(folder, contrast, "sblFwhm50", rng.normal(size=(8, 9, 5)))
    return tmp_path


def save(folder: Path, contrast: str, desc: str, values: np.ndarray) -> None:
    name = f"sub-01_task-tap_res-2_contrast-{contrast}_stat-t_desc-{desc}_statmap.nii.gz"
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([-2.0, 2, 3, 1])), folder / name)


def rate(outputs: Path, *options: str) -> int:
    return main.main(["rate", str(outputs), *options])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def images(page: str) -> list[bytes]:
    return [base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([^\"]+)", page)]


def drawn(outputs: Path, contrast: str, name: str) -> bytes:
    """The picture of one series, drawn by itself from the files."""

    def load(series: str) -> np.ndarray:
        file = f"sub-01_task-tap_res-2_contrast-{contrast}_stat-t_desc-{series}_statmap.nii.gz"
        return np.asanyarray(nib.load(outputs / "sub-01" / "func" / file).dataobj)

    maps = {series: load(series) for series in ("sbl", "bspline")}
    pair = RatedPair(
        run="x", contrast=contrast, fwhm_mm=0, maps=maps, affine=np.diag([-2.0, 2, 3, 1]), measured=load("measured")
    )
    return images(f'"{pictures(pair)[name]}"')[0]


def test_a_method_that_was_not_applied_is_known_where_no_map_of_zero_filling_is_stored(outputs: Path) -> None:
    """As at the standard level: then the table of the evaluation tells it."""
    func = outputs / "sub-01" / "func"
    for path in func.glob("*_desc-zerofill_statmap.nii.gz"):
        path.unlink()
    head = "series\tmeasure\tvalue\n"
    (func / "sub-01_task-tap_desc-evaluation_metrics.tsv").write_text(
        f"{head}srgan\tverdict_applied\t0\nsbl\tverdict_applied\t1\n"
    )
    assert rate(outputs) == 0
    assert {name for row in rows(outputs / "rating_key.tsv") for name in (row["left"], row["right"])} == {
        "bspline", "sbl",
    }  # fmt: skip


def test_without_maps_the_level_is_named_that_stores_them(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in outputs.rglob("*_statmap.nii.gz"):
        path.unlink()
    assert rate(outputs) == 2
    assert "--level standard" in capsys.readouterr().err


def test_the_key_says_which_image_stands_where(outputs: Path) -> None:
    assert rate(outputs, "--raters", "2", "--seed", "3") == 0
    key = rows(outputs / "rating_key.tsv")
    assert [(row["rater"], row["item"]) for row in key] == [(r, i) for r in "12" for i in "123"]
    for row in key:
        assert {row["left"], row["right"]} == {"bspline", "sbl"}
        assert (row["run"], row["fwhm_mm"]) == ("sub-01_task-tap", "0")
        page = (outputs / "rating" / f"sheet-0{row['rater']}.html").read_text()
        left, right, measured = images(page)[3 * (int(row["item"]) - 1) :][:3]
        assert left == drawn(outputs, row["contrast"], row["left"])
        assert right == drawn(outputs, row["contrast"], row["right"])
        assert measured == drawn(outputs, row["contrast"], "measured")
    for rater in "12":
        own = [row for row in key if row["rater"] == rater]
        assert {row["contrast"] for row in own} == set(CONTRASTS)
        assert {sum(row["left"] == "sbl" for row in own)} <= {1, 2}
    assert "rating" in (outputs / ".bidsignore").read_text().splitlines()


def test_nothing_in_the_page_tells_which_is_which(outputs: Path) -> None:
    assert rate(outputs, "--seed", "3") == 0
    (sheet,) = (outputs / "rating").iterdir()
    page = sheet.read_text()
    words = re.sub(r"data:image/png;base64,[^\"]+", "", page)
    for name in ("bspline", "sbl", "srgan", "zerofill", "thumb", "sub-01", "seed"):
        assert name not in words.lower()
        assert name not in sheet.name
    assert not re.search(r"(?:src|href)=[\"']?(?:http|//)", words)
    assert "&#34;" not in words.partition("</style>")[0]  # quotes of the style sheet are not escaped
    for left, right in zip(images(page)[::3], images(page)[1::3], strict=True):
        assert left != right
        assert left[16:33] == right[16:33]  # width, height, depth
        for png in (left, right):
            assert set(chunks(png)) <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def chunks(png: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        found.append(png[at + 4 : at + 8])
        at += size + 12
    return found


def test_sides_are_balanced_and_differ_between_raters_and_seeds() -> None:
    pair = RatedPair(run="r", contrast="c", fwhm_mm=0, maps={"bspline": np.ones((2, 2, 2)), "sbl": np.ones((2, 2, 2))},
                affine=np.eye(4))  # fmt: skip
    image = {"bspline": "data:b", "sbl": "data:s"}
    sides = {}
    for rater, seed in ((1, 0), (2, 0), (1, 1), (1, 0)):
        _, key = make_sheet([pair] * 20, [image] * 20, rater=rater, seed=seed)
        sides[rater, seed] = "".join("s" if row["left"] == "sbl" else "b" for row in key)
        assert sides[rater, seed].count("s") == 10
    assert len(set(sides.values())) == 3
    assert len({make_sheet([pair], [image], rater=1, seed=s)[1][0]["left"] for s in range(20)}) == 2


def test_planes_and_scale_are_those_of_both_maps() -> None:
    rng = np.random.default_rng(0)
    maps = {"bspline": rng.normal(size=(6, 6, 6)), "sbl": 3 * rng.normal(size=(6, 6, 6))}
    one = pictures(RatedPair(run="r", contrast="c", fwhm_mm=0, maps=maps, affine=np.eye(4)))
    other = pictures(RatedPair(run="r", contrast="c", fwhm_mm=0, maps=dict(reversed(maps.items())), affine=np.eye(4)))
    assert one == other
    with pytest.raises(ValueError, match="empty"):
        pictures(
            RatedPair(run="r", contrast="c", fwhm_mm=0, maps={k: v * 0 for k, v in maps.items()}, affine=np.eye(4))
        )


def answered(outputs: Path, choose: dict[str, str]) -> list[Path]:
    """Ratings files of all raters, answers by series."""
    key = rows(outputs / "rating_key.tsv")
    files = []
    for sheet in dict.fromkeys(row["sheet"] for row in key):
        lines = ["sheet\trater\titem\tfiner\ttruer"]
        for row in key:
            if row["sheet"] == sheet:
                side = {row["left"]: "left", row["right"]: "right"}
                lines.append("\t".join([sheet, row["rater"], row["item"], *(
                    side.get(choose[q], choose[q]) for q in ("finer", "truer"))]))  # fmt: skip
        files.append(outputs / f"ratings_{sheet}.tsv")
        files[-1].write_text("\n".join(lines) + "\n")
    return files


def test_ratings_are_joined_with_the_key_and_counted(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rate(outputs, "--raters", "2", "--seed", "3") == 0
    files = answered(outputs, {"finer": "sbl", "truer": "bspline"})
    capsys.readouterr()
    assert rate(outputs, "--ratings", *map(str, files)) == 0
    shown = capsys.readouterr().out
    # Clopper and Pearson for 6 of 6: lower end .025 ** (1 / 6)
    assert "sbl finer than bspline: 6 of 6 [0.54, 1.00], p = 0.0312" in shown
    assert "sbl truer than bspline: 0 of 6 [0.00, 0.46]" in shown
    assert "not independent" in shown
    assert len(rows(outputs / "rating_joined.tsv")) == 12
    (one, *_) = files
    files = answered(outputs, {"finer": "equal", "truer": "n/a"})
    assert rate(outputs, "--ratings", str(one)) == 0
    shown = capsys.readouterr().out
    assert "finer than bspline: 0 of 0 [0.00, 1.00], p = 1 (exact binomial); equal 3, no answer 0; 1 rater(s)" in shown
    assert "not independent" not in shown


def test_what_does_not_belong_to_the_key_is_refused(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rate(outputs, "--seed", "3") == 0
    assert rate(outputs, "--seed", "3") == 2
    assert "there already is a key" in capsys.readouterr().err
    (file,) = answered(outputs, {"finer": "sbl", "truer": "sbl"})
    assert rate(outputs, "--ratings", str(file), str(file)) == 2
    assert "rated twice" in capsys.readouterr().err
    assert rate(outputs, "--seed", "4", "--force") == 0
    assert rate(outputs, "--ratings", str(file)) == 2
    assert "not in the key" in capsys.readouterr().err
    key = [{"sheet": "a", "rater": "1", "item": "1", "left": "sbl", "right": "bspline"}]
    with pytest.raises(ValueError, match="no answer"):
        joined_ratings([{"sheet": "a", "item": "1", "finer": "sbl"}], key, ["finer"])
    assert counts([]) == []


def test_outputs_without_pairs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rate(tmp_path) == 2
    assert "no t map of a method" in capsys.readouterr().err
    assert rate(tmp_path, "--raters", "0") == 2
