"""A new notice touches two files, the table of codes and the check that issues it, as described in
docs/extending.md.
"""

import ast
import re
from pathlib import Path

import pytest
from recipes import ROOT, copy_with, files_of, told_by

from bids_sr.notices import CODES, Notice

TITLE = "Add a notice"
SCRIPT = """
import json
from pathlib import Path

from data.dataset import BidsMaker

from bids_sr.cli import participant_level, main
from bids_sr.execution.execute import RunOutcome
from bids_sr.notices import CODES, read_record
from bids_sr.report.participants_page import write_participants
from bids_sr.report.sections import FigureSpec

maker = BidsMaker(Path("data"))
maker.subject()
maker.bold("sub-01_task-tap", tr=6.0)
maker.events("sub-01_task-tap", rows=[(12.0 * k, 6.0, "ab"[k % 2]) for k in range(14)])
participant_level.run_participants = lambda settings, plan, say: RunOutcome()
argv = ["data", "out", "participant", "--skip-bids-validation"]
code = main.main(argv)
(logs,) = Path("out/logs").iterdir()
(notice,) = [entry for entry in read_record(logs) if entry.code == "long-tr"]
print(code, notice.level, notice.subject, notice.run, notice.why)
write_participants(Path("out"), ["01"], declarations=[], log_dir=logs)
assert "a repetition time of 6 s is long" in Path("out/sub-01.html").read_text()
"""


def test_the_notice_of_the_page_is_printed_recorded_and_on_the_report(tmp_path: Path) -> None:
    assert files_of(TITLE) == {"bids_sr/notices.py", "bids_sr/preflight/run_model.py"}
    *lines, last = told_by(copy_with(TITLE, tmp_path), SCRIPT).splitlines()
    assert last.startswith("0 warning 01 sub-01_task-tap a repetition time of 6 s is long")
    printed = " ".join(" ".join(lines).split())
    assert "a repetition time of 6 s is long" in printed


def given_codes() -> set[str]:
    """Return all codes that the program assigns to notices or compares with them."""
    codes = set()
    for path in [*(ROOT / "bids_sr").rglob("*.py"), *(ROOT / "workflows").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if re.search(r"\bcode\s*=", text) else ():
            if isinstance(node, ast.keyword) and node.arg == "code":
                codes |= {
                    child.value
                    for child in ast.walk(node.value)
                    if isinstance(child, ast.Constant) and isinstance(child.value, str)
                }
    return codes


def test_every_code_in_the_program_is_in_the_table() -> None:
    codes = given_codes()
    assert {"step", "option", "left-out"} <= codes
    assert codes - set(CODES) == set()
    with pytest.raises(KeyError):
        Notice(what="x", code="never heard of")


def test_the_page_of_notices_is_up_to_date() -> None:
    import runpy

    page = runpy.run_path(str(ROOT / "docs" / "notices_page.py"))["page"]()
    text = (ROOT / "docs" / "notices.md").read_text(encoding="utf-8")
    assert text == page, "python docs/notices_page.py writes it anew"
    assert all(f"| `{code}` |" in text for code in CODES)
