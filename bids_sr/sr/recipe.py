"""Training recipes as plain data: networks, losses, schedule, augmentation, variance maps.

Networks and losses are named (`network`, `loss`) and imported when they are built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import cos, pi
from typing import TYPE_CHECKING, Literal

from bids_sr.frozen import frozen

if TYPE_CHECKING:
    from torch import nn

    from bids_sr.io.grids import Factor


MULTISLICE = "multislice"
"""Degradation of a slice-by-slice acquisition, such as that of BOLD runs."""
RecipeName = Literal["fast", "paper", "paper-mse"]
_LossKind = Literal[
    "content", "psnr", "adversarial", "perceptual", "tv", "ssim", "identity", "cycle", "sparsify"
]
_TIES = ("content", "psnr", "ssim", "cycle", "identity", "sparsify")  # terms that see the target


def in_plane(factor: Factor) -> None:
    """Raise ValueError where a factor asks for thinner slices."""
    if factor[2] != 1:
        raise ValueError(
            "a two-dimensional network only changes the in-plane resolution, so the factor "
            f"across slices must be 1 (got {factor})"
        )


@dataclass(frozen=True, slots=True)
class ImportedWhenCalled:
    """A class below `bids_sr.sr` by its dotted name, imported when it is called.

    >>> ImportedWhenCalled("losses.image.MSE").__name__
    'MSE'
    """

    path: str

    @property
    def __name__(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def loaded(self) -> Callable[..., nn.Module]:
        """The class itself."""
        module, _, name = self.path.rpartition(".")
        found: Callable[..., nn.Module] = getattr(
            importlib.import_module(f"bids_sr.sr.{module}"), name
        )
        return found

    def __call__(self, *args: object, **settings: object) -> nn.Module:
        return self.loaded(*args, **settings)


@dataclass(frozen=True, slots=True)
class _Network:
    """Network class with its settings.

    It is called with the number of channels and, for a generator, the factor. `smallest`: side of
    the smallest image that it takes (voxels).
    """

    build: ImportedWhenCalled
    settings: Mapping[str, object]
    flat: bool
    smallest: int = 1

    def __call__(self, channels: int, factor: Factor | None = None) -> nn.Module:
        if self.flat and factor is not None:
            in_plane(factor)
        return self.build(channels, **self.settings)


def network(path: str, *, flat: bool = False, smallest: int = 1, **settings: object) -> _Network:
    """Return a network of `bids_sr.sr.networks`; a `flat` one refuses thinner slices.

    `smallest`: side of the smallest image that it takes (voxels).
    """
    return _Network(ImportedWhenCalled(f"networks.{path}"), settings, flat, smallest)


@frozen
class LossTerm:
    """One term of the generator's loss.

    `kind`: what it compares: "content", "psnr" and "ssim" (output, target, weight), "perceptual"
    (output, target; left out without weights of VGG-19), "tv" (output), "adversarial" (the
    critic's scores); between the generator G to high resolution and F back to low: "cycle"
    (F(G(x)), x and G(F(y)), y), "identity" (G(y), y and F(x), x), "sparsify" (G(x), y). `build`:
    makes the module; a perceptual term from the path of the weights. `weight`: factor in the sum;
    a term of weight 0 is only logged. `stands_in`: on only while there are no weights of VGG-19.
    """

    kind: _LossKind
    build: Callable[..., nn.Module]
    weight: float
    stands_in: bool = False


def loss(kind: _LossKind, path: str, weight: float, *, stands_in: bool = False) -> LossTerm:
    """A term whose class of `bids_sr.sr.losses.image` is named by its path there.

    `weight`: factor in the sum; with 0 the term is only logged.
    """
    return LossTerm(
        kind=kind, build=ImportedWhenCalled(f"losses.{path}"), weight=weight, stands_in=stands_in
    )


@frozen
class Augmentation:
    """Augmentation of the high-resolution training images.

    The low-resolution images follow through the degradation B.

    The low-resolution image becomes B(A(highres)) + A(lowres - B(highres)), so that its own noise
    stays in it.

    `dihedral`: flips of both in-plane axes and, on square matrices, their exchange: these map
    voxel centers of both grids onto centers, as other rotations or shifts by whole high-resolution
    voxels would not. `shift`: largest in-plane shift (high-resolution voxels; by a phase ramp).
    `gamma, gain`: standard deviation of the logarithm of an exponent, and of a factor, on
    intensity. `noise`: standard deviation of noise in the low-resolution image (scaled intensity).
    The same noise, zero filled, is added to the target: the network learns to see through it, not
    to remove it.
    """

    dihedral: bool = False
    shift: float = 0.0
    gamma: float = 0.0
    gain: float = 0.0
    noise: float = 0.0

    @property
    def of_whole_slices(self) -> bool:
        """Whether something is varied for which a slice has to be whole."""
        return (self.shift, self.gamma, self.noise) != (0.0, 0.0, 0.0)


@frozen
class Recipe:
    """How a method is trained.

    `build_generator`: (in_channels, factor) -> network from (N, C, *grid) to the high-resolution
    grid. `build_critic`: (in_channels) -> network from images to scores, or None. `upsampled_by`:
    interpolation of the input before the generator; None for a generator on the acquired grid.
    `patch`: side of the patches (high-resolution voxels), or one side an axis; None for whole
    slices or volumes. `batch, iterations`: images a step, steps at most. `learning_rate, betas,
    schedule`: of Adam; "one-cycle" rises for a fifth of the steps and falls to nothing, "plateau"
    multiplies by `plateau_factor` after `plateau_patience` validation steps without a gain,
    "linear-decay" is constant up to `decay_from` (epochs, if given in epochs), then falls in a
    line to `final_learning_rate`. `critic_learning_rate`: of the critic's Adam; the generator's
    where None. `critic_steps`: critic steps a generator step. `adversarial_from`: first iteration
    with an adversarial term; the steps before pre-train the generator, and the critic rests.
    `gradient_limit`: norm to which the generator's gradient is clipped, or None.
    `background`: weight of the content loss outside the mask (1 inside).
    `evaluate_every`: iterations between validation steps, and between checkpoints. `patience`:
    validation steps without a gain of .005 dB after which training stops; None: never. `hold_out`:
    every n-th slice is held out; 0: none, and the last weights are kept. `refit`: train again on
    all slices for as many steps as did best on the held-out ones. `epochs, patches`: instead of
    `iterations`: `patches` places, drawn once, are each seen once an epoch; validation steps are
    then `look_epochs` epochs apart. `patches` with `iterations`: the steps go through so many
    places again and again; without it each step draws new ones.
    `critic_game`: "bce" (the adversarial term's own),
    "wasserstein" (weights clipped to +- `weight_clip` after each critic step) or "wasserstein-gp"
    (plus `penalty_weight` times the gradient penalty). `objective`: "supervised"; "self" (the
    output is downsampled and compared with the low-resolution image: no high-resolution image is
    needed); or "cycle" (a second generator back to low resolution). `degradation`: name in
    `operators`, where low-resolution images have to be made, and for the objective "self".
    `factors`: factors to draw from at each step, for one network of many, on the axes that the
    factor changes. `freeze_but_last`: layers with weights, counted from the end, that training
    from a model goes on with; None: all. `keep_critic`: whether the trained critic is kept beside
    the generator, to be explained and to continue from; for a cycle, the second generator and its
    critic as well. `intensity`: what is 1 for the network: "percentile" (the 99th
    inside the mask), "unit" (the largest value, for networks that end in a sigmoid) or "range"
    (the largest value, while the smallest is 0).
    `patch_at_most`: a smaller image is seen whole in-plane. `keep`: weights that are kept if
    slices are held out: the ones with the best score, or the last ones. Adversarial training may
    lower the score, and "best" would then undo it. `pretrained_by`: kinds of the terms that are
    on in the steps before `adversarial_from`; (): all but the adversarial one. `every_slice`:
    whether slices that hardly show the head are also trained on. `applied_in_patches`: whether a
    model is applied in patches of the size that it was trained on, side by side, as a paper does;
    else to whole slices or volumes. `each_slice_once`: whether an epoch of whole slices contains
    each training slice once, in random order; `patches` then counts only in trainings on patches.
    `slice_batches`: number of batches of such an epoch; None until the images are known.
    """

    build_generator: Callable[[int, Factor], nn.Module]
    build_critic: Callable[[int], nn.Module] | None = None
    losses: tuple[LossTerm, ...] = ()
    upsampled_by: str | None = None
    patch: int | tuple[int, ...] | None = None
    batch: int = 4
    iterations: int = 1000
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "one-cycle", "plateau", "linear-decay"] = "constant"
    critic_learning_rate: float | None = None
    critic_steps: int = 1
    adversarial_from: int = 0
    gradient_limit: float | None = None
    background: float = 1.0
    evaluate_every: int = 100
    patience: int | None = None
    hold_out: int = 5
    refit: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int | None = None
    patches: int | None = None
    look_epochs: int = 1
    decay_from: int = 0
    final_learning_rate: float = 0.0
    plateau_patience: int = 5
    plateau_factor: float = 0.5
    critic_game: Literal["bce", "wasserstein", "wasserstein-gp"] = "bce"
    weight_clip: float = 0.01
    penalty_weight: float = 10.0
    objective: Literal["supervised", "self", "cycle"] = "supervised"
    degradation: str = "kspace"
    factors: tuple[float, ...] = ()
    freeze_but_last: int | None = None
    keep_critic: bool = False
    intensity: Literal["percentile", "unit", "range"] = "percentile"
    patch_at_most: bool = False
    keep: Literal["best", "last"] = "best"
    pretrained_by: tuple[str, ...] = ()
    every_slice: bool = False
    applied_in_patches: bool = False
    each_slice_once: bool = False
    slice_batches: int | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.patches is None:
            raise ValueError("a recipe that specifies `epochs` must also specify `patches`")

    @property
    def epochs_of_slices(self) -> bool:
        """Whether an epoch contains each whole training slice once."""
        return self.each_slice_once and self.epochs is not None and self.patch is None

    @property
    def steps_an_epoch(self) -> int:
        """Return steps of an epoch; 1 where the recipe is given in iterations."""
        if self.epochs is None or self.patches is None:
            return 1
        if self.epochs_of_slices and self.slice_batches is not None:
            return self.slice_batches
        return -(-self.patches // self.batch)

    @property
    def steps(self) -> int:
        """Return steps at most."""
        return self.iterations if self.epochs is None else self.epochs * self.steps_an_epoch

    @property
    def look_every(self) -> int:
        """Return steps between validation steps, and between checkpoints."""
        return (
            self.evaluate_every if self.epochs is None else self.look_epochs * self.steps_an_epoch
        )

    @property
    def flat_patch(self) -> tuple[int, int] | None:
        """Return sides of the patches in plane; None where slices of any size serve."""
        if self.patch is None or self.patch_at_most:
            return None
        return (
            (self.patch, self.patch)
            if isinstance(self.patch, int)
            else (self.patch[0], self.patch[1])
        )

    @property
    def patch_applied(self) -> int | tuple[int, ...] | None:
        """Return sides of the patches in which models are applied; None for whole images."""
        return self.patch if self.applied_in_patches else None

    def fits(self, x: int, y: int) -> bool:
        """Whether slices of that size hold its patches.

        `x`: number of voxels along the first axis. `y`: number of voxels along the second axis.
        """
        side = self.flat_patch
        return side is None or (side[0] <= x and side[1] <= y)

    def terms_on(self, vgg: bool) -> tuple[LossTerm, ...]:
        """Return terms that are on with, or without, weights of VGG-19."""
        off = (
            "none" if vgg else "perceptual",
            "none" if self.build_critic is not None else "adversarial",
        )
        return tuple(t for t in self.losses if t.kind not in off and not (t.stands_in and vgg))

    @property
    def contested(self) -> bool:
        """Whether the loss has an adversarial term, and so does not tell the output quality."""
        return self.build_critic is not None and any(
            t.kind == "adversarial" and t.weight != 0 for t in self.losses
        )

    @property
    def perceptual(self) -> bool:
        """Whether the loss has a term of VGG-19 features, which is off without its weights."""
        return any(term.kind == "perceptual" for term in self.losses)

    @property
    def needs_vgg(self) -> bool:
        """Whether nothing but the perceptual term ties the output to the target."""
        return self.perceptual and not any(
            term.kind in _TIES and term.weight for term in self.terms_on(False)
        )

    @property
    def is_tied(self) -> bool:
        """Whether a term of the loss compares the output with an image, or its features."""
        return any(term.kind in (*_TIES, "perceptual") and term.weight for term in self.losses)

    @property
    def taught_by_vgg(self) -> bool:
        """Whether, given weights of VGG-19, only its features tie the output to the target.

        Without weights such a recipe is either refused (`needs_vgg`) or falls back to a term that
        stands in for the features.
        """
        return self.perceptual and not any(
            term.kind in _TIES and term.weight for term in self.terms_on(True)
        )

    def rate(self, iteration: int, base: float) -> float:
        """Learning rate of a step (counted from 0), without a plateau's factor."""
        if self.schedule in ("constant", "plateau"):
            return base
        if self.schedule == "linear-decay":
            start = self.decay_from * self.steps_an_epoch
            done = max(0, iteration - start) / max(1, self.steps - 1 - start)
            return base + min(1.0, done) * (self.final_learning_rate - base)
        top = max(1, self.steps // 5)
        if iteration < top:
            return base * (0.04 + 0.96 * 0.5 * (1 - cos(pi * iteration / top)))
        return base * 0.5 * (1 + cos(pi * (iteration - top) / max(1, self.steps - top)))


@frozen
class VarianceRecipe:
    """How the variance maps w of a run are found; nothing is trained.

    `kind`: "sbl", or the control "sdmod". `fwhm`: full widths of the correlations K_q
    (high-resolution voxels), one variance map each; none for sdmod. `noise`: s2 over the mean
    variance of the data. `rounds`: updates of w. `draws`: from the prior, an update. `step`: power
    of the ratio by which w is multiplied. `equalize`: components are divided by this power of
    their size. `smooth, across`: standard deviations of the smoothing of the ratios, in plane and
    across slices (voxels). `pull`: share by which log w is drawn towards its neighborhood (1
    voxel) at each update. `components`: strongest temporal components that stand for all volumes.
    `least_explained`: share of zero filling's error that the map of one half of the run has to
    explain in the other, one level of resolution down; with less the series is zero filled; None:
    always applied (controls).
    """

    kind: str = "sbl"
    fwhm: tuple[float, ...] = (3.0, 1.5)
    noise: float = 1e-3
    rounds: int = 6
    draws: int = 96
    step: float = 0.5
    equalize: float = 0.75
    smooth: float = 0.7
    across: float = 0.4
    pull: float = 0.1
    components: int = 40
    least_explained: float | None = 0.02


FIRST_YOUNGER = "epochs"
"""The first field of `Recipe` of those added after models had been made, as all behind it."""


OURS = Recipe(
    build_generator=ImportedWhenCalled("networks.srresnet.SubPixelNet"),
    schedule="one-cycle",
    evaluate_every=50,
    patience=8,
    refit=False,
    background=0.1,
    gradient_limit=1.0,
    augmentation=Augmentation(dihedral=True),
)
"""What our own recipes replace something in: a one-cycle rate, validation every 50 steps, an early
end, flips.
"""
