"""Names of the group level's files, and their replacement as a whole.

Files of one selected session contain its label (``group_ses-pre_metrics.tsv``). A call replaces
all files of an earlier call with the same names of sessions: files are first written to a hidden
folder next to the final ones, and moved when all of them are complete. A call that was stopped
while files were moved is completed by the next call.
"""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bids_sr.io.atomic_files import put_in_place, read_json, write_text
from bids_sr.io.frozen import frozen
from bids_sr.survey.bids.label_lists import list_some

_FOLDER = "group"  # folder of group maps and figures
# names of the tables of functional runs and structural scans
_TABLES = "metrics|stats|methods|protocols|agreement|variability|change"
_MAX_LISTED = 6  # participants in a message
_STAGING = ".group"  # folder of files that are not complete yet
# list of all files of a complete call, in the folder of incomplete files
_MANIFEST = "complete.json"


@frozen
class GroupNames:
    """Names of the files of a call.

    `sessions` are the labels of the requested sessions; () for all. `kind` is ``scans`` for
    results of structural scans, "" for results of functional runs.
    """

    sessions: tuple[str, ...] = ()
    kind: str = ""

    @property
    def session(self) -> str:
        """Label of the only requested session; "" if several or all sessions are combined."""
        return self.sessions[0] if len(self.sessions) == 1 else ""

    @property
    def start(self) -> str:
        """Start of all names of the call, such as ``group_ses-pre``."""
        return f"group_ses-{self.session}" if self.session else "group"

    @property
    def tables(self) -> str:
        """Start of the names of tables and of the page, such as ``group_ses-pre_scans``."""
        return f"{self.start}_{self.kind}" if self.kind else self.start

    @property
    def page(self) -> str:
        """Name of the page."""
        return f"{self.tables}.html"

    def contains(self, path: Path) -> bool:
        """Return whether a file is a result of a call with these names.

        `path` is relative to the output directory. Other files, for example of a user, are not
        results even if their names begin in the same way.
        """
        start, tables = re.escape(self.start), re.escape(self.tables)
        patterns = {
            "": rf"{tables}(\.html|_({_TABLES})(_columns)?\.(tsv|json))",
            _FOLDER: rf"{start}_(task-.*_statmap\.(nii\.gz|json)|inputs(_columns)?\.(tsv|json))",
            f"{_FOLDER}/figures": rf"{tables}_(desc|task)-.*\.svg",
        }
        if self.kind:
            del patterns[_FOLDER]  # only functional runs have group maps
        folder = "" if path.parent == Path() else path.parent.as_posix()
        return folder in patterns and re.fullmatch(patterns[folder], path.name) is not None


@contextmanager
def replace_group_files(output_dir: Path, names: GroupNames) -> Iterator[Path]:
    """Replace the files of an earlier call when the block ends, or none of them if it fails.

    The context manager yields the folder for the new files, with the same relative paths as in the
    output directory. Files of the earlier call that the block does not write are removed.
    """
    complete_interrupted_call(output_dir)
    staging = output_dir / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        files = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
        content = {"sessions": names.sessions, "kind": names.kind, "files": [*map(str, files)]}
        write_text(staging / _MANIFEST, json.dumps(content))
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    complete_interrupted_call(output_dir)


def complete_interrupted_call(output_dir: Path) -> None:
    """Move the files of a complete call to their final places, the page last.

    Nothing is done if the last call was not stopped while its files were moved.
    """
    staging = output_dir / _STAGING
    content = read_json(staging / _MANIFEST)
    if not content:
        return
    names = GroupNames(sessions=tuple(content["sessions"]), kind=content["kind"])
    files = [Path(name) for name in content["files"]]
    for path in list_group_files(output_dir, names):
        if path not in files:
            (output_dir / path).unlink()
    for path in sorted(files, key=lambda path: path.name == names.page):
        if (staging / path).exists():
            (output_dir / path).parent.mkdir(parents=True, exist_ok=True)
            put_in_place(staging / path, output_dir / path)
    shutil.rmtree(staging)


def list_group_files(output_dir: Path, names: GroupNames) -> list[Path]:
    """Return the files of earlier calls with the same names, relative to the output directory."""
    paths = (
        path.relative_to(output_dir)
        for folder in (output_dir, output_dir / _FOLDER, output_dir / _FOLDER / "figures")
        for path in folder.glob("group*")
        if path.is_file() or path.is_symlink()
    )
    return sorted(path for path in paths if names.contains(path))


def describe_replaced(output_dir: Path, names: GroupNames, participants: Sequence[str]) -> str:
    """Return a sentence on the results of an earlier call with other participants, or "".

    These results have the same names, so that they are replaced. `participants` are labels
    (``sub-…``) of this call.
    """
    earlier = _read_participants(output_dir / f"{names.tables}_metrics.tsv")
    if not earlier or {*earlier} == {*participants}:
        return ""
    return (
        f"Replaced by this call: tables, maps and page of an earlier call with"
        f" {len(earlier)} participants ({list_some(sorted(earlier), _MAX_LISTED)}). To keep them,"
        f" move the files {names.start}* and the folder {_FOLDER} to another directory first"
    )


def _read_participants(table: Path) -> tuple[str, ...]:
    """Return the distinct participants in a metrics table of the group; () if it is missing.

    The table can be large, so it is read line by line.
    """
    try:
        with table.open(encoding="utf-8") as stream:
            columns = next(stream, "").rstrip("\n").split("\t")
            if "participant" not in columns:
                return ()
            column = columns.index("participant")
            cells = (line.rstrip("\n").split("\t", column + 1)[column:] for line in stream)
            return tuple(dict.fromkeys(cell[0] for cell in cells if cell))
    except (OSError, UnicodeDecodeError):
        return ()


def list_other_sessions(output_dir: Path, names: GroupNames) -> list[str]:
    """Return the selections of sessions that other calls have pages of, such as ``ses-pre``."""
    pages = {path.name for path in output_dir.glob("group*.html")} - {names.page}
    starts = {page.removesuffix(".html").removesuffix("_scans") for page in pages} - {names.start}
    return sorted(start.removeprefix("group_") for start in starts - {"group"}) + (
        ["all sessions"] if "group" in starts else []
    )
