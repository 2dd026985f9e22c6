"""How much a report makes its reader read: words and tables of each section, folded ones counted
as any other.

python benchmarks/report_words.py OUT/sub-01.html [NAME]

Words within scripts, styles and drawings do not count. Bars of the example (`bids-sr
examples/studyforrest OUT participant`): 4,500 words, 25 tables; the exit status is 1 where the
page exceeds them. Writes benchmarks/results/report_words_NAME.{json,md}; NAME is by default
`example`.
"""

import re
import sys
from pathlib import Path

from _table import keep

WORDS, TABLES = 4500, 25
_UNREAD = re.compile(
    r"<(script|style|svg)\b.*?</\1>|<(script|style|svg)\b[^>]*/>|<title>.*?</title>",
    flags=re.DOTALL,
)
_SECTION = re.compile(r'<section id="([\w-]+)".*?</section>', flags=re.DOTALL)


def counted(html: str) -> tuple[int, int]:
    """Words that stand in a page or a part of it, and its tables."""
    shown = _UNREAD.sub(" ", html)
    return len(re.sub(r"<[^>]+>", " ", shown).split()), shown.count("<table")


def main() -> None:
    """Count a page; see the head of this file."""
    page = Path(sys.argv[1]).read_text(encoding="utf-8")
    name = sys.argv[2] if len(sys.argv) > 2 else "example"
    whole = counted(page)
    parts = {found[1]: counted(found[0]) for found in _SECTION.finditer(page)}
    rows = [
        {"section": section, "words": words, "tables": tables}
        for section, (words, tables) in {**parts, "whole page": whole}.items()
    ]
    keep(
        f"report_words_{name}",
        f"Words and tables of the report, {name}",
        rows,
        remarks=[f"Bars: {WORDS} words, {TABLES} tables."],
    )
    sys.exit(int(whole[0] > WORDS or whole[1] > TABLES))


if __name__ == "__main__":
    main()
