"""What is left of a graph of steps: share of its processor time, and time to wait.

The time left is that of the steps that are not done, on all processors or, where they wait for
each other, one after the other, as many times as long as the steps that ran took: those of the
same kind where there were any, all of late otherwise. A step that runs counts by its time, and
never as done; one that takes longer than it should raises the time left.
"""

from collections.abc import Mapping, Sequence

from bids_sr.frozen import frozen

_MOST = 0.9  # of a step that runs, counted as done before it ends
_OVERDUE = 0.3  # of the time that a step has run is left to it, whatever was expected
_ODD = 2.0  # times as long as others, or as short
_MOST_OF_ONE_S = 20.0  # of work that one step stands for
_TRUSTED_S = 10.0  # of work, which counts as if it had taken as long as expected
_TRUSTED_OF_KIND_S = 1.0  # of one kind, as if it had taken what the others did
_WAITS = 0.25  # of the longest path, in which other processors find nothing to do
_REMEMBERED_S = 200.0  # of work, after which what a step took counts less than half


@frozen
class Work:
    """One step of a graph.

    Parameters
    ----------
    kind : str
        Steps of one kind are alike, but for their size.
    seconds : float
        Processor time that it declares (s).
    then : Sequence[str]
        Names of the steps that wait for it.
    """

    kind: str
    seconds: float
    then: Sequence[str] = ()


class _Ratio:
    """Time that steps took over the time that they declare; the last ones count most."""

    def __init__(self) -> None:
        self.took = self.declared = 0.0

    def add(self, took: float, declared: float) -> None:
        kept = 0.5 ** (declared / _REMEMBERED_S)
        self.took, self.declared = kept * self.took + took, kept * self.declared + declared

    def given(self, before: float, trusted: float) -> float:
        return (self.took + before * trusted) / (self.declared + trusted)


class TimeLeft:
    """Follows a graph while it runs.

    Parameters
    ----------
    steps : Mapping[str, Work]
        All steps by name, each before those that wait for it.
    processors : float
        Steps that run at one time.
    slower : float
        How many times as long as declared steps are expected to take.
    """

    def __init__(
        self, steps: Mapping[str, Work], *, processors: float = 1.0, slower: float = 1.0
    ) -> None:
        self._left, self._processors, self._slower = dict(steps), processors, slower
        self._total = sum(each.seconds for each in steps.values())
        self._since: dict[str, float] = {}
        self._all, self._of_kind = _Ratio(), dict[str, _Ratio]()
        self._furthest = 0.0

    def start(self, name: str, now: float) -> None:
        """Take note that a step starts.

        Parameters
        ----------
        name : str
            Name of the step.
        now : float
            Time on any clock (s).
        """
        self._since[name] = now

    def end(self, name: str, now: float) -> None:
        """Take note that a step ended; one that never started had been done before.

        Parameters
        ----------
        name : str
            Name of the step.
        now : float
            Time on the clock of `start` (s).
        """
        step, since = self._left.pop(name, None), self._since.pop(name, None)
        if step is not None and since is not None:
            took, usual = now - since, step.seconds * self._ratio("")
            # one that did nothing, or went wrong, tells little of the others
            part = min(1.0, _MOST_OF_ONE_S / max(step.seconds, _MOST_OF_ONE_S))
            self._all.add(part * min(max(took, usual / _ODD), usual * _ODD), part * step.seconds)
            self._of_kind.setdefault(step.kind, _Ratio()).add(took, step.seconds)

    def share(self, now: float) -> float:
        """Return the share of the processor time that is done (0 to 1), which never decreases.

        Parameters
        ----------
        now : float
            Time on the clock of `start` (s).

        Returns
        -------
        float
            Of the time that the steps declare; those that run count by their time.
        """
        left = 0.0
        for name, step in self._left.items():
            spent = now - self._since.get(name, now)
            full = step.seconds * self._ratio(step.kind)
            left += step.seconds * (1 - (min(_MOST, spent / full) if full else 0.0))
        if self._total:
            self._furthest = max(self._furthest, 1 - left / self._total)
        return self._furthest if self._left else 1.0

    def seconds(self, now: float) -> float:
        """Return the time to wait until all is done (s).

        Parameters
        ----------
        now : float
            Time on the clock of `start` (s).

        Returns
        -------
        float
            0 where nothing is left.
        """
        work, longest = 0.0, dict[str, float]()
        for name, step in reversed(self._left.items()):
            spent = now - self._since.get(name, now)
            rest = max(step.seconds * self._ratio(step.kind) - spent, _OVERDUE * spent)
            work += rest
            longest[name] = rest + max((longest.get(each, 0.0) for each in step.then), default=0.0)
        path = max(longest.values(), default=0.0)
        shared = (work + _WAITS * (self._processors - 1) * path) / self._processors
        return max(shared, path)

    def _ratio(self, kind: str) -> float:
        every = self._all.given(self._slower, _TRUSTED_S)
        own = self._of_kind.get(kind)
        return every if own is None else own.given(every, _TRUSTED_OF_KIND_S)
