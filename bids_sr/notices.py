"""What the user is told: what it is about, why, and what can be done; one class for notes, warnings and errors."""

from dataclasses import replace
from typing import Literal

from bids_sr.frozen import frozen

Level = Literal["note", "warning", "error"]
"""A fact, something that may be wrong, and something that cannot be carried out."""

Code = Literal["", "option", "annex", "lfs", "reference"]
"""What readers tell apart: an option is wrong, a file of git-annex or Git LFS is absent, a reference was found."""


@frozen
class Notice:
    """One thing to be told.

    `subject` is a label, `run` the name of a run; where both are empty it is about the whole call. A note or a warning
    says all in `why`, an error has the reason there.
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
        lines = (self.what, self.why and f"  why: {self.why}", self.remedy and f"  fix: {self.remedy}")
        return "\n".join(filter(None, lines))

    def concerns(self, label: str) -> bool:
        """Whether it is about this participant or about all."""
        return self.subject in ("", label)

    def of_all(self) -> "Notice":
        """The same about the whole call, to tell once what holds for several."""
        return replace(self, subject="", run="")
