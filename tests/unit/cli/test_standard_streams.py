"""Test closed standard streams and a working directory that was removed."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
import sys
from pathlib import Path
from bids_sr.cli.exit_codes import run_program
from bids_sr.cli.messages import show

def work():
    for k in range(3):
        show(f"line {k}")
        print("of a library", file=sys.stderr, flush=True)
    inherited = all(os.get_inheritable(number) for number in range(3))  # by workers
    Path(sys.argv[1]).write_text("done" if inherited else "a worker would have closed streams")
    return 0

sys.exit(run_program("bids-sr", work, interrupted=""))
"""


@pytest.mark.parametrize(
    "end",
    [">&-", "3>&1 2>&-", "<&- >&- 2>&-", "2>&1 | true", "| head -1", "2>&1 | head -1"],
)
def test_processing_continues_if_standard_streams_are_closed(tmp_path: Path, end: str) -> None:
    (program := tmp_path / "program.py").write_text(PROGRAM)
    command = f"{sys.executable} {program} {tmp_path / 'result'} {end}"
    subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}} > {tmp_path / 'code'}"],
        check=True,
        timeout=60,
        capture_output=True,
    )
    assert (tmp_path / "code").read_text() == "0\n"
    assert (tmp_path / "result").read_text() == "done"


def test_a_removed_working_directory_is_reported(tmp_path: Path) -> None:
    (program := tmp_path / "program.py").write_text(PROGRAM)
    (folder := tmp_path / "gone").mkdir()
    process = subprocess.run(
        ["bash", "-c", f"rmdir {folder}; {sys.executable} {program} {tmp_path / 'result'}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 2
    assert "the current working directory does not exist\n" in process.stderr
    assert not (tmp_path / "result").exists()
