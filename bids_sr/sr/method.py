"""Definition of a super-resolution method: data, no class hierarchy, read without any library.

A method is one file below `bids_sr/sr/methods/` that defines `METHOD`, found by the name of its
file. Its fields are all that settings, estimates, workflows and tables know of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import field
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Literal

from bids_sr.frozen import frozen
from bids_sr.series import BASELINES, series_name
from bids_sr.sr import methods

if TYPE_CHECKING:
    from bids_sr.sr.recipe import Recipe, VarianceRecipe


@frozen
class Cost:
    """Processor seconds of a step (``benchmarks/resources.py``), or of a method and a recipe.

    `always`: whatever the grid. `low`, `high`: for a million voxels of one volume on the acquired,
    and on the high-resolution grid. `most`: millions of high-resolution voxels above which
    training takes no longer. `volumes`: for a million voxels of all volumes on the high-resolution
    grid. `series`: of applying the network, for a million voxels of all volumes on that grid,
    without the interpolation. `t1w`: for a million voxels of the T1w image. `limit`: seconds after
    which it stops on the clock.
    """

    always: float = 0.0
    low: float = 0.0
    high: float = 0.0
    most: float = inf
    volumes: float = 0.0
    series: float = 0.0
    t1w: float = 0.0
    limit: float = inf

    def seconds(
        self, *, low: float = 0.0, high: float = 0.0, volumes: float = 0.0, t1w: float = 0.0
    ) -> float:
        """Return seconds of a training, or a step, on so many million voxels of each kind."""
        found = self.always + self.low * low + self.high * min(high, self.most)
        return min(self.limit, found + self.volumes * volumes + self.t1w * t1w)


# fast, as published
_UNMEASURED = (Cost(always=80.0, high=3.0, series=1.0), Cost(always=240_000.0, series=25.0))


@frozen
class Placebo:
    """A negative control: the method itself with one thing exchanged that it claims to use.

    `suffix`: of the series' name. `instead`, `attributable_to`: for texts, what takes the place of
    the subject's own and what causes a gain over it. `method`: series of which it is the placebo.
    """

    suffix: str
    kind: Literal["model", "contrast", "map"]
    instead: str
    attributable_to: str
    method: str = ""


_SUBJECT = "a model trained on this participant"
PLACEBOS_OF_A_PAIR = (
    Placebo(
        suffix="Phantom",
        kind="model",
        instead="a model trained on a simulated head",
        attributable_to=_SUBJECT,
    ),
    Placebo(
        suffix="Other",
        kind="model",
        instead="the model of another participant",
        attributable_to=_SUBJECT,
    ),
    Placebo(
        suffix="T1w",
        kind="contrast",
        instead="a model trained on the T1w image of this participant",
        attributable_to="the contrast of the image pair",
    ),
)
PLACEBOS_OF_A_RUN = tuple(
    Placebo(
        suffix=suffix,
        kind="map",
        instead=f"the prior SD map of {instead}",
        attributable_to="the spatial pattern of the fluctuations in this run",
    )
    for suffix, instead in (
        ("Mirror", "this run mirrored left to right"),
        ("Shift", "this run shifted by three acquired voxels"),
        ("Other", "another participant"),
    )
)


@frozen
class Method:
    """A way to super-resolve.

    Parameters
    ----------
    name : str
        The name for `--sr-method`, also that of its file (with _ where the name has -).
    ndim : Literal[2, 3]
        2 (slice by slice) or 3.
    recipes : Mapping[str, Recipe]
        By name: `fast` (ours), `paper` (as published), and `paper-mse` where squared error may
        stand beside, or in the place of, features of VGG-19; none where nothing is trained.
    variance : VarianceRecipe | None
        Of a method whose Gaussian prior is the run's own variance map (see `bids_sr.sr.variance`),
        the same by whatever name of a recipe; None for networks.
    reference : str
        Key in the bibliography.
    summary : str
        One line for the list of methods.
    article : str
        Article of the summary within a sentence; "" if it has no article.
    trained_on : Literal['pair', 'series', 'self', 'images']
        "pair"; "series" (the run itself); "self" (low-resolution volumes alone); or "images", a
        set of high-resolution images whose low-resolution ones are made by the degradation (a pair
        counts as a set of one, with its measured low-resolution image).
    costs : Mapping[str, Cost]
        By name of recipe, as far as measured.
    large : bool
        Training by the published recipe keeps whole volumes of some 2,000 channels in memory.
    fuses : bool
        Several contrasts may be its channels (``--sr-target anat``).
    placebos : tuple[Placebo, ...]
        Negative controls that can be made of it.
    calibrated : bool
        A calibration scan enters its maps.
    draws : bool
        Another seed gives another result, so that an ensemble can be made.
    without_paper : bool
        Its paper was not at hand when it was written, so that no recipe of it is the published
        one.
    network_text : Mapping[str, str]
        By name of recipe, what its network is, as a noun phrase with citations for the methods
        text; `about` for recipes without. How a training went follows from the model's card
        (`bids_sr.sr.training_text`).
    text : Mapping[str, str]
        Of a variance method: by name of recipe, or "any", what follows "under a Gaussian prior" in
        the methods text; empty: made from `about`.
    """

    name: str
    ndim: Literal[2, 3]
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    variance: VarianceRecipe | None = None
    reference: str
    summary: str
    article: str = "a"
    trained_on: Literal["pair", "series", "self", "images"] = "pair"
    costs: Mapping[str, Cost] = field(default_factory=dict)
    large: bool = False
    fuses: bool = False
    placebos: tuple[Placebo, ...] = ()
    calibrated: bool = False
    draws: bool = True
    without_paper: bool = False
    network_text: Mapping[str, str] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """What it is, with article and reference, for texts."""
        return f"{self.article} {self.summary} [@{self.reference}]".lstrip()

    @property
    def control(self) -> bool:
        """Whether it stands among the baselines and is not under test."""
        return self.name in BASELINES

    @property
    def of_the_run(self) -> bool:
        """Whether a model belongs to one run, and not to the images of a participant."""
        return self.trained_on in ("series", "self")

    @property
    def has_prior(self) -> bool:
        """Whether draws from its maps tell the error of its reconstruction."""
        return self.variance is not None and bool(self.variance.fwhm)

    @property
    def needs_pair(self) -> bool:
        """Whether a T2*-weighted pair is needed to train it."""
        return not self.of_the_run

    @property
    def needs_vgg(self) -> bool:
        """Whether recipe `paper` is taught by features of VGG-19 alone."""
        return "paper" in self.recipes and self.recipes["paper"].needs_vgg

    def described(self, recipe: str) -> str:
        """Return what its network is, for the methods text.

        Parameters
        ----------
        recipe : str
            Name of the settings of the training, such as ``fast`` or ``paper``.

        Returns
        -------
        str
            Noun phrase with citations.
        """
        return self.network_text.get(recipe_name(self, recipe), self.about)

    def own_text(self, recipe: str) -> str:
        """Return the prior of a variance method for the methods text, or "".

        Parameters
        ----------
        recipe : str
            Name of the settings of the training, such as ``fast`` or ``paper``.

        Returns
        -------
        str
            What follows "under a Gaussian prior"; empty if the method has no such text.
        """
        return self.text.get(recipe_name(self, recipe), self.text.get("any", ""))

    def cost(self, recipe: str) -> Cost:
        """What a recipe takes; one that was never measured as most do.

        Parameters
        ----------
        recipe : str
            Name of the settings of the training, such as ``fast`` or ``paper``.

        Returns
        -------
        Cost
            Processor seconds of training and application, by what they grow with.
        """
        name = "fast" if self.variance is not None else recipe
        return self.costs.get(name, _UNMEASURED[name != "fast"])


class UnknownMethod(KeyError):
    """No method, or no recipe, of that name."""

    def __str__(self) -> str:
        return str(self.args[0])


@cache
def _modules() -> Mapping[str, str]:
    """Module of every method, by the method's name; a hyphen of the name is _ in the file's."""
    found = pkgutil.walk_packages(methods.__path__, f"{methods.__name__}.")
    return {m.name.rpartition(".")[2].replace("_", "-"): m.name for m in found if not m.ispkg}


def method_names() -> tuple[str, ...]:
    """Return names of all methods, in their order, without importing any of them."""
    return tuple(sorted(_modules()))


def get_method(name: str) -> Method:
    """The method of that name; `UnknownMethod` lists those there are and names the nearest."""
    if name not in _modules():
        from difflib import get_close_matches

        near = get_close_matches(name, method_names(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UnknownMethod(
            f"unknown method {name!r}; expected one of {', '.join(method_names())}.{hint}"
        )
    method = importlib.import_module(_modules()[name]).METHOD
    assert isinstance(method, Method)
    return method


def all_methods() -> tuple[Method, ...]:
    """Every method, in the order of the names."""
    return tuple(map(get_method, method_names()))


def methods_trained_on(*sources: str) -> tuple[str, ...]:
    """Return names of the methods that learn from one of these.

    `*sources`: kinds of training data: ``pair``, ``series``, ``self`` or ``images``.
    """
    return tuple(method.name for method in all_methods() if method.trained_on in sources)


def offered_methods() -> tuple[str, ...]:
    """Return names of the methods, without controls, which stand among the baselines."""
    return tuple(name for name in method_names() if name not in BASELINES)


def method_of_series(label: str) -> Method:
    """The method that makes a series; raises `UnknownMethod`."""
    return get_method(next((name for name in method_names() if series_name(name) == label), label))


def recipe_name(method: Method, name: str) -> str:
    """The recipe of a method that serves where one name is given for several methods.

    `name`: name of the settings of the training, such as ``fast`` or ``paper``.
    """
    return "paper" if name == "paper-mse" and name not in method.recipes else name


def get_recipe(method: Method, name: str) -> Recipe:
    """The recipe of that name; `UnknownMethod` lists those there are.

    `name`: name of the settings of the training, such as ``fast`` or ``paper``.
    """
    if name in method.recipes:
        return method.recipes[name]
    raise UnknownMethod(
        f"the method {method.name} has no recipe {name!r}; expected one of "
        f"{', '.join(method.recipes)}"
    )
