"""What finished steps have left, so that a rerun takes nothing over that has changed since.

nipype calls a step done where a result file lies beside a hash of the inputs, whatever became of
the files: one cut short by a loss of power, or touched by a hand, would pass. So the size and the
time stamp of every file of a step are noted when it ends, in the process that ran it, and compared
before its results are used again. Time stamps are only ever compared for equality, so that no jump
of a clock matters.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_sr.io import atomic_files
from bids_sr.io.checksums import checksum
from bids_sr.io.grids import LARGE
from bids_sr.notices import record, recorded
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.input_checksums import input_files
from bids_sr.pipeline.nodes import Handle, Node
from bids_sr.pipeline.store import RECORD as WRITTEN
from bids_sr.version import __version__

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node as NipypeNode

_LOGGER = logging.getLogger(__name__)
# the number changes with what the files of steps are, so that those left before are made anew
_RECORD = "_left-2.json"
_DROPPED = "_dropped"
_LARGE = LARGE // 2  # bytes of a file; smaller images stay, for calls with other settings
# nipype rewrites the first two, and reads neither to run a step
_OWN = {"_node.pklz", "_inputs.pklz", _RECORD, _DROPPED}
_HASH = "_0x*.json"

_Stamp = list[int]


def note_left(folder: Path) -> None:
    """Note the files of a step that has just ended well; a step without a note is not trusted."""
    try:
        stamps = {str(path.relative_to(folder)): _stamp(path) for path in _left(folder)}
        stamps |= {str(path): _stamp(path)[:1] for path in _stored(folder)}
        with atomic_files.whole_file(folder / _RECORD, durable=False) as part:
            part.write_text(json.dumps(stamps), encoding="utf-8")
    except OSError as error:
        _LOGGER.warning(
            "%s: the contents of this directory could not be recorded, so this step will be"
            " repeated when the program is run again (%s)",
            folder,
            error,
        )


def _intact(folder: Path) -> bool:
    """Whether all that a step has left is there as it was left.

    True if sizes and time stamps agree; False without a note.
    """
    try:
        stamps: dict[str, _Stamp] = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return bool(stamps) and all(
            _stamp(folder / name)[: len(stamp)] == stamp for name, stamp in stamps.items()
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def drop_large(folder: Path) -> None:
    """Leave holes in the place of a step's large images, which no step reads any more.

    Their size and time stay, so that all counts as left; read by mistake they are no image.
    """
    for path in () if (folder / _DROPPED).exists() else list(folder.rglob("*.nii")):
        state = path.stat()
        if state.st_size >= _LARGE:
            (folder / _DROPPED).touch()
            hole = atomic_files.beside(path)  # the images may have other names, which keep them
            with hole.open("wb") as stream:
                stream.truncate(state.st_size)
            os.utime(hole, ns=(state.st_atime_ns, state.st_mtime_ns))
            hole.replace(path)


def _hashes(folder: Path) -> list[Path]:
    """Files by which nipype knows that a step is done."""
    return [path for path in folder.glob(_HASH) if not path.name.endswith("_unfinished.json")]


def _forget(folder: Path) -> None:
    """Have nipype run a step again."""
    for path in (*_hashes(folder), folder / _RECORD, folder / _DROPPED):
        path.unlink(missing_ok=True)


def all_stored(folder: Path) -> bool:
    """Return whether a storing step has finished and the files that it recorded exist.

    A storing step is one that stores derivatives.

    False also where its record is missing or cannot be read.
    """
    try:
        return all(
            os.path.exists(path)
            for path in json.loads((folder / WRITTEN).read_text(encoding="utf-8"))
        )
    except (OSError, ValueError):
        return False


class Finish:
    """Which steps of a graph have ended, as a file beside the folder of each tells.

    It holds what the step was last asked for: a digest of the version and of all that it is given,
    with size, time stamp and checksum of files. A call whose steps have all ended with what it
    asks for has nothing to compute, and need not ask nipype.
    """

    def __init__(self, graph: Graph, work_dir: Path) -> None:
        self._wires = graph.wires
        self._steps = dict[Node, tuple[Path, str]]()
        for node, settings in graph.settings.items():
            step = node.step
            folder = Path(work_dir, *node.scope.path.split("."), node.name)
            given = [
                __version__,
                step.__module__,
                step.__qualname__,
                graph.wires[node],
                settings,
                input_files(graph, node),
            ]
            digest = hashlib.sha256(repr(_told(given)).encode()).hexdigest()
            self._steps[node] = folder, digest

    def left(self) -> set[Node]:
        """Return the steps that have to run, as far as can be told without nipype.

        Steps that have not ended with what they are given, those whose images they read and
        `drop_large` has dropped, and all that follow from them.
        """
        lost = set[Node]()
        while True:
            left = self._not_ended(lost)
            more = {
                one
                for each in left
                for one in self._given(each) - left
                if (self._steps[one][0] / _DROPPED).exists()
            }
            if not more:
                return left
            lost |= more

    def ended(self) -> Callable[[Node], Path | None]:
        """Return a function that gives the folder of a step, or None if it has not ended.

        Only steps count that have ended with what they are given now.
        """
        left = self.left()
        return lambda node: None if node in left else self._steps[node][0]

    def _given(self, node: Node) -> set[Node]:
        """Steps that make what a step is given."""
        nodes = (one.node for wire in self._wires[node].values() for one in wire.handles)
        return {one for one in nodes if one is not None}

    def _not_ended(self, lost: Collection[Node]) -> set[Node]:
        """Return the steps that have not ended, or are lost, and all that follow from them."""

        @cache
        def has_ended(node: Node) -> bool:
            folder, digest = self._steps[node]
            return (
                node not in lost
                and _has_ended(folder, digest)
                and all(map(has_ended, self._given(node)))
                and _intact(folder)
            )

        return {each for each in self._steps if not has_ended(each)}

    def note(self, left: Collection[Node] = ()) -> None:
        """Note what steps are asked for, those that are left before any of them runs.

        `left`: steps that have to run: what they have left before does not count; none at the end.
        """
        for node, (folder, digest) in self._steps.items():
            with contextlib.suppress(OSError):
                folder.parent.mkdir(parents=True, exist_ok=True)
                before = _note_of(folder) if node in left else ""
                if node in left and (folder / _DROPPED).exists():
                    _forget(folder)
                _asked(folder).write_text(json.dumps([digest, before]), encoding="utf-8")

    def stored(self) -> set[Path]:
        """Return all files that the steps have stored."""
        return {path for folder, _ in self._steps.values() for path in _stored(folder)}

    def retell(self, logs: Path) -> None:
        """Add what the steps warned of when they last ran to the record in `logs`."""
        notices = dict.fromkeys(
            each for folder, _ in self._steps.values() for each in recorded(folder)
        )
        known = set(recorded(logs))
        with contextlib.suppress(OSError):
            record(logs, [each for each in notices if each not in known])


def _asked(folder: Path) -> Path:
    """Where it stands what a step was last asked for."""
    return folder.with_name(f"{folder.name}.asked")


def _has_ended(folder: Path, digest: str) -> bool:
    """Whether a step that was last asked for this has left its note since."""
    try:
        asked, before = json.loads(_asked(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return asked == digest and before != _note_of(folder)


def _note_of(folder: Path) -> str:
    """What tells the note of a step from an earlier one."""
    note = folder / _RECORD
    return str(_stamp(note)) if note.exists() else "none"


def _told(value: object) -> object:
    """Return texts that are others where a value is another one."""
    if isinstance(value, Mapping):
        return [(name, _told(each)) for name, each in value.items()]
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    if isinstance(value, Handle):
        return [_told(value.source), value.name]
    return (
        (str(value), _stamp(value), checksum(value))
        if isinstance(value, Path) and value.is_file()
        else str(value)
    )


def forget_damaged(nodes: "Iterable[NipypeNode]") -> list[str]:
    """Make steps with changed files run again and return their names.

    These are steps that nipype would take as done although their files are not as they were left.

    What depends on them runs again by itself, because its inputs bear new time stamps.
    """
    damaged = []
    for node in nodes:
        folder = Path(node.output_dir())
        if _hashes(folder) and not _intact(folder):
            damaged.append(node.fullname)
            _forget(folder)
    return damaged


class NotesLeft:
    """Mixin for nipype plugins that notes what steps run in the scheduler's process have left.

    Of steps that all others have read it drops the large images, unless it `keeps` them.
    """

    procs: "list[NipypeNode]"
    proc_done: Any  # (N,) of each step
    proc_pending: Any
    refidx: Any  # sparse (N, N): steps that are still to read what a step has left
    keeps = True

    def _generate_dependency_list(self, graph: object) -> None:
        from nipype.interfaces.utility import Merge

        super()._generate_dependency_list(graph)  # type: ignore[misc]
        for at, node in enumerate(self.procs):
            if isinstance(node.interface, Merge):  # it hands files on, which others read
                for before in self.refidx[:, [at]].nonzero()[0]:
                    for after in self.refidx[[at]].nonzero()[1]:
                        self.refidx[before, after] = 1

    def _task_finished_cb(self, jobid: int, cached: bool = False) -> None:
        folder = Path(self.procs[jobid].output_dir())
        if not cached and not (folder / _RECORD).exists():
            note_left(folder)
        super()._task_finished_cb(jobid, cached)  # type: ignore[misc]

    def _remove_node_dirs(self) -> None:
        import numpy as np

        for at in () if self.keeps else np.flatnonzero(np.asarray(self.refidx.sum(axis=1)) == 0):
            if self.proc_done[at] and not self.proc_pending[at]:
                self.refidx[at, at] = -1
                drop_large(Path(self.procs[at].output_dir()))


def _left(folder: Path) -> Iterator[Path]:
    """Files of a step but for nipype's own notes; hidden ones are what a killed writer left."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "_report"]
        for name in names:
            if name not in _OWN and not name.startswith((".", "_0x")):
                yield Path(place, name)


def _stored(folder: Path) -> list[Path]:
    """Derivatives that a step has written outside its directory."""
    with contextlib.suppress(FileNotFoundError):
        return [Path(path) for path in json.loads((folder / WRITTEN).read_text(encoding="utf-8"))]
    return []


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
