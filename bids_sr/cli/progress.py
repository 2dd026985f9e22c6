"""Progress of a run on the console: a bar on a terminal, else a line per stage or minute.

Share and time left are those of the graph, by the processor time that its steps declare.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from bids_sr.cli.heartbeat import EVERY_S, heartbeat
from bids_sr.cli.stages import STAGES, stage_of
from bids_sr.execution.usage import kind_of
from bids_sr.notices import whom_text
from bids_sr.pipeline.graph import whom_of
from bids_sr.preflight.pace import duration
from bids_sr.stats.evaluation.verdict_text import verdict_line
from bids_sr.steps.judgment import judge

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node
    from tqdm import tqdm

_OTHER = ""
_BETWEEN = frozenset({_OTHER, "primary", "figures", "store"})
"""What runs in between as soon as it can, and begins no stage."""


_LOOK_S = 2.0
_FIRST = 0.05  # of the work, before which no time left is told: the plan has told the estimate


_MOST = 0.9  # of a step that runs, counted as done before it ends
_OVERDUE = 0.3  # of the time that a step has run is left to it, whatever was expected
_ODD = 2.0  # times as long as others, or as short
_MOST_OF_ONE_S = 20.0  # of work that one step stands for
_TRUSTED_S = 10.0  # of work, which counts as if it had taken as long as expected
_TRUSTED_OF_KIND_S = 1.0  # of one kind, as if it had taken what the others did
_WAITS = 0.25  # of the longest path, in which other processors find nothing to do
_REMEMBERED_S = 200.0  # of work, after which what a step took counts less than half


class _TimeLeft:
    """Share that is done of a graph of steps, and time to wait for the rest.

    The time left is that of the steps that are not done, on all processors or, where they wait for
    each other, one after the other, as many times as long as the steps that ran took: those of the
    same kind where there were any, all of late otherwise. A step that runs counts by its time, and
    never as done; one that takes longer than it should raises the time left.

    `steps` are kind, declared processor time (s) and names of those that wait for it, of each step
    by its name, before these; `slower` is how many times as long as declared they are expected to
    take, of which `processors` run at one time. `now` is the time on any clock (s).
    """

    def __init__(
        self,
        steps: Mapping[str, tuple[str, float, Sequence[str]]],
        *,
        processors: float = 1.0,
        slower: float = 1.0,
    ) -> None:
        self._left, self._processors, self._slower = dict(steps), processors, slower
        self._total = sum(seconds for _, seconds, _ in steps.values())
        self._since: dict[str, float] = {}
        # kind → time that its steps took, and that they declare; "" for all, the last ones most
        self._known: dict[str, tuple[float, float]] = {}
        self._furthest = 0.0

    def start(self, name: str, now: float) -> None:
        self._since[name] = now

    def end(self, name: str, now: float) -> None:
        """Take note that a step ended; one that never started had been done before."""
        kind, declared, _ = self._left.pop(name, ("", 0.0, ()))
        since = self._since.pop(name, None)
        if since is not None:
            took, usual = now - since, declared * self._ratio("")
            # one that did nothing, or went wrong, tells little of the others
            part = min(1.0, _MOST_OF_ONE_S / max(declared, _MOST_OF_ONE_S))
            self._learn("", part * min(max(took, usual / _ODD), usual * _ODD), part * declared)
            self._learn(kind, took, declared)

    def share(self, now: float) -> float:
        """Share of the processor time that is done (0 to 1), which never decreases."""
        left = 0.0
        for name, (kind, declared, _) in self._left.items():
            full = declared * self._ratio(kind)
            spent = now - self._since.get(name, now)
            left += declared * (1 - (min(_MOST, spent / full) if full else 0.0))
        if self._total:
            self._furthest = max(self._furthest, 1 - left / self._total)
        return self._furthest if self._left else 1.0

    def seconds(self, now: float) -> float:
        """Time to wait until all is done (s)."""
        work, longest = 0.0, dict[str, float]()
        for name, (kind, declared, then) in reversed(self._left.items()):
            spent = now - self._since.get(name, now)
            rest = max(declared * self._ratio(kind) - spent, _OVERDUE * spent)
            work += rest
            longest[name] = rest + max((longest.get(each, 0.0) for each in then), default=0.0)
        path = max(longest.values(), default=0.0)
        return max(path, (work + _WAITS * (self._processors - 1) * path) / self._processors)

    def _learn(self, kind: str, took: float, declared: float) -> None:
        before, kept = self._known.get(kind, (0.0, 0.0)), 0.5 ** (declared / _REMEMBERED_S)
        self._known[kind] = kept * before[0] + took, kept * before[1] + declared

    def _ratio(self, kind: str) -> float:
        took, declared = self._known.get("", (0.0, 0.0))
        every = (took + self._slower * _TRUSTED_S) / (declared + _TRUSTED_S)
        took, declared = self._known.get(kind, (0.0, 0.0)) if kind else (0.0, 0.0)
        return (took + every * _TRUSTED_OF_KIND_S) / (declared + _TRUSTED_OF_KIND_S)


class Progress:
    """Progress display, which the scheduler calls for every node by its full name.

    It is called when a node starts, ends or fails. A verdict is shown as soon as it is there.

    Parameters
    ----------
    graph : 'DiGraph[Node]'
        All steps of the run, with the processor time that they declare as ``seconds``.
    say : Callable[[str], None]
        Takes each message as a line of text.
    processors : float
        Steps that run at one time.
    slower : float
        How many times as long as declared the steps are expected to take.
    stream : IO[str] | None
        Where a bar may be drawn; None takes the standard output.
    clock : Callable[[], float]
        Gives the time (s); it never goes back.
    look_s : float
        Pause between two looks at the time (s).
    """

    def __init__(
        self,
        graph: "DiGraph[Node]",
        say: Callable[[str], None],
        *,
        processors: float = 1.0,
        slower: float = 1.0,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        look_s: float = _LOOK_S,
    ) -> None:
        from networkx import topological_sort

        steps = {
            node.fullname: (
                kind_of(node),
                getattr(node, "seconds", 0.0),
                [each.fullname for each in graph.successors(node)],
            )
            for node in topological_sort(graph)
        }
        self._left = _TimeLeft(steps, processors=processors, slower=slower)
        self._say, self._clock, self._said = say, clock, clock()
        self._told = set[tuple[str, str]]()
        # node → participant or run, stage, since when
        self._running: dict[str, tuple[str, str, float]] = {}
        self._lock = threading.RLock()
        stream = stream or sys.stdout
        self._bar: tqdm[NoReturn] | None = None
        self._stage = ""
        if stream.isatty():
            import tqdm as bars

            self._bar = bars.tqdm(
                total=100,
                file=stream,
                bar_format="{percentage:3.0f} % |{bar:30}| {desc}",
                leave=False,
            )
        self._open = contextlib.ExitStack()
        self._open.enter_context(heartbeat(self.beat, look_s))

    @property
    def share(self) -> float:
        """Share of the processor time that is done (0 to 1), which never decreases."""
        return self._left.share(self._clock())

    @property
    def minutes_left(self) -> float:
        """What is still to be waited for."""
        return self._left.seconds(self._clock()) / 60

    def __call__(self, node: "Node", status: str) -> None:
        """Take note that `node` starts, ended or failed."""
        label, stage = whom_text(*whom_of(node)), stage_of(getattr(node.interface, "step", None))
        with self._lock:
            if status == "exception":
                self.line(f"failed: {node.fullname}")
            if status == "start":
                self._running[node.fullname] = label, stage, self._clock()
                self._left.start(node.fullname, self._clock())
                if stage not in _BETWEEN and (label, STAGES[stage]) not in self._told:
                    self._told.add((label, STAGES[stage]))
                    self._tell(label, stage)
                return
            began = self._running.pop(node.fullname, None)
            self._left.end(node.fullname, self._clock())
            if began and status == "end" and getattr(node.interface, "step", None) is judge:
                verdict = json.loads(Path(node.result.outputs.verdict).read_text(encoding="utf-8"))
                self.line(f"{label}: {verdict_line(verdict)}")
            self._show()

    def beat(self) -> None:
        """Keep the bar moving, or repeat a printed line after almost a minute of silence."""
        with self._lock:
            self._show()
            if self._bar is not None or self._clock() - self._said < EVERY_S:
                return
            known = (each for each in self._running.values() if each[1] != _OTHER)
            label, stage, _ = min(
                known, key=lambda each: (each[1] in _BETWEEN, each[2]), default=("", _OTHER, 0.0)
            )
            self._tell(label, stage)

    def _tell(self, label: str, stage: str) -> None:
        text = f"{label}: {STAGES[stage]}" if stage != _OTHER else "working"
        if self._bar is None:
            self._said = self._clock()
            left = f", {duration(self.minutes_left)} left" if self.share >= _FIRST else ""
            self._say(f"{text} ({100 * self.share:.0f} %{left})")
        else:
            self._stage = text
            self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.n = round(100 * self.share, 1)
            self._bar.set_description_str(f"{duration(self.minutes_left)} left · {self._stage}")

    def line(self, text: str) -> None:
        """Print a line without breaking the bar.

        Parameters
        ----------
        text : str
            What there is to say.
        """
        if self._bar is not None:
            self._bar.clear()
        self._say(text)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Take the bar away, and say nothing any more."""
        self._open.close()
        if self._bar is not None:
            self._bar.close()
