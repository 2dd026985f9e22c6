"""Tables of the benchmarks: printed, and kept as benchmarks/results/NAME.{json,md}."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of one set of keys as a Markdown table."""
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "| " + " | ".join("---" for _ in keys) + " |"]
    lines += ["| " + " | ".join(_shown(row.get(key)) for key in keys) + " |" for row in rows]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def keep(
    name: str, title: str, rows: Sequence[Mapping[str, Any]], *, remarks: Sequence[str] = ()
) -> None:
    """Print a table and keep it; the command line that made it stands above it."""
    command = " ".join(["python", *(Path(arg).name if "/" in arg else arg for arg in sys.argv)])
    text = f"# {title}\n\n`{command}`\n\n{markdown(rows)}\n" + "".join(
        f"\n{remark}\n" for remark in remarks
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"title": title, "rows": list(rows)}, indent=1) + "\n"
    )
    sys.stdout.write(text)
