"""The time left as recorded runs go on: what would have been said, against what came."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bids_sr.cli.progress import _TimeLeft

RECORDED = sorted((Path(__file__).parent / "recorded_runs").glob("*.tsv"))
"""Steps of runs: kind, processor seconds declared and taken, and what waits for them."""


@dataclass(frozen=True)
class Step:
    """A step of a recorded run."""

    kind: str
    declared: float
    took: float
    then: tuple[str, ...]


def recorded(path: Path) -> dict[str, Step]:
    """A table of steps, each before those that wait for it."""
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    cells = (line.split("\t") for line in lines)
    return {
        name: Step(kind, float(declared), float(took), tuple(then.split()))
        for name, kind, declared, took, then in cells
    }


def replay(
    steps: dict[str, Step], load: Callable[[float], float], processors: int = 2
) -> Iterator[tuple[float, _TimeLeft]]:
    """Run the steps by a clock of our own; yields each second what would be said then.

    At `load` 2 a step takes twice its processor time.
    """
    before = {name: sum(name in each.then for each in steps.values()) for name in steps}
    after: dict[str, float] = {}
    for name, each in reversed(steps.items()):
        after[name] = each.declared + max((after[one] for one in each.then), default=0.0)
    left = _TimeLeft(
        {name: each.declared for name, each in steps.items()},
        processors=processors,
        slower=load(0),
    )
    running: dict[str, float] = {}
    now, ready = 0.0, [name for name in steps if not before[name]]
    while ready or running:
        ready.sort(key=lambda name: -after[name])
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
                left.end(name, now)
                for one in steps[name].then:
                    before[one] -= 1
                    if not before[one]:
                        ready.append(one)
    yield now, left


LOADS: dict[str, Callable[[float], float]] = {
    "idle": lambda now: 1.0,
    "loaded": lambda now: 3.0,
    "waves": lambda now: 2.0 + 0.5 * math.sin(now / 20),
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_time_left_is_wrong_by_less_than_half(path: Path, load: str) -> None:
    """Once a fifth is done; and nobody is told for long that it is a minute."""
    said = [
        (now, left.share(now), left.seconds(now))
        for now, left in replay(recorded(path), LOADS[load])
    ]
    end = said[-1][0]
    assert said[-1][1] == 1
    wrong = [
        (now, seconds / (end - now))
        for now, share, seconds in said
        if share > 0.2 and end - now > 10
    ]
    assert all(0.5 < ratio < 1.5 for _, ratio in wrong), wrong
    minute = [now for now, _, seconds in said if round(seconds / 60) == 1]
    assert max(minute, default=0) - min(minute, default=0) < 120
