"""Whether runs said how long they would take: python benchmarks/progress.py SCREEN...

SCREEN is what a call printed, with its standard output in a file. Of each time left that was said
once 20 % were done, the error is its distance from what came, less half a minute of rounding,
as a share of what came.
"""

import re
import sys
from datetime import datetime
from pathlib import Path

from _table import markdown

SAID = re.compile(r"\((\d+) %, (?:about (\d+)|under 1) min left\)")
DAY_S = 24 * 3600


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = []
    for path in map(Path, sys.argv[1:]):
        lines = re.findall(r"^(\d\d:\d\d:\d\d) (.*)", path.read_text(), re.MULTILINE)
        times = [datetime.strptime(time, "%H:%M:%S") for time, _ in lines]
        for time, (_, text) in zip(times, lines, strict=True):
            if (estimate := SAID.search(text)) and int(estimate[1]) >= 20:
                came = (times[-1] - time).total_seconds() % DAY_S / 60
                minutes_left = float(estimate[2] or 0.5)
                error = max(0, abs(minutes_left - came) - 0.5) / came
                rows.append((path.name, int(estimate[1]), minutes_left, came, error))
    columns = ("run", "% done", "min said", "min that came", "error")
    print(markdown([dict(zip(columns, row, strict=True)) for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
