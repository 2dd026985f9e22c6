"""Names of files in UTF-8 are names like others in a locale that has ASCII only."""

import os
import subprocess
import sys
from pathlib import Path

from bidsmaker import BidsMaker


def test_a_folder_with_accents_is_read_without_a_locale(tmp_path: Path) -> None:
    data = BidsMaker(tmp_path / "Données_ü")
    data.subject()
    program = Path(sys.executable).with_name("bids-sr")
    options = ["--dry-run", "--skip-bids-validation", "--sr-method", "bspline"]
    done = subprocess.run(
        [program, data.root, tmp_path / "out", "participant", *options],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    assert "not valid UTF-8" not in text
    assert "Données_ü" in text
