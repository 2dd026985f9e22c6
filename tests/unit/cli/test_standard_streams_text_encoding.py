"""File names in UTF-8 are accepted in an ASCII locale."""

import os
import subprocess
import sys
from pathlib import Path

from data.dataset import BidsMaker


def test_a_folder_name_with_accents_is_accepted_in_an_ascii_locale(tmp_path: Path) -> None:
    data = BidsMaker(tmp_path / "Données_ü")
    data.subject()
    program = Path(sys.executable).with_name("bids-sr")
    options = ["--dry-run", "--skip-bids-validation", "--sr-method", "bspline"]
    process = subprocess.run(
        [program, data.root, tmp_path / "out", "participant", *options],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    text = (process.stdout + process.stderr).decode()
    assert process.returncode == 0, text
    assert "not valid UTF-8" not in text
    assert "Données_ü" in text
