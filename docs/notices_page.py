"""Write docs/notices.md from the codes in bids_sr/notices.py: ``python docs/notices_page.py``."""

from pathlib import Path

from bids_sr.notices import CODES, RECORD

PAGE = Path(__file__).parent / "notices.md"
INTRODUCTION = f"""\
# Notices

A notice is a message of the program: a note, a warning or an error. You see notices on the
console, in the reports and in `index.html`. To look up an error, find
its code in the table below.

To process notices with a script, read `logs/<run>/{RECORD}`, which has one notice per line in
JSON. Each notice has these fields:

| field | content |
| --- | --- |
| `what` | the file or option that the notice is about |
| `why` | the reason |
| `remedy` | what you can do |
| `level` | `note`, `warning` or `error` |
| `subject`, `run` | participant and run; empty if the notice is about the whole call |
| `code` | a code of the table below |
| `file` | a file with more information, such as a crash file or a log |

The last column of this table applies if the notice itself has no remedy. The table is written by
`python docs/notices_page.py` from `bids_sr/notices.py`.

| code | cause | what to do |
| --- | --- | --- |
"""


def page() -> str:
    """Return the whole page."""
    rows = (f"| `{code}` | {cause} | {remedy} |\n" for code, (cause, remedy) in CODES.items())
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
