"""Run the commands of the documentation to their end, on a small phantom.

`tests/unit/package/test_documented_commands.py` parses all commands; here, they also compute.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Call, all_pages, codes_of
from pages import ROOT
from sandbox import FILES, Sandbox, finish

from bids_sr.config.presets import preset_names

BIN = Path(sys.executable).parent
LITERAL = "docs/models.md"
"""Page whose commands run without an additional option."""
DATA = {
    name.removeprefix("/")
    for name, make in FILES.items()
    if make in (FILES["DATA"], FILES["examples/studyforrest"])
}
"""Names of data sets with the same content."""
PARSED = {"bids-sr-slurm", *preset_names(), "rate", "--vgg-weights"}
"""Words in commands that are only parsed: they need a cluster, hours, ratings or a network."""
Shape = tuple[str, ...]


class Runs:
    """Commands that have run to the end.

    Commands that only differ in the names of data set and output run once.
    """

    def __init__(self, tiny: Path) -> None:
        self.tiny = tiny
        self.finished: dict[Shape, Path] = {}
        self.data_of: dict[Path, str] = {}

    def make_data(self, place: Path) -> None:
        """Copy the phantom to a folder."""
        shutil.copytree(self.tiny, place)

    def run(self, call: Call, box: Sandbox) -> str:
        """Run a command to the end and return its messages if it fails, else ""."""
        words = [*call.with_files().words]
        if PARSED & {*words}:
            return ""
        output_dir = call.folder / words[2] if words[0] == "bids-sr" and len(words) > 2 else None
        shape = self._shape(call, box)
        if output_dir is not None and "--reports-only" in words and not output_dir.exists():
            finish(output_dir)
        if output_dir is not None and "participant" in words:
            if self.data_of.setdefault(output_dir, words[1]) != words[1]:
                shutil.rmtree(
                    output_dir, ignore_errors=True
                )  # the page refers to another output with the same name
                self.data_of[output_dir] = words[1]
                self.finished = {
                    key: place for key, place in self.finished.items() if place != output_dir
                }
            if shape in self.finished:
                if not output_dir.exists():
                    shutil.copytree(self.finished[shape], output_dir)
                return ""
            if box.page != LITERAL:
                words += ["--dry-run"] if "--use-plugin" in words else ["--set", "run.sloppy=true"]
        elif output_dir is not None and "group" in words:
            _complete(output_dir, call.folder / words[1])
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            cwd=call.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"{shlex.join(words)}\nexit code {done.returncode}\n{done.stdout[-3000:]}"
        if output_dir is not None and output_dir.exists():
            self.finished[shape] = output_dir
        return ""

    def _shape(self, call: Call, box: Sandbox) -> Shape:
        """Return the words of a command, with one name for all equal data sets, and without the
        output.
        """
        first, *rest = call.words
        if len(rest) < 2:
            return call.words
        data = os.path.relpath(call.folder / rest[0], box.folder)
        return (first, "DATA" if data in DATA else data, *rest[2:])


@pytest.fixture(scope="module")
def runs(tiny: Path) -> Runs:
    return Runs(tiny)


def _complete(output_dir: Path, data: Path) -> None:
    """Add participants for the group level: made-up metrics, or a copy of the first participant,
    also in the data set.
    """
    if not output_dir.exists():
        finish(output_dir)
    labels = [path.name for path in output_dir.glob("sub-*") if path.is_dir()]
    for label in {*labels, "sub-02"} - {"sub-01"}:
        for root in (output_dir, data):
            if not (root / label).exists():
                _copy_participant(root, label)


def _copy_participant(root: Path, label: str) -> None:
    """Copy the first participant without confounds, because equal head motion is refused."""
    for path in sorted((root / "sub-01").rglob("*")):
        copy = root / str(path.relative_to(root)).replace("sub-01", label)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and "_desc-confounds_" not in path.name:
            shutil.copy(path, copy)


PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in all_pages()}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if codes_of(text)])
def test_commands_of_a_page_run_to_the_end(page: str, runs: Runs, tmp_path: Path) -> None:
    box = Sandbox(tmp_path, page, PAGES[page], runs.make_data)
    messages = [message for call in box.calls() if (message := runs.run(call, box))]
    assert not messages, "\n".join(messages)
