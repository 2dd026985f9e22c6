"""After several calls with different settings, the output folder is consistent with the
last call.
"""

import subprocess
import sys
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


def call_program(*arguments: str | Path) -> str:
    """Run a program and return its standard output."""
    script = Path(sys.executable).with_name(str(arguments[0]))
    return subprocess.run(
        [script, *map(str, arguments[1:])], check=True, capture_output=True, text=True
    ).stdout


def contents(out: Path) -> set[str]:
    """Return the files of the participant."""
    return {
        str(path.relative_to(out))
        for folder in ("sub-01", "derivatives")
        for path in (out / folder).rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_five_calls_with_changing_settings_leave_only_outputs_of_the_last_call(
    tmp_path: Path,
) -> None:
    data, out, fresh = (tmp_path / name for name in ("data", "out", "fresh"))
    call_program("bids-sr-phantom", data, "--preset", "tiny")
    for options in CALLS:
        output = call_program(
            "bids-sr", data, out, "participant", *options, "-w", tmp_path / "work"
        )
    assert f"moved to {EARLIER}" in " ".join(output.split())
    assert f"moved to {EARLIER}" in (out / "sub-01.html").read_text(encoding="utf-8")
    again = call_program("bids-sr", data, out, "participant", *CALLS[-1], "-w", tmp_path / "work")
    assert EARLIER.name not in again, "a second call alike leaves all as it is"
    call_program("bids-sr", data, fresh, "participant", *CALLS[-1], "-w", tmp_path / "other")
    assert contents(out) == contents(fresh)
