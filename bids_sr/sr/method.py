"""What a super-resolution method is: data, not a class hierarchy.

A method is one file in `bids_sr/sr/methods/` that defines `METHOD`. It is found by the name of its file; adding one
touches nothing else. A `Recipe` says how it is trained. Generator, critic and losses belong to the recipe, because the
faithful and the fast form of one idea may be different networks.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

from bids_sr.sr import methods
from bids_sr.sr.resolution.degradation import Factor
from bids_sr.sr.variance.estimator_settings import Estimator

RecipeName = Literal["fast", "paper", "paper-mse"]
REMOVED: Mapping[str, str] = {"guided": "sbl"}  # of earlier versions, and what takes their place
_TIES = ("content", "psnr", "ssim", "cycle", "identity", "sparsify")  # terms that see the image that is asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerm:
    """One term of the generator's loss.

    Parameters
    ----------
    kind : what the loop hands to it: "content" and "psnr" (output, target, weight), "adversarial" (critic's scores),
        "perceptual" (output, target; needs the weights of VGG-19, and is left out, said in the card, without them),
        "tv" (output), "ssim" (output, target, weight), and between two generators G to the fine and F back to the
        coarse image: "cycle" (F(G(x)), x, weight) and the other way round, "identity" (G(y), y, weight) and
        (F(x), x, weight), "sparsify" (G(x), y, weight)
    build : makes the module; a perceptual term is built from the path of the weights
    weight : factor in the sum
    stands_in : the term is there only while the perceptual one is off for want of VGG-19's weights
    """

    kind: Literal["content", "psnr", "adversarial", "perceptual", "tv", "ssim", "identity", "cycle", "sparsify"]
    build: Callable[..., nn.Module]
    weight: float
    stands_in: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How training images are varied. Everything is done to the fine image and reaches the coarse one through physics.

    The coarse image becomes B(A(fine)) + A(coarse - B(fine)), where B crops k-space, so that what the acquired coarse
    image holds beyond B(fine), its own noise, stays in it.

    Parameters
    ----------
    dihedral : flips of both in-plane axes and, on square matrices, their exchange: these map the centers of the voxels
        of both grids onto centers, as every rotation by other angles or shift by whole fine voxels would not
    shift : largest shift in-plane (fine voxels; by a phase ramp): the head lies between the samples differently in
        every BOLD volume
    gamma : standard deviation of the logarithm of an exponent on intensity: BOLD and T2* images differ in contrast
    gain : standard deviation of the logarithm of a factor on intensity
    noise : standard deviation of noise in the coarse image (in units of the scaled intensity). The same noise, zero
        filled, is added to the fine image: the network learns to see through it, not to remove it
    """

    dihedral: bool = False
    shift: float = 0.0
    gamma: float = 0.0
    gain: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a method is trained.

    Parameters
    ----------
    build_generator : (in_channels, factor) -> network from (N, C, *grid) to the high-resolution grid
    build_critic : (in_channels) -> network from images to scores, or None
    losses : terms of the generator's loss
    upsampled_by : interpolation that brings the input to the high-resolution grid before the generator, or None for a
        generator that works on the acquired grid
    patch : side of the patches (high-resolution voxels), or one side an axis; None for whole slices or volumes
    patch_at_most : the sides are the largest there may be: a smaller image is seen whole in-plane
    batch, iterations : images a step, steps at most
    epochs, patches : where both are given, the length instead: `patches` places are drawn once and each is seen once
        an epoch; looks at what was held out are then `look_epochs` epochs apart
    learning_rate, betas, schedule : of Adam; "constant", "one-cycle" (a fifth of the way up, then down to nothing),
        "plateau" (times `plateau_factor` after `plateau_patience` looks without a gain) or "linear-decay" (constant
        up to `decay_from`, in epochs where the recipe is given in epochs, then in a line to `final_learning_rate`)
    critic_learning_rate : of the critic's Adam; the generator's where None
    critic_steps : critic steps a generator step
    critic_game : "bce" (the adversarial term's own), "wasserstein" (the same, and the critic's weights are clipped to
        +- `weight_clip` after each step) or "wasserstein-gp" (plus `penalty_weight` times what `build_penalty` makes)
    build_penalty : makes the penalty, called with (critic, real, fake)
    build_backward : the generator from fine to coarse of the objective "cycle"; `build_generator` where None
    adversarial_from : first iteration with an adversarial term
    gradient_limit : norm to which the generator's gradient is clipped, or None; a deep net without normalization needs
        it at large steps
    background : weight of the content loss outside the mask (1 inside)
    evaluate_every : iterations between looks at the held-out slices, and between checkpoints
    patience : looks without a gain of .005 dB after which training stops; None: never
    hold_out : every n-th slice is held out; 0: none, and the last weights are kept
    refit : train again on all slices for as many steps as did best on the held-out ones
    augmentation : how training images are varied
    objective : "supervised"; "self" (the output is brought down by the degradation and compared with the coarse image:
        no fine image is needed); or "cycle" (two generators, see `LossTerm`)
    degradation : name in `operators`, where the coarse image has to be made, and for the objective "self"
    factors : factors to draw from at each step, for one network of many; what is not 1 in the factor trained for is
        exchanged for the number drawn. Empty: that factor alone
    freeze_but_last : layers with weights, counted from the end, that a warm start goes on training; None: all
    keep_critic : whether the trained critic is kept beside the generator, to be looked at
    intensity : what is 1 for the network: "percentile" (the 99th inside the mask) or "unit" (the largest value, for
        networks that end in a sigmoid)
    """

    build_generator: Callable[[int, Factor], nn.Module]
    build_critic: Callable[[int], nn.Module] | None
    losses: tuple[LossTerm, ...]
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
    build_penalty: Callable[[], nn.Module] | None = None
    build_backward: Callable[[int, Factor], nn.Module] | None = None
    objective: Literal["supervised", "self", "cycle"] = "supervised"
    degradation: str = "kspace"
    factors: tuple[float, ...] = ()
    freeze_but_last: int | None = None
    keep_critic: bool = False
    intensity: Literal["percentile", "unit"] = "percentile"
    patch_at_most: bool = False

    def __post_init__(self) -> None:
        if (self.epochs is None) != (self.patches is None):
            raise ValueError("a recipe in epochs needs both `epochs` and `patches`")

    @property
    def steps_an_epoch(self) -> int:
        """Steps that see each of the `patches` once; 1 where the recipe is given in iterations."""
        return 1 if self.patches is None else -(-self.patches // self.batch)

    @property
    def steps(self) -> int:
        """Steps at most."""
        return self.iterations if self.epochs is None else self.epochs * self.steps_an_epoch

    @property
    def look_every(self) -> int:
        """Steps between looks at what was held out, and between checkpoints."""
        return self.evaluate_every if self.epochs is None else self.look_epochs * self.steps_an_epoch

    def terms_on(self, vgg: bool) -> tuple[LossTerm, ...]:
        """Terms of the loss that are on with, or without, weights of VGG-19."""
        off = "none" if vgg else "perceptual", "none" if self.build_critic is not None else "adversarial"
        return tuple(t for t in self.losses if t.kind not in off and not (t.stands_in and vgg))

    @property
    def contested(self) -> bool:
        """Whether an adversarial term is part of the loss, which then says nothing of how good the output is."""
        return self.build_critic is not None and any(t.kind == "adversarial" and t.weight != 0 for t in self.losses)

    @property
    def needs_vgg(self) -> bool:
        """Whether nothing but the perceptual term ties the output to the image that is asked for."""
        perceptual = any(term.kind == "perceptual" for term in self.losses)
        return perceptual and not any(term.kind in _TIES for term in self.terms_on(False))

    def rate(self, iteration: int, base: float) -> float:
        """Learning rate of a step (counted from 0); a plateau's factor is the loop's business."""
        if self.schedule in ("constant", "plateau"):
            return base
        if self.schedule == "linear-decay":
            start = self.decay_from * self.steps_an_epoch
            done = max(0, iteration - start) / max(1, self.steps - 1 - start)
            return base + min(1.0, done) * (self.final_learning_rate - base)
        from math import cos, pi

        top = max(1, self.steps // 5)
        if iteration < top:
            return base * (0.04 + 0.96 * 0.5 * (1 - cos(pi * iteration / top)))
        return base * 0.5 * (1 + cos(pi * (iteration - top) / max(1, self.steps - top)))


def _variance_maps(_channels: int, _factor: Factor) -> nn.Module:
    from bids_sr.sr.variance.weight_maps import VarianceMaps

    return VarianceMaps()


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceRecipe(Recipe):
    """How the variance maps of a run are found; nothing is trained, and what belongs to training is not used.

    Parameters
    ----------
    estimator : settings of the maps
    components : strongest temporal components of the change that stand for all volumes
    least_explained : share of zero filling's error that the map of one half of the run has to explain in the other
        half, one level of resolution down; with less the series is zero filled; None for a control,
        which is not put to that test
    """

    estimator: Estimator
    components: int = 40
    least_explained: float | None = 0.02
    build_generator: Callable[[int, Factor], nn.Module] = _variance_maps
    build_critic: Callable[[int], nn.Module] | None = None
    losses: tuple[LossTerm, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A way to super-resolve.

    Parameters
    ----------
    name : the name for `--sr-method`, also that of its file (with _ where the name has -)
    ndim : 2 (slice by slice) or 3
    needs_pair : whether a T2*-weighted pair is needed to train it
    trained_on : "pair"; "series" where the run itself is what is learned from; "self" where coarse volumes are all
        that is needed; "images" for a set of fine images whose coarse ones are made by the degradation (a pair counts
        as a set of one, with its measured coarse image)
    recipes : by name: `fast` (ours), `paper` (as published), and `paper-mse` where squared error may stand beside
        features of VGG-19, or in their place; of methods without that variant `paper` serves (`recipe_name`)
    reference : key in the bibliography
    summary : one line for the list of methods
    warm : by name of recipe, how training goes on from weights that were learned elsewhere; a method that is trained
        on a pair can begin with weights only where there is one
    """

    name: str
    ndim: Literal[2, 3]
    needs_pair: bool
    recipes: Mapping[RecipeName, Recipe]
    reference: str
    summary: str
    trained_on: Literal["pair", "series", "self", "images"] = "pair"
    warm: Mapping[RecipeName, Recipe] = field(default_factory=dict)


class UnknownMethod(KeyError):
    """No method, or no recipe, of that name."""

    def __str__(self) -> str:
        return str(self.args[0])


def method_names() -> tuple[str, ...]:
    """Names of all methods, without importing any of them."""
    return tuple(sorted(_modules()))


def _modules() -> dict[str, str]:
    """Module of every method, by the method's name."""
    found = pkgutil.walk_packages(methods.__path__, f"{methods.__name__}.")
    return {m.name.rpartition(".")[2].replace("_", "-"): m.name for m in found if not m.ispkg}


def get_method(name: str) -> Method:
    """The method of that name; `UnknownMethod` lists those there are and names the nearest."""
    if name in REMOVED:
        raise UnknownMethod(f"the method {name!r} was removed from the program; {REMOVED[name]} takes its place")
    if name not in method_names():
        near = difflib.get_close_matches(name, method_names(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UnknownMethod(f"no method named {name!r}; there are: {', '.join(method_names())}.{hint}")
    method = importlib.import_module(_modules()[name]).METHOD
    assert isinstance(method, Method)
    return method


def recipe_name(method: Method, name: str) -> str:
    """The recipe of a method that serves where one name is given for several methods."""
    return "paper" if name == "paper-mse" and name not in method.recipes else name


def get_recipe(method: Method, name: str) -> Recipe:
    """The recipe of that name; `UnknownMethod` lists those there are."""
    for known, recipe in method.recipes.items():
        if known == name:
            return recipe
    raise UnknownMethod(f"method {method.name} has no recipe {name!r}; there are: {', '.join(method.recipes)}")
