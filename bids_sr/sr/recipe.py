"""Training recipes as plain data: networks, losses, schedule, augmentation, and prior SD maps.

Networks and losses are specified by name (`network`, `loss`) and imported when they are built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, cos, pi
from typing import TYPE_CHECKING, Any, Literal

from bids_sr.io.frozen import frozen

if TYPE_CHECKING:
    from torch import nn

    from bids_sr.io.grids import Factor

MULTISLICE = "multislice"
"""Name of the degradation that simulates a slice-by-slice acquisition, such as a BOLD run."""
RecipeName = Literal["fast", "paper"]
_LossKind = Literal[
    "content", "psnr", "adversarial", "perceptual", "tv", "ssim", "identity", "cycle", "sparsify"
]
# terms that compare the output with the target
_COMPARISON_KINDS = ("content", "psnr", "ssim", "cycle", "identity", "sparsify")
SMALLEST_SIDE = 8
"""Smallest side of a patch (voxels)."""
_MIN_LEARNING_RATE = 1e-7
_MAX_EPOCHS = 100_000
ATTENTION_UNET_PAPER = "Li et al. 2022"
# learning rate of the first step of "one-cycle", relative to the full rate
_FIRST_RATE = 0.04
# Settings for runs with a calibration, whose patterns provide most of the detail. Additional
# updates would explain at most 0.002 of the zero-filling error (two participants).
_SHORT_SETTINGS: Mapping[str, Any] = {"rounds": 2, "step": 0.75, "pull": 0.15}
FIRST_ADDED_FIELD = "epochs"
"""First of the fields of `Recipe` that were introduced after the first models."""


@dataclass(frozen=True, slots=True)
class ImportedWhenCalled:
    """Callable that imports a class of `bids_sr.sr.networks` by its dotted name when it is called.

    `arguments` are further arguments of the class, as pairs of name and value.

    >>> ImportedWhenCalled("losses.image.MSE").__name__
    'MSE'
    """

    path: str
    arguments: tuple[tuple[str, float], ...] = ()

    @property
    def __name__(self) -> str:
        """Name of the class, without its module."""
        return self.path.rpartition(".")[2]

    @property
    def imported_class(self) -> Callable[..., nn.Module]:
        """Imported class."""
        module, _, name = self.path.rpartition(".")
        imported: Callable[..., nn.Module] = getattr(
            importlib.import_module(f"bids_sr.sr.networks.{module}"), name
        )
        return imported

    def __call__(self, *args: object, **settings: object) -> nn.Module:
        return self.imported_class(*args, **dict(self.arguments), **settings)


@dataclass(frozen=True, slots=True)
class _Network:
    """Network class with its settings, called with the number of channels and the factor.

    `smallest` is the side of the smallest supported image (voxels).
    """

    build: ImportedWhenCalled
    settings: Mapping[str, object]
    smallest: int = 1

    def __call__(self, channels: int, _factor: Factor | None = None) -> nn.Module:
        return self.build(channels, **self.settings)


def network(path: str, *, smallest: int = 1, **settings: object) -> _Network:
    """Return a network from `bids_sr.sr.networks.architectures`, given by its path.

    `smallest` is the side of the smallest supported image (voxels).
    """
    return _Network(ImportedWhenCalled(f"architectures.{path}"), settings, smallest)


@frozen
class LossTerm:
    """Term of the generator's loss.

    The kinds "content", "psnr" and "ssim" are weighted comparisons of output and target.
    "perceptual" compares VGG-19 features of output and target, and is omitted without VGG-19
    weights. "tv" uses only the output, and "adversarial" the critic's scores. For the generators G
    to high and F to low resolution, "cycle" compares F(G(x)) with x and G(F(y)) with y, "identity"
    compares G(y) with y and F(x) with x, and "sparsify" compares G(x) with y.

    `build` returns the module. For a perceptual term, its argument is the path of the weights.
    `weight` is the factor in the sum; a term of weight 0 is only logged. A term that `stands_in`
    is used only if there are no VGG-19 weights.
    """

    kind: _LossKind
    build: Callable[..., nn.Module]
    weight: float
    stands_in: bool = False


def loss(
    kind: _LossKind, path: str, weight: float, *, stands_in: bool = False, **settings: float
) -> LossTerm:
    """Return a loss term, given the path of its class below `bids_sr.sr.networks.losses`.

    A term of weight 0 is only logged. `settings` are arguments of the class. See `LossTerm` for
    the other parameters.
    """
    build = ImportedWhenCalled(f"losses.{path}", tuple(settings.items()))
    return LossTerm(kind=kind, build=build, weight=weight, stands_in=stands_in)


@frozen
class Augmentation:
    """Augmentation of training images.

    Augmentation A is applied to the high-resolution image. The low-resolution image becomes
    B(A(highres)) + A(lowres - B(highres)) with the degradation B, which preserves its noise.

    `dihedral` flips both in-plane axes and, on square matrices, exchanges them. This maps voxel
    centers of both grids onto voxel centers, unlike other rotations or shifts by whole
    high-resolution voxels. `shift` is the largest in-plane shift by a phase ramp (high-resolution
    voxels). `gamma` and `gain` are the standard deviation of the logarithm of an exponent, and of
    a factor, applied to the intensity. `noise` is the standard deviation of noise added to the
    low-resolution image (scaled intensity). The zero-filled noise is also added to the target, so
    that the network does not learn to remove noise.
    """

    dihedral: bool = False
    shift: float = 0.0
    gamma: float = 0.0
    gain: float = 0.0
    noise: float = 0.0

    @property
    def of_whole_slices(self) -> bool:
        """Whether an augmentation requires whole slices."""
        return (self.shift, self.gamma, self.noise) != (0.0, 0.0, 0.0)


@frozen
class SettingLimits:
    """Limits of a setting that users can change.

    `unit` is "" for ratios. `source` is the paper that varies the setting, with its values; "" if
    there is none. `text_without_value` describes the behavior if the value is None.
    `requires_prior` states whether only methods with a prior use the setting of a
    `VarianceRecipe`. `is_used` returns whether a recipe uses the setting. `replaced_fields` are
    further fields of the recipe with their values after a change of the setting.
    """

    minimum: float
    maximum: float
    unit: str = ""
    source: str = ""
    text_without_value: str = ""
    requires_prior: bool = True
    is_used: Callable[[Any], bool] = lambda _recipe: True
    replaced_fields: Mapping[str, object] = field(default_factory=dict)


def changeable_field(default: object, doc: str, limits: SettingLimits) -> Any:
    """Return a field of a recipe that users can change with ``--set``."""
    return field(default=default, metadata={"doc": doc, "limits": limits})


@frozen
class Recipe:
    """Settings of a training.

    The definitions of the settings that users can change contain their descriptions.

    `build_generator` returns, from number of channels and factor, a network from (N, C, *grid) to
    the high-resolution grid. `build_critic` returns, from number of channels, a network from
    images to scores; None if there is no critic. `losses` are terms of the generator's loss, and
    `background` is the weight of the content loss outside the mask (1 inside). `adversarial_from`
    is the first iteration with an adversarial term. Earlier steps pre-train the generator with the
    other terms, without training the critic. The `critic_game` is the loss of the critic: "bce"
    (defined by the adversarial term), "wasserstein" (weights are clipped to +-`weight_clip` after
    each critic step), or "wasserstein-gp" (with `penalty_weight` times the gradient penalty).
    `keep_critic` stores the trained critic with the generator for inspection and further training,
    and for cycles also the second generator and its critic.

    The `objective` is "supervised", "self" (the output is downsampled and compared with the
    low-resolution image, so that no high-resolution image is required), or "cycle" (with a second
    generator to low resolution). The `degradation` in `operators` simulates low-resolution images,
    and is used for the objective "self". In each step, one of `factors` is drawn, along the axes
    that the factor changes, to train a single network for several factors. `upsampled_by` is the
    interpolation of the input before the generator; None for a generator on the acquired grid.
    `intensity` is the intensity that is 1 for the network: "percentile" (99th percentile within
    the mask), "unit" (the maximum, for networks that end in a sigmoid) or "range" (the maximum,
    with the minimum scaled to 0).

    `patch` is one side for all axes, or one side per axis. With `patch_at_most`, `patch` is an
    upper limit, so that smaller images are used whole in plane. With `applied_in_patches`, a model
    is applied in patches of its training size, placed side by side as in a paper, instead of to
    whole slices or volumes. With `every_slice`, slices that hardly show the head are also used for
    training. Every `hold_out`-th slice is held out. If `hold_out` is 0, the weights with the
    smallest training loss are kept, or the last weights if the loss is adversarial. If slices are
    held out, `keep` selects the weights with the best score or the last weights. Adversarial
    training can reduce the score, and "best" would then discard its effect.

    `evaluate_every` is the number of iterations between validation steps, and between checkpoints;
    `look_epochs` is the number of epochs between validation steps, if the training is specified in
    epochs. With `each_slice_once`, an epoch of whole slices contains each training slice once, in
    random order, and `patches` then applies only to trainings on patches. `slice_batches` is the
    number of batches in such an epoch; None until the images are known. Training stops after
    `patience` validation steps without an improvement of 0.005 dB; None disables early stopping.

    `betas` is a setting of the Adam optimizer of the generator, and `critic_betas` of the
    optimizer of the critic; None for the same values. The `schedule` "one-cycle" increases the
    learning rate for a fifth of the steps and then decreases it to zero. "plateau" multiplies the
    rate by `plateau_factor` after `plateau_patience` validation steps without improvement.
    "linear-decay" is constant up to `decay_from` (in epochs if the training is specified in
    epochs) and then decreases linearly to `final_learning_rate`. "step-decay" multiplies the rate
    by `decay_factor` every `decay_every` epochs. `gradient_limit` is the largest norm of the
    generator's gradient; None means no clipping.

    `freeze_but_last` is the number of layers with weights, counted from the end, that are trained
    if training starts from a model; None means all layers. `edition` is increased if the recipe
    gets another network; models of other editions cannot be used.
    """

    build_generator: Callable[[int, Factor], nn.Module]
    build_critic: Callable[[int], nn.Module] | None = None
    losses: tuple[LossTerm, ...] = ()
    upsampled_by: str | None = None
    patch: int | tuple[int, ...] | None = changeable_field(
        None,
        "side length of training patches",
        SettingLimits(
            minimum=SMALLEST_SIDE,
            maximum=256,
            unit="high-resolution voxels",
            source=f"{ATTENTION_UNET_PAPER}: 8 to 64, section 4.1.2",
            text_without_value="whole images",
            # patches would change the total variation and the data consistency of
            # self-supervised recipes
            is_used=lambda recipe: (
                not recipe.augmentation.of_whole_slices and recipe.objective != "self"
            ),
            replaced_fields={"patch_at_most": False},
        ),
    )
    batch: int = changeable_field(
        4,
        "number of patches per batch",
        SettingLimits(minimum=1, maximum=512, unit="patches per step"),
    )
    iterations: int = changeable_field(
        1000,
        "maximum number of training steps",
        SettingLimits(
            minimum=1,
            maximum=10_000_000,
            unit="steps",
            is_used=lambda recipe: recipe.epochs is None,
        ),
    )
    learning_rate: float = changeable_field(
        1e-3,
        "learning rate of the Adam optimizer for the generator",
        SettingLimits(minimum=_MIN_LEARNING_RATE, maximum=1),
    )
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "one-cycle", "plateau", "linear-decay", "step-decay"] = (
        "constant"
    )
    critic_learning_rate: float | None = changeable_field(
        None,
        "learning rate of the Adam optimizer for the critic",
        SettingLimits(
            minimum=_MIN_LEARNING_RATE,
            maximum=1,
            text_without_value="same as the generator",
            is_used=lambda recipe: recipe.build_critic is not None,
        ),
    )
    critic_steps: int = changeable_field(
        1,
        "number of critic steps per generator step",
        SettingLimits(
            minimum=1,
            maximum=100,
            unit="steps",
            source=f"{ATTENTION_UNET_PAPER}: 5, section 3.5, and 1 in the authors' code",
            is_used=lambda recipe: recipe.build_critic is not None,
        ),
    )
    adversarial_from: int = 0
    gradient_limit: float | None = None
    background: float = 1.0
    evaluate_every: int = 100
    patience: int | None = None
    hold_out: int = 5
    augmentation: Augmentation = field(default_factory=Augmentation)
    # alternative to `iterations`: each of `patches` patches is used once per epoch
    epochs: int | None = changeable_field(
        None,
        "maximum number of epochs",
        SettingLimits(
            minimum=1,
            maximum=_MAX_EPOCHS,
            unit="epochs",
            is_used=lambda recipe: recipe.epochs is not None,
        ),
    )
    # combined with `iterations`, the steps use this number of patches repeatedly
    patches: int | None = changeable_field(
        None,
        "number of training patches, which are drawn once before training",
        SettingLimits(
            minimum=1,
            maximum=10_000_000,
            unit="patches in total across all images",
            source=f"{ATTENTION_UNET_PAPER}: 100 to 5000 per scan, section 4.1.3; Liang & Zhang"
            " 2023: 5000 and 20000, table 1",
            text_without_value="new patches in every step",
            is_used=lambda recipe: not recipe.augmentation.of_whole_slices,
            replaced_fields={"each_slice_once": False},
        ),
    )
    look_epochs: int = 1
    decay_from: int = 0
    final_learning_rate: float = 0.0
    plateau_patience: int = changeable_field(
        5,
        "number of epochs without improvement after which the learning rate is halved",
        SettingLimits(
            minimum=1,
            maximum=_MAX_EPOCHS,
            unit="epochs",
            is_used=lambda recipe: recipe.schedule == "plateau",
        ),
    )
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
    every_slice: bool = False
    applied_in_patches: bool = False
    each_slice_once: bool = False
    slice_batches: int | None = None
    decay_every: int = changeable_field(
        20,
        "number of epochs after which the learning rate is multiplied by `decay_factor`",
        SettingLimits(
            minimum=1,
            maximum=_MAX_EPOCHS,
            unit="epochs",
            is_used=lambda recipe: recipe.schedule == "step-decay",
        ),
    )
    decay_factor: float = 0.5
    critic_betas: tuple[float, float] | None = None
    edition: int = 1

    def __post_init__(self) -> None:
        if self.epochs is not None and self.patches is None:
            raise ValueError("a recipe that specifies `epochs` must also specify `patches`")

    @property
    def epochs_of_slices(self) -> bool:
        """Whether an epoch contains each whole training slice once."""
        return self.each_slice_once and self.epochs is not None and self.patch is None

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps per epoch; 1 if the recipe is specified in iterations."""
        if self.epochs is None or self.patches is None:
            return 1
        if self.epochs_of_slices and self.slice_batches is not None:
            return self.slice_batches
        return ceil(self.patches / self.batch)

    @property
    def steps(self) -> int:
        """Maximum number of steps."""
        return self.iterations if self.epochs is None else self.epochs * self.steps_per_epoch

    @property
    def look_every(self) -> int:
        """Number of steps between validation steps, and between checkpoints."""
        return (
            self.evaluate_every if self.epochs is None else self.look_epochs * self.steps_per_epoch
        )

    @property
    def flat_patch(self) -> tuple[int, int] | None:
        """Sides of the patches in plane; None if slices of any size are supported."""
        if self.patch is None or self.patch_at_most:
            return None
        return (
            (self.patch, self.patch)
            if isinstance(self.patch, int)
            else (self.patch[0], self.patch[1])
        )

    @property
    def patch_applied(self) -> int | tuple[int, ...] | None:
        """Sides of the patches for applying a model; None for whole images."""
        return self.patch if self.applied_in_patches else None

    def fits(self, x: int, y: int) -> bool:
        """Return whether slices of x times y voxels are at least as large as the patches."""
        sides = self.flat_patch
        return sides is None or (sides[0] <= x and sides[1] <= y)

    def select_terms(self, vgg: bool) -> tuple[LossTerm, ...]:
        """Return the loss terms that are used with or without VGG-19 weights."""
        unused_kinds = {
            "perceptual": not vgg,
            "adversarial": self.build_critic is None,
        }
        return tuple(
            term
            for term in self.losses
            if not (unused_kinds.get(term.kind) or (term.stands_in and vgg))
        )

    @property
    def has_adversarial_loss(self) -> bool:
        """Whether the loss has an adversarial term and thus does not show image quality."""
        return self.build_critic is not None and any(
            term.kind == "adversarial" and term.weight != 0 for term in self.losses
        )

    @property
    def perceptual(self) -> bool:
        """Whether the loss has a term of VGG-19 features, which requires their weights."""
        return any(term.kind == "perceptual" for term in self.losses)

    @property
    def needs_vgg(self) -> bool:
        """Whether only the perceptual term relates the output to the target."""
        return self.perceptual and not _compare_images(self.select_terms(False))

    @property
    def compares_images(self) -> bool:
        """Whether a loss term compares the output with an image or its features."""
        return _compare_images(self.losses, (*_COMPARISON_KINDS, "perceptual"))

    def rate(self, iteration: int, base: float) -> float:
        """Return the learning rate of a step (counted from 0), before reduction at plateaus."""
        if self.schedule in ("constant", "plateau"):
            return base
        if self.schedule == "step-decay":
            return base * self.decay_factor ** (
                iteration // self.steps_per_epoch // self.decay_every
            )
        if self.schedule == "linear-decay":
            start = self.decay_from * self.steps_per_epoch
            fraction = max(0, iteration - start) / max(1, self.steps - 1 - start)
            return base + min(1.0, fraction) * (self.final_learning_rate - base)
        return self._compute_one_cycle_rate(iteration, base)

    def _compute_one_cycle_rate(self, iteration: int, base: float) -> float:
        """Return the learning rate of a step (counted from 0) of the schedule "one-cycle"."""
        peak = max(1, self.steps // 5)  # step with the full rate
        if iteration < peak:
            increase = (1 - _FIRST_RATE) * 0.5 * (1 - cos(pi * iteration / peak))
            return base * (_FIRST_RATE + increase)
        return base * 0.5 * (1 + cos(pi * (iteration - peak) / max(1, self.steps - peak)))


def _compare_images(terms: Sequence[LossTerm], kinds: tuple[str, ...] = _COMPARISON_KINDS) -> bool:
    """Return whether a term of some kinds compares the output with an image."""
    return any(term.kind in kinds and term.weight for term in terms)


BASE_RECIPE = Recipe(
    build_generator=ImportedWhenCalled("architectures.srresnet.SubPixelNet"),
    schedule="one-cycle",
    evaluate_every=50,
    patience=8,
    background=0.1,
    gradient_limit=1.0,
    augmentation=Augmentation(dihedral=True),
)
"""Basis of our own recipes, with a one-cycle learning rate, early stopping and flips."""


@frozen
class VarianceRecipe:
    """Settings for estimating the prior SD maps w of a run.

    The definitions of the other settings contain their descriptions.

    `kind` is "sbl", or the control "sdmod". `fwhm` are full widths at half maximum of the
    correlations K_q (high-resolution voxels), one per prior SD map; empty for sdmod.
    `least_explained` is the smallest fraction of the zero-filling error that the map of one half
    of the run must explain in the other half, in the self-test at lower resolution. With a smaller
    fraction, the series is zero filled. None for controls, which are always applied.
    """

    kind: str = "sbl"
    fwhm: tuple[float, ...] = (3.0, 1.5)
    noise: float = changeable_field(
        1e-3,
        "noise variance relative to the mean variance of the data",
        SettingLimits(minimum=1e-6, maximum=1),
    )
    rounds: int = changeable_field(
        6, "number of updates of the prior SD maps", SettingLimits(minimum=1, maximum=100)
    )
    draws: int = changeable_field(
        96, "number of samples from the prior per update", SettingLimits(minimum=8, maximum=10_000)
    )
    step: float = changeable_field(
        0.5,
        "exponent of the ratio that multiplies the maps in an update",
        SettingLimits(minimum=0.01, maximum=2),
    )
    equalize: float = changeable_field(
        0.75,
        "exponent of the size that divides temporal components",
        SettingLimits(minimum=0, maximum=1),
    )
    smooth: float = changeable_field(
        0.7,
        "standard deviation of the Gaussian smoothing of ratios in plane",
        SettingLimits(minimum=0, maximum=10, unit="high-resolution voxels"),
    )
    across: float = changeable_field(
        0.4,
        "standard deviation of the Gaussian smoothing of ratios across slices",
        SettingLimits(minimum=0, maximum=10, unit="voxels"),
    )
    pull: float = changeable_field(
        0.1,
        "weight of the smoothed logarithm of the maps in an update",
        SettingLimits(minimum=0, maximum=1),
    )
    components: int = changeable_field(
        40,
        "number of temporal components that represent all volumes, strongest first",
        SettingLimits(minimum=1, maximum=1000, requires_prior=False),
    )
    least_explained: float | None = 0.02


def make_short_recipe(recipe: VarianceRecipe) -> VarianceRecipe:
    """Return the recipe for runs with a calibration run, which has fewer and larger updates.

    Settings that differ from their default were chosen, and are kept.
    """
    default_recipe = VarianceRecipe()
    changes = {
        name: value
        for name, value in _SHORT_SETTINGS.items()
        if getattr(recipe, name) == getattr(default_recipe, name)
    }
    return replace(recipe, **changes)
