"""``bids-sr-models`` on a model that an earlier version called srgan: used as dcnet, and said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from formermodels import save_former_srgan

from bids_sr.cli.models.main import main
from bids_sr.io.nifti import save_image

NOTE = "Note: {}: the model was trained with srgan --recipe fast by an earlier version"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return save_former_srgan(tmp_path)


def test_its_card_has_the_current_name(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", str(old), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["method"] == "dcnet"
    assert NOTE.format(old) in err


def test_the_list_has_both_names(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(old.parent)]) == 0
    assert "dcnet (fast), called srgan in the model card" in capsys.readouterr().out


def test_it_is_applied_as_dcnet(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y, _ = np.indices((16, 16, 3)) / 7.5 - 1
    head = np.where(x**2 + y**2 < 0.8, 500, 5).astype(np.float32)
    image, out = old.parent / "sub-01_T2starw.nii.gz", old.parent / "fine.nii.gz"
    save_image(head, np.diag([6.0, 6.0, 4.0, 1.0]), image)
    assert main(["apply", str(old), str(image), str(out)]) == 0
    assert NOTE.format(old) in capsys.readouterr().err
    assert json.loads((old.parent / "fine.json").read_text())["Method"] == "dcnet"
