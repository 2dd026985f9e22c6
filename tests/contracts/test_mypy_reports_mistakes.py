"""A type checker reports mistakes in the calls of steps in a workflow."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WRONG = {
    "a misspelled keyword": (
        "return bold_reference.count_dummies(bold, dumy_scans=None)",
        'Unexpected keyword argument "dumy_scans"',
    ),
    "an image for a series": (
        "return bold_reference.count_dummies(boldref, dummy_scans=None)",
        'incompatible type "Volume"; expected "SeriesReader"',
    ),
    "a missing argument": (
        "return bold_reference.average_volumes(bold)",
        'Missing named argument "n_dummy"',
    ),
    "a wrong field of a result": (
        "return fit_motion(bold, 3).bold_ref",
        '"HeadMotion" has no attribute "bold_ref"',
    ),
    "a number for a triple": (
        "return find_brain(boldref, factor=2.0)",
        'incompatible type "float"; expected "tuple[float, float, float]"',
    ),
}
"""Lines with a mistake, and the message that mypy prints."""
RIGHT = "return find_brain(fit_motion(bold, 3).boldref, factor=(2.0, 2.0, 1.0))"
HEAD = """\
from bids_sr.pipeline.artifacts import Image, Series
from bids_sr.steps import bold_reference
from bids_sr.workflows.fit_run import fit_motion, find_brain


"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the messages of one mypy call by line."""
    lines = [RIGHT, *(line for line, _ in WRONG.values())]
    code = HEAD + "\n\n".join(
        f"def part_{number}(bold: Series, boldref: Image) -> object:\n    {line}\n"
        for number, line in enumerate(lines)
    )
    file = tmp_path_factory.mktemp("typed") / "workflow.py"
    file.write_text(code)
    # the cache of a plain `mypy` call can only be reused with the same options
    options = ["--config-file", "setup.cfg", "--cache-dir", ".mypy_cache", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(file)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    source = code.splitlines()
    messages: dict[str, str] = {}
    for number, message in re.findall(r"workflow\.py:(\d+): error: (.*)", done.stdout):
        line = source[int(number) - 1].strip()
        messages[line] = f"{messages.get(line, '')}{message}\n"
    assert messages, done.stdout + done.stderr
    return messages


@pytest.mark.parametrize(("line", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_a_call_is_reported(
    reported: dict[str, str], line: str, message: str
) -> None:
    assert message in reported.get(line, "")


def test_nothing_else_is_reported(reported: dict[str, str]) -> None:
    assert set(reported) == {line for line, _ in WRONG.values()}
