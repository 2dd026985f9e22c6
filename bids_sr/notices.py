"""Messages to the user: subject, reason and remedy.

One class serves for notes, warnings and errors.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from bids_sr.frozen import frozen

Level = Literal["note", "warning", "error"]
"""A fact, something that may be wrong, and something that cannot be carried out."""

RECORD = "notices.jsonl"
Code = Literal["", "option", "annex", "lfs", "reference", "left-out", "step"]
"""What readers tell apart.

An option is wrong, a file of git-annex or Git LFS is absent, a reference was found, a run is left
out, a step warned.
"""


@frozen
class Notice:
    """One thing to be told.

    `subject` is a label, `run` the name of a run; where both are empty it is about the whole call.
    A note or a warning says all in `why`, an error has the reason there.
    """

    what: str  # a path, or an option where there is no file
    why: str = ""
    remedy: str = ""  # what the user can do
    level: Level = "error"
    subject: str = ""
    run: str = ""
    code: Code = ""

    def __str__(self) -> str:
        if self.level != "error":
            return f"{self.what}: {self.why}"
        lines = (
            self.what,
            self.why and f"  why: {self.why}",
            self.remedy and f"  fix: {self.remedy}",
        )
        return "\n".join(filter(None, lines))

    def concerns(self, label: str) -> bool:
        """Whether it is about this participant or about all."""
        return self.subject in ("", label)

    def of_all(self) -> "Notice":
        """The same about the whole call, to tell once what holds for several."""
        return replace(self, subject="", run="")


def record(folder: Path, notices: Iterable[Notice]) -> None:
    """Add notices to the record in the folder of a run's logs.

    Processes and jobs of a run write to the same file: all lines of a call are written at once.
    """
    text = "".join(f"{json.dumps(asdict(each), ensure_ascii=False)}\n" for each in notices)
    if not text:
        return
    target = os.open(folder / RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(target, text.encode())
    finally:
        os.close(target)


def recorded(folder: Path) -> list[Notice]:
    """Return the unique notices in the record of a run, in the order in which they were found.

    The list is empty where there is no record.
    """
    try:
        lines = (folder / RECORD).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found: dict[Notice, None] = {}
    for line in lines:
        try:
            found[Notice(**json.loads(line))] = None
        except (ValueError, TypeError):  # cut off where a disk was full, or of another version
            continue
    return list(found)
