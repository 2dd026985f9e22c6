"""Write docs/notices.md, the codes of notices: python docs/notices_page.py reads them from
bids_sr/notices.py.
"""

from pathlib import Path

from bids_sr.notices import CODES, RECORD

PAGE = Path(__file__).parent / "notices.md"
INTRODUCTION = f"""\
# Notices

Made by `python docs/notices_page.py`. What the console, `bids-sr-slurm status`, the reports and
the index tell is a notice: *what* it is about, *why*, *remedy*, *level* (`note`, `warning`,
`error`), *subject*, *run*, *code*, and a *file* that tells more. `logs/<run>/{RECORD}` has those
of a run, one a line as JSON; `--log-format json` prints them in the same form.

| code | cause | what to do, where the notice says nothing better |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    rows = (f"| `{code}` | {cause} | {remedy} |\n" for code, (cause, remedy) in CODES.items())
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
