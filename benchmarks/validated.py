"""Count the files of an output that the BIDS validator reads, and the issues that it reports.

python benchmarks/validated.py OUT

The data set for other programs, a folder in OUT/derivatives, is validated on its own, because the
validator reads no data sets within a data set. `bids-validator-deno` is taken from this
environment. The exit code is 1 if the validator reports an error.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from _table import keep

OTHER_DATASETS = ("derivatives", "sourcedata")


def main() -> int:
    (argument,) = sys.argv[1:]
    out = Path(argument)
    roots = [out, *sorted((out / "derivatives").glob("bids-sr-*"))]
    rows = [validate(root) for root in roots]
    remarks = [
        "Unread files are listed in `.bidsignore` (a suffix or folder that BIDS does not define),"
        " or belong to data sets within the data set (`derivatives`, `sourcedata`), or are logs."
    ]
    keep("validated", "What the BIDS validator reads of an output", rows, remarks=remarks)
    return int(any(row["errors"] for row in rows))


def validate(root: Path) -> dict[str, object]:
    """Return the counts of one data set."""
    program = shutil.which("bids-validator-deno", path=Path(sys.executable).parent)
    assert program is not None
    done = subprocess.run(
        [program, "--format", "json", root], capture_output=True, text=True, check=False
    )
    result = json.loads(done.stdout[done.stdout.index("{") :])
    severities = Counter(issue["severity"] for issue in result["issues"]["issues"])
    files = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return {
        "data set": "OUT" if root.parent.name != "derivatives" else f"derivatives/{root.name}",
        "files": len(files),
        "read": result["summary"]["totalFiles"],
        "errors": severities["error"],
        "warnings": ", ".join(
            f"{issue['code']} ({issue['location']})"
            for issue in result["issues"]["issues"]
            if issue["severity"] == "warning"
        )
        or "none",
        "in derivatives and sourcedata": sum(path.parts[0] in OTHER_DATASETS for path in files),
        "figures": sum("figures" in path.parts for path in files),
        "maps": sum(path.stem.removesuffix(".nii").endswith("_statmap") for path in files),
    }


if __name__ == "__main__":
    sys.exit(main())
