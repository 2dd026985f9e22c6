"""Records of the files of finished steps, which detect changes before results are reused.

Nipype considers a step done if there is a result file and a hash of the inputs, whatever the state
of its other files. Files truncated by a power failure or modified by hand would not be noticed.
Therefore size and time stamp of all files of a step, and the size of the derivatives that it has
stored, are recorded at its end, in the process that ran it, and compared before its results are
used again. Time stamps are only compared for equality, so changes of the clock do not matter.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Handle, Node
from bids_sr.engine.step_checksums import compute_checksums
from bids_sr.engine.store import RECORD as WRITTEN
from bids_sr.io import atomic_files
from bids_sr.io.checksums import checksum
from bids_sr.io.grids import LARGE_SERIES_BYTES
from bids_sr.io.notices import read_record, record

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node as NipypeNode

_LOGGER = logging.getLogger(__name__)
# The number changes with the set of recorded files, so that older records are not used.
_RECORD = "_left-2.json"
_DROPPED_MARK = "_dropped"
# size of a file; smaller images are kept for calls with other settings
_LARGE_BYTES = LARGE_SERIES_BYTES // 2
# nipype rewrites the first two, and does not read them to run a step
_IGNORED_NAMES = {"_node.pklz", "_inputs.pklz", _RECORD, _DROPPED_MARK}
_HASH_PATTERN = "_0x*.json"

# size (bytes) and time of the last change (ns) of a file; only the size of stored files
_Stamp = list[int]


class StepRecordMixin:
    """Mixin for nipype plugins that records the files of steps that the scheduler runs itself.

    Large images are dropped after the last step that reads them. Attributes of nipype: `proc_done`
    are done flags of the steps (N,), and `refidx` is a sparse matrix (N, N) of the steps that have
    yet to read the results of a step.
    """

    procs: "list[NipypeNode]"
    proc_done: Any
    proc_pending: Any
    refidx: Any

    def _generate_dependency_list(self, graph: object) -> None:
        """Count a step as a reader of the files that it receives through a merge of lists."""
        from nipype.interfaces.utility import Merge

        super()._generate_dependency_list(graph)  # type: ignore[misc]
        for index, node in enumerate(self.procs):
            if isinstance(node.interface, Merge):  # Merge passes on files, which other steps read
                for source in self.refidx[:, [index]].nonzero()[0]:
                    for reader in self.refidx[[index]].nonzero()[1]:
                        self.refidx[source, reader] = 1

    def _task_finished_cb(self, jobid: int, cached: bool = False) -> None:
        """Record the files of the finished step."""
        folder = Path(self.procs[jobid].output_dir())
        if not cached and not (folder / _RECORD).exists():
            record_files(folder)
        super()._task_finished_cb(jobid, cached)  # type: ignore[misc]

    def _remove_node_dirs(self) -> None:
        """Drop the large images of steps whose readers are done; nipype would delete folders."""
        import numpy as np

        for index in np.flatnonzero(np.asarray(self.refidx.sum(axis=1)) == 0):
            if self.proc_done[index] and not self.proc_pending[index]:
                self.refidx[index, index] = -1
                drop_large_images(Path(self.procs[index].output_dir()))


def record_files(folder: Path) -> None:
    """Record the files of a step that has just finished; a step without a record is run again."""
    try:
        stamps = {str(path.relative_to(folder)): _make_stamp(path) for path in _step_files(folder)}
        stamps |= {str(path): _make_stamp(path)[:1] for path in _list_stored_files(folder)}
        with atomic_files.atomic_file(folder / _RECORD, durable=False) as partial_file:
            partial_file.write_text(json.dumps(stamps), encoding="utf-8")
    except OSError as error:
        _LOGGER.warning(
            "%s: the contents of this directory could not be recorded, so this step will be"
            " repeated when the program is run again (%s)",
            folder,
            error,
        )


def _step_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a step, without records of nipype and hidden files of killed writers."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "_report"]
        for name in names:
            if name not in _IGNORED_NAMES and not name.startswith((".", "_0x")):
                yield Path(root, name)


def drop_large_images(folder: Path) -> None:
    """Replace large images of a step, which are not read by any further step, by sparse files.

    Size and time stamp do not change, so the record remains valid. If read by mistake, they are
    not valid images.
    """
    if (folder / _DROPPED_MARK).exists():
        return
    for path in list(folder.rglob("*.nii")):
        state = path.stat()
        if state.st_size >= _LARGE_BYTES:
            (folder / _DROPPED_MARK).touch()
            # other hard links of the image are not affected
            sparse_file = atomic_files.temporary_name(path)
            with sparse_file.open("wb") as stream:
                stream.truncate(state.st_size)
            os.utime(sparse_file, ns=(state.st_atime_ns, state.st_mtime_ns))
            sparse_file.replace(path)


def has_stored_all(folder: Path) -> bool:
    """Return whether a step that stores derivatives has finished and all recorded files exist.

    The result is False if the record is missing or cannot be read.
    """
    try:
        paths = json.loads((folder / WRITTEN).read_text(encoding="utf-8"))
        return all(map(os.path.exists, paths))
    except (OSError, ValueError):
        return False


class _Request(NamedTuple):
    """Directory of a step, and digest of its code and inputs."""

    folder: Path
    digest: str


class FinishedSteps:
    """Finished steps of a graph, from a file next to the directory of each step.

    The file contains a digest of the last request of the step: its code and all inputs, with size,
    time stamp and checksum of files. If all steps of a call have finished with the current
    digest, nothing has to be computed and nipype is not needed.

    `nodes` limits the steps to these and all steps that they depend on; only files that these
    steps read are read for their checksums.
    """

    def __init__(self, graph: Graph, work_dir: Path, nodes: Iterable[Node] | None = None) -> None:
        self._wires = graph.wires
        self._requests = dict[Node, _Request]()
        for node, step_checksum in compute_checksums(graph, nodes).items():
            step = node.step
            folder = find_folder(node, work_dir)
            inputs = [
                step_checksum,
                step.__module__,
                step.__qualname__,
                graph.wires[node],
                graph.settings[node],
            ]
            digest = hashlib.sha256(repr(_fingerprint(inputs)).encode()).hexdigest()
            self._requests[node] = _Request(folder, digest)

    def finished_steps(self) -> set[Node]:
        """Return the steps that have finished with their current inputs."""
        return self._requests.keys() - self.unfinished_steps()

    def unfinished_steps(self) -> set[Node]:
        """Return the steps that have to run, as far as this can be determined without nipype.

        These are steps that have not finished with their current inputs, steps whose images were
        dropped by `drop_large_images` but are needed, and all following steps.
        """
        lost_nodes = set[Node]()
        while True:
            unfinished_nodes = self._find_unfinished(lost_nodes)
            missing = {
                predecessor
                for node in unfinished_nodes
                for predecessor in self._predecessors(node) - unfinished_nodes
                if (self._requests[predecessor].folder / _DROPPED_MARK).exists()
            }
            if not missing:
                return unfinished_nodes
            lost_nodes |= missing

    def _find_unfinished(self, lost_nodes: Collection[Node]) -> set[Node]:
        """Return the steps that have not finished or are lost, and all following steps."""

        @cache
        def has_ended(node: Node) -> bool:
            folder, digest = self._requests[node]
            return (
                node not in lost_nodes
                and _has_ended(folder, digest)
                and all(map(has_ended, self._predecessors(node)))
                and _is_intact(folder)
            )

        return {node for node in self._requests if not has_ended(node)}

    def _predecessors(self, node: Node) -> set[Node]:
        """Return the steps whose results are inputs of a step."""
        nodes = (handle.node for wire in self._wires[node].values() for handle in wire.handles)
        return {source for source in nodes if source is not None}

    def finished_folder(self) -> Callable[[Node], Path | None]:
        """Return a function that returns the directory of a finished step, or None.

        Only steps that have finished with their current inputs are included.
        """
        finished_nodes = self.finished_steps()
        return lambda node: self._requests[node].folder if node in finished_nodes else None

    def write_requests(self, unfinished_nodes: Collection[Node] = ()) -> None:
        """Write the current digest of all steps.

        `unfinished_nodes` are steps that have to run, whose earlier records do not count. They are
        passed before any step runs, and empty at the end.
        """
        for node, (folder, digest) in self._requests.items():
            with contextlib.suppress(OSError):
                folder.parent.mkdir(parents=True, exist_ok=True)
                previous = _identify_record(folder) if node in unfinished_nodes else ""
                if node in unfinished_nodes and (folder / _DROPPED_MARK).exists():
                    _delete_records(folder)
                _find_request_file(folder).write_text(
                    json.dumps([digest, previous]), encoding="utf-8"
                )

    def list_stored_files(self, nodes: Iterable[Node] | None = None) -> set[Path]:
        """Return all files that the steps, or only some `nodes`, have stored."""
        return {
            path
            for node in (self._requests if nodes is None else nodes)
            for path in _list_stored_files(self._requests[node].folder)
        }

    def repeat_warnings(self, log_dir: Path) -> None:
        """Add the warnings of the last execution of each step to the record in `log_dir`."""
        notices = dict.fromkeys(
            notice for request in self._requests.values() for notice in read_record(request.folder)
        )
        existing = set(read_record(log_dir))
        with contextlib.suppress(OSError):
            record(log_dir, [notice for notice in notices if notice not in existing])


def _fingerprint(value: object) -> object:
    """Convert values to texts that differ if the values differ."""
    if isinstance(value, Mapping):
        return [(name, _fingerprint(item)) for name, item in value.items()]
    if isinstance(value, list | tuple):
        return [_fingerprint(item) for item in value]
    if isinstance(value, Handle):
        return [_fingerprint(value.source), value.name]
    return (
        (str(value), _make_stamp(value), checksum(value))
        if isinstance(value, Path) and value.is_file()
        else str(value)
    )


def _has_ended(folder: Path, digest: str) -> bool:
    """Return whether a step has written a new record since it was requested with this digest."""
    try:
        requested_digest, previous = json.loads(
            _find_request_file(folder).read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return False
    return requested_digest == digest and previous != _identify_record(folder)


def find_folder(node: Node, work_dir: Path) -> Path:
    """Return the folder of a step in the working directory."""
    return Path(work_dir, *node.scope.path.split("."), node.name)


def _find_request_file(folder: Path) -> Path:
    """Return the file with the digest of the last request of a step."""
    return folder.with_name(f"{folder.name}.asked")


def _identify_record(folder: Path) -> str:
    """Return a text that identifies the current record of a step."""
    record_file = folder / _RECORD
    return str(_make_stamp(record_file)) if record_file.exists() else "none"


def _list_stored_files(folder: Path) -> list[Path]:
    """Return the derivatives that a step has written outside of its directory."""
    with contextlib.suppress(FileNotFoundError):
        return [Path(path) for path in json.loads((folder / WRITTEN).read_text(encoding="utf-8"))]
    return []


def invalidate_damaged(nodes: "Iterable[NipypeNode]") -> list[str]:
    """Delete the records of steps with changed files, and return the names of these steps.

    Nipype would consider these steps done. Steps that depend on them run again because their
    inputs have new time stamps.
    """
    damaged_names = []
    for node in nodes:
        folder = Path(node.output_dir())
        if _list_hash_files(folder) and not _is_intact(folder):
            damaged_names.append(node.fullname)
            _delete_records(folder)
    return damaged_names


def _is_intact(folder: Path) -> bool:
    """Return whether all files of a step have their recorded sizes and time stamps.

    The result is False without a record.
    """
    try:
        stamps: dict[str, _Stamp] = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return bool(stamps) and all(
            _make_stamp(folder / name)[: len(stamp)] == stamp for name, stamp in stamps.items()
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _make_stamp(path: Path) -> _Stamp:
    """Return size (bytes) and time of the last change (ns) of a file."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _delete_records(folder: Path) -> None:
    """Delete the records of a step, so that nipype runs it again."""
    for path in (*_list_hash_files(folder), folder / _RECORD, folder / _DROPPED_MARK):
        path.unlink(missing_ok=True)


def _list_hash_files(folder: Path) -> list[Path]:
    """Return the hash files by which nipype considers a step done."""
    return [
        path for path in folder.glob(_HASH_PATTERN) if not path.name.endswith("_unfinished.json")
    ]
