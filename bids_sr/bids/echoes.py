"""One file a run: parts and echoes of one series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bids_sr.bids.inputs import Seen, entities_of


def magnitudes(paths: Sequence[Path], seen: Seen) -> list[Path]:
    """Images of magnitude; phase, real and imaginary parts are left out and that is said."""
    parts = [path for path in paths if entities_of(path).get("part", "mag") != "mag"]
    for path in parts:
        seen.tell(path, f"it is part-{entities_of(path)['part']}; only magnitudes are used.")
    return [path for path in paths if path not in parts]


def bold_runs(paths: Sequence[Path], seen: Seen) -> list[Path]:
    """One file a run: the magnitude; several echoes, or a phase alone, are refused."""
    groups: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for path in paths:
        key = tuple((k, v) for k, v in entities_of(path).items() if k not in ("echo", "part"))
        groups.setdefault(key, []).append(path)
    runs = []
    for files in groups.values():
        usable = [path for path in files if entities_of(path).get("part", "mag") == "mag"]
        if not usable:
            seen.refuse(
                files[0], "only phase, real or imaginary parts of this run are there", "Add the magnitude (part-mag)."
            )
            continue
        magnitudes(files, seen)
        echoes = sorted({entities_of(path).get("echo", "") for path in usable})
        if len(echoes) > 1:
            seen.refuse(
                usable[0],
                f"the run has {len(echoes)} echoes ({', '.join(p.name for p in usable)}), which are not combined here",
                'Combine them beforehand, or choose one with --bids-filter-file and {"bold": {"echo": 2}}.',
            )
        elif len(usable) > 1:
            names = ", ".join(path.name for path in usable)
            seen.refuse(usable[0], f"several files stand for one run ({names})", "Keep one of them.")
        else:
            if echoes != [""]:
                seen.tell(usable[0], f"echo {echoes[0]} alone is used.")
            runs.append(usable[0])
    return runs
