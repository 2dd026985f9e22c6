"""Draw simulated activity in measured fluctuations, for `tested_worlds.py`.

python benchmarks/drawn_worlds.py DATA OUT SEED[:SLICES,...[:KIND,...]] ...

The task is regressed out of measured runs of three people in DATA (studyforrest-lowres-truth, run
2 of pydecnef, opennft), so that their fluctuations and noise remain, and known activity is added.
Each run is downsampled by two in plane, super-resolved by `sbl`, and tested as the program does.

Each kind of activity is drawn with each SEED, each person, and 5, 8, 12 and 16 slices, or only the
SLICES and KINDs of a seed. Block effects at half the resolution are stored in OUT, with the
explained variance of the known activity at the final resolution. Stored draws are not drawn again.
Two processes print a line per draw.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from _worlds_draws import store_draw
from _worlds_kinds import WORLDS
from _worlds_people import PEOPLE, Person, read_person

SLICES = (8, 12, 16, 5)
"""Numbers of slices from the middle of a run."""
_PROCESSES = 2


@dataclass(frozen=True)
class Job:
    """Draw of a kind of activity (`world`) with one seed, one person and a number of slices."""

    seed: int
    n_slices: int
    person: str
    world: str

    @property
    def file(self) -> str:
        """Name of the file of the draw."""
        return f"{self.person}_{self.n_slices}_{self.seed}_{self.world.replace(' ', '-')}.npz"


def list_draws(arguments: Sequence[str]) -> Iterator[Job]:
    """Yield the draws of seeds (``301``, ``301:8,16`` or ``301:8:balls,rim``), in this order."""
    for argument in arguments:
        seed, slices, kinds = (*argument.split(":"), "", "")[:3]
        numbers = [int(number) for number in slices.split(",")] if slices else SLICES
        worlds = kinds.split(",") if kinds else WORLDS
        for n_slices, person, world in product(numbers, PEOPLE, worlds):
            yield Job(int(seed), n_slices, person, world)


@lru_cache(maxsize=1)
def read_cached_person(data: Path, name: str, n_slices: int) -> Person:
    return read_person(data, name, n_slices)


def _draw(task: tuple[Path, Path, Job]) -> str:
    """Store a draw unless another call has stored it, and return a line about it."""
    data, out, job = task
    if (out / job.file).exists():
        return f"{job.file} exists"
    start = time.process_time()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            person = read_cached_person(data, job.person, job.n_slices)
            store_draw(person, job.world, job.seed, Path(folder), out / job.file)
    except Exception:  # the other draws do not depend on this draw
        return f"{job.file} failed\n{traceback.format_exc()}"
    return f"{job.file} {time.process_time() - start:.1f} s"


def main() -> int:
    """Store the draws that are missing."""
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    jobs = list(list_draws(sys.argv[3:]))
    missing = [(data, out, job) for job in jobs if not (out / job.file).exists()]
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        for count, line in enumerate(pool.imap_unordered(_draw, missing), 1):
            print(time.strftime("%H:%M:%S"), f"{count} of {len(missing)}:", line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
