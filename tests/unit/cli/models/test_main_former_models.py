"""Test ``bids-sr-models`` with a model that an earlier version called srgan: used as dcnet, with a
note.
"""

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
def former_model(tmp_path: Path) -> Path:
    return save_former_srgan(tmp_path)


def test_card_prints_the_current_method_name(
    former_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", str(former_model), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["method"] == "dcnet"
    assert NOTE.format(former_model) in err


def test_list_prints_both_method_names(
    former_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", str(former_model.parent)]) == 0
    assert "dcnet (fast), called srgan in the model card" in capsys.readouterr().out


def test_a_former_srgan_model_is_applied_as_dcnet(
    former_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y, _ = np.indices((16, 16, 3)) / 7.5 - 1
    head = np.where(x**2 + y**2 < 0.8, 500, 5).astype(np.float32)
    image, out = former_model.parent / "sub-01_T2starw.nii.gz", former_model.parent / "fine.nii.gz"
    save_image(head, np.diag([6.0, 6.0, 4.0, 1.0]), image)
    assert main(["apply", str(former_model), str(image), str(out)]) == 0
    assert NOTE.format(former_model) in capsys.readouterr().err
    assert json.loads((former_model.parent / "fine.json").read_text())["Method"] == "dcnet"
