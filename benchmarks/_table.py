"""Print tables of the benchmarks, and store them as benchmarks/results/NAME.{json,md}."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as a Markdown table."""
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "| " + " | ".join("---" for _ in keys) + " |"]
    lines += ["| " + " | ".join(_shown(row.get(key)) for key in keys) + " |" for row in rows]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def commit() -> str:
    """Return the commit of the measured program; "+" if a tracked file differs from it."""
    command = ("git", "-C", str(HERE.parent), "describe", "--always", "--exclude=*", "--dirty=+")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def keep(
    name: str, title: str, rows: Sequence[Mapping[str, Any]], *, remarks: Sequence[str] = ()
) -> None:
    """Print and store a table, preceded by the command line, commit and date."""
    command = " ".join(["python", *(Path(arg).name if "/" in arg else arg for arg in sys.argv)])
    provenance = {"command": command, "commit": commit(), "date": date.today().isoformat()}
    stamp = "`{command}` at {commit}, {date}".format_map(provenance)
    text = f"# {title}\n\n{stamp}\n\n{markdown(rows)}\n" + "".join(
        f"\n{remark}\n" for remark in remarks
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"title": title, **provenance, "rows": list(rows)}, indent=1) + "\n"
    )
    sys.stdout.write(text)
