"""Results that earlier calls left of the runs of a call.

Next to new ones, they would be taken for results of the same settings. They are moved, not
deleted.
"""

import re
from collections.abc import Collection
from pathlib import Path

EARLIER = Path("sourcedata", "earlier")
"""Where they go, below the derivatives."""
_RUN = re.compile(r"sub-[^_]+(_ses-[^_]+)?(_task-[^_]+(_(acq|ce|rec|dir|run)-[^_]+)*)?(?=_)")


def scope_of(name: str) -> str:
    """Start of a file's name that tells its run, or its participant and session without a task."""
    found = _RUN.match(name)
    return found[0] if found else ""


def set_aside(out: Path, figures: Path, stored: Collection[Path]) -> dict[str, list[str]]:
    """Move what lies in `out` of the runs of the stored files, and is not among these.

    Figures among intermediate files are removed. Sidecars that apply to no stored file go with
    theirs. The names of what was moved are returned by run.
    """
    runs = {scope_of(path.name) for path in stored} - {""}
    described = {frozenset(_parts(path)) for path in stored if path.suffix != ".json"}
    moved: dict[str, list[str]] = {}
    for path in sorted({path for root in (out, figures) for path in _beside(stored, root)}):
        run = scope_of(path.name)
        if run not in runs or path in stored or path.suffix == ".json" or path.is_dir():
            continue
        if path.suffix == ".zip" and figures != out:  # the page's figures, replaced run by run
            continue
        notes = {
            note
            for folder in (path.parent, path.parent.parent)
            for note in folder.glob("*.json")
            if note.name == f"{path.name}.json"  # of a figure
            or (_parts(note) <= _parts(path) and not any(_parts(note) <= one for one in described))
        }
        for file in (path, *notes - set(stored)):
            if file.is_relative_to(out):
                target = out / EARLIER / file.relative_to(out)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
            else:
                file.unlink()
        if path.is_relative_to(out):
            moved.setdefault(run, []).append(path.name)
    return moved


def _parts(path: Path) -> set[str]:
    """Entities and suffix of a name."""
    return set(path.name.partition(".")[0].split("_"))


def _beside(stored: Collection[Path], root: Path) -> set[Path]:
    """All files of the participants, below `root`, of whom files were stored there."""
    folders = set()
    for path in stored:
        parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
        first = next((n for n, part in enumerate(parts) if part.startswith("sub-")), None)
        if first is not None:
            folders.add(root.joinpath(*parts[: first + 1]))
    return {path for folder in folders if folder.is_dir() for path in folder.rglob("*.*")}
