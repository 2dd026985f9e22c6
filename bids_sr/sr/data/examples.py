"""Training examples: batches, validation patches, and a description for the model card."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from bids_sr.frozen import frozen
from bids_sr.sr.resolution.matrices import Factor
from bids_sr.sr.resolution.operators import Degradation

Part = TypeVar("Part")
Box = tuple[tuple[int, int], ...]
"""(first, last + 1) of each axis on the high-resolution grid."""


@frozen
class Batch:
    """input (N, C, *), target, weight (N, C or 1, *) of one step; `operator` downsamples the output before the loss."""

    input: Tensor
    target: Tensor
    weight: Tensor
    operator: Degradation | None = None


@frozen
class Region:
    """Slices (first, last + 1) of one image that training draws from or that are held out."""

    image: int = 0
    slices: tuple[int, int]


@frozen
class ValidationPatch:
    """One patch that is scored at every validation step; its weight is 1 where it counts."""

    image: int
    box: Box
    batch: Batch


class Examples(Protocol):
    """Data as the trainer sees them: a pair's slices, or windows of a set of images.

    `unit` names what is held out; `scores_training`: with nothing held out, the parts trained on are scored.
    """

    unit: str
    scores_training: bool
    factor: Factor
    ndim: int
    channels: int

    def parts(self) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        """(parts to train on, parts that are held out)."""

    def validation(self, parts: Sequence[Region]) -> tuple[ValidationPatch, ...]:
        """Patches of some parts."""

    def batch(
        self, rng: np.random.Generator, parts: Sequence[Region], *, iteration: int, seed: int, size: int
    ) -> Batch:
        """What a step sees; `rng` is the only source of chance."""

    def interpolated(self, name: str, patch: ValidationPatch) -> Tensor:
        """A patch by an interpolation instead of a network, (1, C, *)."""

    def held_out(self, held: Sequence[Region], watched: Sequence[ValidationPatch]) -> dict[str, object]:
        """What was held out, for the card."""

    def described(self) -> dict[str, object]:
        """What the card says of the data; see `bids_sr.sr.models.compatibility.image_entries`."""

    def checksums(self) -> dict[str, str]:
        """SHA-256 of the data."""


def split(parts: tuple[Part, ...], hold_out: int) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """(training, held-out) parts: every n-th is held out, from the middle of the first n on; none by 0.

    Examples
    --------
    >>> split((0, 1, 2, 3, 4, 5), 3)
    ((0, 2, 3, 5), (1, 4))
    """
    if not hold_out:
        return parts, ()
    held = parts[min(hold_out // 2, len(parts) - 1) :: hold_out]
    return tuple(part for part in parts if part not in held), held
