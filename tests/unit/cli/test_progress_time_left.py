"""Compare the estimated time left of recorded runs with the actual time."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bids_sr.cli.progress import _TimeLeft

RECORDED = sorted((Path(__file__).parent / "recorded_runs").glob("*.tsv"))
"""Steps of runs: kind, declared and actual processor seconds, and dependent steps."""


@dataclass(frozen=True)
class Step:
    """A step of a recorded run."""

    kind: str
    declared: float
    took: float
    then: tuple[str, ...]


def read_steps(path: Path) -> dict[str, Step]:
    """Read a table of steps; a step is listed before its dependent steps."""
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    cells = (line.split("\t") for line in lines)
    return {
        name: Step(kind, float(declared), float(took), tuple(then.split()))
        for name, kind, declared, took, then in cells
    }


def replay(
    steps: dict[str, Step], load: Callable[[float], float], processors: int = 2
) -> Iterator[tuple[float, _TimeLeft]]:
    """Run the steps by a simulated clock; yield the estimate after every second.

    At `load` 2, a step takes twice its processor time.
    """
    open_inputs = {name: sum(name in entry.then for entry in steps.values()) for name in steps}
    critical_path: dict[str, float] = {}
    for name, entry in reversed(steps.items()):
        critical_path[name] = entry.declared + max(
            (critical_path[dependent] for dependent in entry.then), default=0.0
        )
    left = _TimeLeft(
        {name: entry.declared for name, entry in steps.items()},
        processors=processors,
        slower=load(0),
    )
    running: dict[str, float] = {}
    now, ready = 0.0, [name for name in steps if not open_inputs[name]]
    while ready or running:
        ready.sort(key=lambda name: -critical_path[name])
        while ready and len(running) < processors:
            name = ready.pop(0)
            running[name] = steps[name].took
            left.start(name, now)
        speed = 1 / load(now)
        step = min(min(running.values()) / speed, 1 - now % 1)
        now += step
        if now % 1 < 1e-6 or now % 1 > 1 - 1e-6:
            now = float(round(now))
            yield now, left
        for name in list(running):
            running[name] -= step * speed
            if running[name] < 1e-9:
                del running[name]
                left.end(name)
                for dependent in steps[name].then:
                    open_inputs[dependent] -= 1
                    if not open_inputs[dependent]:
                        ready.append(dependent)
    yield now, left


LOADS: dict[str, Callable[[float], float]] = {
    "idle": lambda now: 1.0,
    "loaded": lambda now: 3.0,
    "waves": lambda now: 2.0 + 0.5 * math.sin(now / 20),
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_time_left_is_wrong_by_less_than_half(path: Path, load: str) -> None:
    """The error is below 50 % after a fifth of the run, and "1 minute" is shown for at most 2
    min.
    """
    estimates = [
        (now, left.share(now), left.seconds(now))
        for now, left in replay(read_steps(path), LOADS[load])
    ]
    end = estimates[-1][0]
    assert estimates[-1][1] == 1
    ratios = [
        (now, seconds / (end - now))
        for now, share, seconds in estimates
        if share > 0.2 and end - now > 10
    ]
    assert all(0.5 < ratio < 1.5 for _, ratio in ratios), ratios
    minute = [now for now, _, seconds in estimates if round(seconds / 60) == 1]
    assert max(minute, default=0) - min(minute, default=0) < 120
