"""Errors that the BIDS validator finds in a data set."""

import json
import subprocess
from pathlib import Path


def validation_errors(bids_dir: Path) -> list[dict]:
    """Return the errors of the BIDS validator, without its warnings."""
    process = subprocess.run(
        ["bids-validator-deno", "--json", str(bids_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(process.stdout)
    assert report["summary"]["totalFiles"] > 1
    return [issue for issue in report["issues"]["issues"] if issue.get("severity") == "error"]
