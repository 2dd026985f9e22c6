"""Closed standard streams, a removed working directory, and an ASCII locale."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bids_sr.cli.standard_streams import TolerantStream

PROGRAM = """
import os
import sys
from pathlib import Path
from bids_sr.cli.exit_codes import run_program
from bids_sr.cli.messages import show

def work(_arguments):
    for k in range(3):
        show(f"line {k}")
        print("of a library", file=sys.stderr, flush=True)
    inherited = all(os.get_inheritable(number) for number in range(3))  # by workers
    Path(sys.argv[1]).write_text("done" if inherited else "a worker would have closed streams")
    return 0

sys.exit(run_program("bids-sr", work, interrupted=""))
"""


@pytest.mark.parametrize("end", ["<&- >&- 2>&-", "3>&1 2>&-", "2>&1 | true", "| head -1"])
def test_processing_continues_if_standard_streams_are_closed(tmp_path: Path, end: str) -> None:
    (program := tmp_path / "program.py").write_text(PROGRAM)
    command = f"{sys.executable} {program} {tmp_path / 'result'} {end}"
    code = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        check=False,
        timeout=60,
        capture_output=True,
    ).returncode
    assert code == 0
    assert (tmp_path / "result").read_text() == "done"


def test_a_removed_working_directory_is_rejected(tmp_path: Path) -> None:
    (program := tmp_path / "program.py").write_text(PROGRAM)
    (folder := tmp_path / "gone").mkdir()
    code = subprocess.run(
        ["bash", "-c", f"rmdir {folder}; {sys.executable} {program} {tmp_path / 'result'}"],
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=False,
    ).returncode
    assert code == 2
    assert not (tmp_path / "result").exists()


def test_a_file_name_with_accents_is_shown_in_an_ascii_locale(tmp_path: Path) -> None:
    program, file = Path(sys.executable).with_name("bids-sr"), tmp_path / "Données_ü.tsv"
    process = subprocess.run(
        [program, "in", "out", "participant", "--participant-label", f"@{file}"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert process.returncode == 2
    assert file.name in process.stderr.decode()


def test_text_that_cannot_be_encoded_is_replaced() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    TolerantStream(stream).write("plane \ud800\n")
    stream.seek(0)
    assert stream.read() == "plane ?\n"
