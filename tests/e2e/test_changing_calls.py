"""One output folder tells one story: after five calls it holds what the last one makes."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bids_sr.io.earlier_files import EARLIER

CALLS = (
    ("--smoothing", "0", "5"),
    ("--sr-method", "sbl", "sdmod", "--level", "full"),
    ("--dummy-scans", "2", "--level", "minimal"),
    ("--contrasts", "thumb", "--truth", "none"),
    ("--smoothing", "4"),
)


def called(*arguments: str | Path) -> str:
    """What the program prints."""
    script = Path(sys.executable).with_name(str(arguments[0]))
    return subprocess.run(
        [script, *map(str, arguments[1:])], check=True, capture_output=True, text=True
    ).stdout


def told(out: Path) -> tuple[set[str], set[str]]:
    """Files of the participant, and figures of the page."""
    files = {
        str(path.relative_to(out))
        for folder in ("sub-01", "derivatives")
        for path in (out / folder).rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(next((out / "sub-01" / "figures").glob("*.zip"))) as archive:
        return files, set(archive.namelist())


@pytest.mark.slow
def test_five_calls_with_changing_settings_leave_what_the_last_makes(tmp_path: Path) -> None:
    data, out, fresh = (tmp_path / name for name in ("data", "out", "fresh"))
    called("bids-sr-phantom", data, "--preset", "tiny")
    for options in CALLS:
        said = called("bids-sr", data, out, "participant", *options, "-w", tmp_path / "work")
    assert f"moved to {EARLIER}" in " ".join(said.split())
    again = called("bids-sr", data, out, "participant", *CALLS[-1], "-w", tmp_path / "work")
    assert EARLIER.name not in again, "a second call alike leaves all as it is"
    called("bids-sr", data, fresh, "participant", *CALLS[-1], "-w", tmp_path / "other")
    assert told(out) == told(fresh)
    page = (out / "sub-01.html").read_text(encoding="utf-8")
    assert f"moved to {EARLIER}" in page
