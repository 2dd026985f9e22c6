"""Kernels learned from the run itself: how changes over time follow anatomy and their own variance.

The run is brought down once more by the same factor (40 to 20, say), and a small network learns to predict, from what
is static there, the kernels that take the zero-filled change closest to the measured one. The same network is used one
level up, where nothing was measured. Kernels act on the change alone and linearly, so that they cannot make activity.

Settings were fixed on a phantom and on the level below of measured data (benchmarks/guided.py lists what was tried).
Five layers of 32 channels see 13 voxels across; twice as many steps fit the slices that are learned from and do no
better on others. `paper` is the same: no publication has this method.
"""

from __future__ import annotations

from ..degrade import Factor
from ..losses.mse import MSE
from ..method import Augmentation, LossTerm, Method, SeriesRecipe
from ..networks.kernelnet import GUIDES, KernelNet


def _kernels(_channels: int, factor: Factor) -> KernelNet:
    """3 x 3 kernels, or 3 x 3 x 3 where slices get thinner too."""
    return KernelNet(GUIDES, width=32, depth=5, ndim=2 if factor[2] == 1 else 3)


FAST = SeriesRecipe(
    build_generator=_kernels,
    build_critic=None,
    losses=(LossTerm(kind="content", build=MSE, weight=1.0),),
    batch=8,
    iterations=800,
    learning_rate=4e-3,
    schedule="one-cycle",
    gradient_limit=1.0,
    background=0.0,
    evaluate_every=100,
    refit=False,
    # On phantoms of which 1 to 2 % was explained, kernels did harm to the known activation; on small ones they helped
    # from 4 % on. It is no guarantee: with 900 volumes and 8 % explained they did harm in two scenes of three
    # (docs/methods.md).
    least_explained=0.03,
    augmentation=Augmentation(dihedral=True),
)

METHOD = Method(
    name="guided",
    ndim=2,
    needs_pair=False,
    recipes={"fast": FAST, "paper": FAST},
    reference="kernel_prediction",
    summary="kernels learned from the run itself, one level down, applied linearly to its changes over time",
    trained_on="series",
)
