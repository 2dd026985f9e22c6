"""Check the time estimates that runs printed: python benchmarks/progress.py SCREEN...

SCREEN is the standard output of a call, in a file. For each remaining time that was printed after
20 % of the run, the error is its difference from the actual time, minus half a minute of rounding,
relative to the actual time.
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
