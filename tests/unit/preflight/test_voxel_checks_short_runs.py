"""Damaged short runs, whose first volumes preflight reads to count blocks."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.cli.main import main

EVENTS = [(float(2 * k), 1.0, ("thumb", "little")[k % 2]) for k in range(20)]


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    maker = BidsMaker(tmp_path / "bids")
    maker.bold(n_volumes=40)
    maker.events(rows=EVENTS)
    return maker


def argv(maker: BidsMaker, *extra: str) -> list[str]:
    root, options = maker.root.parent, ["--sr-method", "bspline", "--skip-bids-validation"]
    return [
        str(maker.root),
        str(root / "out"),
        "participant",
        "-w",
        str(root / "w"),
        *options,
        *extra,
    ]


@pytest.mark.parametrize("damage", ["nan", "cut"])
def test_a_damaged_run_is_rejected_and_the_dry_run_does_not_crash(
    maker: BidsMaker, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = maker.path("sub-01_task-tap_bold.nii.gz", "func")
    if damage == "nan":
        image = nib.load(path)
        values = image.get_fdata(dtype=np.float32)
        values[0, 0] = np.nan
        nib.Nifti1Image(values, image.affine).to_filename(path)
    else:
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:600]))
    assert main(argv(maker, "--dry-run")) == 0
    assert main(argv(maker)) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert ("NaN" if damage == "nan" else "truncated") in message
