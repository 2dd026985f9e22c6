"""Echoes of a multi-echo BOLD run: the same volumes at several echo times.

What a BOLD run shows depends on the echo time (TE) in two ways. Activity changes R2*, so that its share of the signal
grows with TE. Drift, breathing, pulse and the approach to the steady state change the magnetization (S0), head motion
changes where things lie: their shares are the same at every echo. Thermal noise is of one size at every echo, and
independent.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.phantom.head import gradient_echo
from bids_sr.phantom.scanner import MovingPart
from bids_sr.phantom.simulated_subject import BOLD_LEVEL, SimulatedSubject, run_volumes
from bids_sr.spatial.multi_echo import t2star


class Echo:
    """One echo of a subject's run.

    Parameters
    ----------
    number : 1 for the first
    te : s
    """

    def __init__(self, subject: SimulatedSubject, number: int, te: float) -> None:
        self.subject, self.number, self.te = subject, number, te
        p, head = subject.preset, subject.head
        # the gain of the receiver is that of a run of a single echo, at the preset's TE
        single = gradient_echo(head, te=p.te, tr=p.tr, flip=p.flip, fat=0.15)
        gain = np.float32(BOLD_LEVEL / float(single[head.brain].mean()))
        self._scene = gradient_echo(head, te=te, tr=p.tr, flip=p.flip, fat=0.15) * gain
        self.resting_scene = subject.scanner.bring(self._scene)
        self.changes = {condition: self._change(condition) for condition in subject.activity.parts}

    def _change(self, condition: str) -> Array:
        """Change of the resting scene by a condition, on the scanner's oversampled grid.

        The amplitudes of the foci are those at the preset's TE; the change of R2* that makes them acts for `te`.
        """
        subject = self.subject
        level = np.float32(self._scene[subject.head.brain].mean())
        total = np.zeros(subject.scanner.oversampled_grid[0], dtype=np.float32)
        for focus in subject.activity.foci:
            if condition in focus.conditions:
                share = np.expm1(np.log1p(focus.amplitude) * np.float32(self.te / subject.preset.te))
                total += subject.scanner.bring(share * (self._scene if focus.reference == "local" else level))
        return total

    @cached_property
    def rest(self) -> MovingPart:
        """The resting scene, ready for the scanner."""
        return self.subject.scanner.part(self.resting_scene)

    @cached_property
    def parts(self) -> dict[str, MovingPart]:
        """Changes by condition, ready for the scanner."""
        return {name: self.subject.scanner.part(change, local=True) for name, change in self.changes.items()}

    def volumes(self, threads: int = 1, *, noise: bool = True) -> Iterator[Array]:
        """The run at this echo, see `run_volumes`."""
        subject = self.subject
        return run_volumes(
            subject, subject.preset, subject.scanner, subject.transient,
            rest=self.rest, parts=self.parts, motion=subject.motion, courses=subject.courses,
            sigma=subject.bold_sigma if noise else 0.0, rng=lambda t: subject.draw("echoes", self.number, t),
            threads=threads,
        )  # fmt: skip


def combination_weights(means: Sequence[Array], tes: Sequence[float]) -> list[Array]:
    """Weight of each echo in the optimal combination, of the shape of the echoes' mean images; their sum is 1.

    Source: Posse et al. 1999; TE exp(-TE / T2*), T2* fitted to the means. `tes` in s.
    """
    times = t2star([mean.ravel() for mean in means], [1000 * te for te in tes]).reshape(means[0].shape) / 1000
    weights = [te * np.exp(-te / times) for te in tes]
    total = np.sum(weights, axis=0)
    return [(weight / total).astype(np.float32) for weight in weights]
