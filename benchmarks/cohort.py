"""Many small phantoms, each its own head, from the participant level to the group level: wall
times and the verdict.

python benchmarks/cohort.py FOLDER [--subjects 12] [--seed 100] [options of bids-sr participant
...]
"""

import argparse
import sys
from pathlib import Path

from _resources import watch
from _table import keep

BIN = Path(sys.executable).parent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--seed", type=int, default=100)
    given, options = parser.parse_known_args()
    data, out, work = (given.folder / name for name in ("data", "out", "work"))
    phantom = [
        str(BIN / "bids-sr-phantom"),
        str(data),
        "--preset",
        "tiny",
        "--subjects",
        str(given.subjects),
        "--seed",
        str(given.seed),
    ]
    sr = str(BIN / "bids-sr")
    commands = {
        "phantoms": phantom,
        "participants": [
            sr,
            str(data),
            str(out),
            "participant",
            "-w",
            str(work),
            "--truth",
            str(data / "derivatives" / "ground-truth"),
            *options,
        ],
        "group": [sr, str(data), str(out), "group"],
    }
    rows = []
    for name, command in commands.items():
        if name == "phantoms" and data.exists():
            continue
        usage = watch(command, log=given.folder / f"{name}.log")
        rows.append(
            {
                "level": name,
                "exit code": usage.code,
                "minutes": round(usage.seconds / 60, 2),
                "peak PSS (GiB)": round(usage.peak_gib, 2),
            }
        )
        if usage.code:
            break
    keep("cohort", f"{given.subjects} phantoms of preset tiny, seeds from {given.seed}", rows)
    return max(int(row["exit code"]) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
