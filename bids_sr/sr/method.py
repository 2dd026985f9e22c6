"""Definition of a super-resolution method as plain data, readable without third-party libraries.

A method is a file below `bids_sr/sr/methods/` that defines `METHOD`. It is found by its file name.
Settings, cost estimates, workflows and tables use only the fields of `METHOD`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import InvalidInput
from bids_sr.io.run_time import RunTime
from bids_sr.io.series import get_kind, series_name
from bids_sr.sr import methods
from bids_sr.sr.device import Precision

if TYPE_CHECKING:
    from bids_sr.io.grids import Factor
    from bids_sr.sr.recipe import Recipe, VarianceRecipe

# costs of methods that were not measured, for the recipe `fast` and for published recipes
_TYPICAL_FAST_COST = RunTime(always=80.0, high=3.0, series=1.0)
_TYPICAL_PAPER_COST = RunTime(always=240_000.0, series=25.0)


@frozen
class Method:
    """Super-resolution method.

    Parameters
    ----------
    name : str
        Name for `--sr-method`, which is also the file name (with _ in place of -).
    ndim : Literal[2, 3]
        Number of dimensions: 2 (slice by slice) or 3.
    recipes : Mapping[str, Recipe]
        Recipes by name: `fast` (ours) and `paper` (as published). Empty if nothing is trained.
    variance : VarianceRecipe | None
        Recipe of the prior SD maps for a method with a Gaussian prior (see `sr.prior_maps`).
        It is used with every recipe name. None for networks.
    reference : str
        Key in the bibliography.
    summary : str
        One line for the list of methods.
    article : str
        Article of the summary within a sentence; "" if it has no article.
    trained_on : Literal['pair', 'series', 'self', 'images']
        Training data: "pair"; "series" (the run itself); "self" (only low-resolution volumes); or
        "images", a set of high-resolution images, whose low-resolution versions are simulated by
        the degradation (a pair is a set of one image with its measured low-resolution image).
    costs : Mapping[str, RunTime]
        Measured costs by recipe name.
    needs_much_memory : bool
        Whether training with the published recipe keeps whole volumes with about 2,000 channels in
        memory.
    fuses_contrasts : bool
        Whether several contrasts can be its channels (``--sr-target anat``).
    simulated_factor : Factor | None
        Factor of the k-space crop that simulates low-resolution structural scans of one contrast
        (``--sr-target anat``); None if measured scans are required or not supported.
    uses_calibration : bool
        Whether its prior SD maps use a calibration scan.
    paper_precision : Precision
        Precision of the published training.
    network_text : Mapping[str, str]
        Noun phrase with citations on the network for the methods text, by recipe name. Recipes
        without an entry use `about`. The course of a training is described from the model card
        (see `bids_sr.sr.networks.training_text`).
    labels : Mapping[str, str]
        Labels for figures, tables and the plan, by recipe name. Recipes without an entry use the
        name. Names of series and files do not depend on the recipe.
    prior_text : Mapping[str, str]
        Continuation of "under a Gaussian prior" in the methods text of a method with prior SD
        maps, by recipe name or "any". If empty, it is derived from `about`.
    """

    name: str
    ndim: Literal[2, 3]
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    variance: VarianceRecipe | None = None
    reference: str
    summary: str
    article: str = "a"
    trained_on: Literal["pair", "series", "self", "images"] = "pair"
    costs: Mapping[str, RunTime] = field(default_factory=dict)
    needs_much_memory: bool = False
    fuses_contrasts: bool = False
    simulated_factor: Factor | None = None
    uses_calibration: bool = False
    paper_precision: Precision = "fp32"
    network_text: Mapping[str, str] = field(default_factory=dict)
    prior_text: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """Description of the method with article and reference, for texts."""
        return f"{self.article} {self.summary} [@{self.reference}]".lstrip()

    @property
    def is_baseline(self) -> bool:
        """Whether the method is a baseline rather than a method under test."""
        return get_kind(self.name) == "baseline"

    @property
    def is_run_specific(self) -> bool:
        """Whether a model belongs to one run rather than to the images of a participant."""
        return self.trained_on in ("series", "self")

    @property
    def has_prior(self) -> bool:
        """Whether the method has a prior, whose samples provide the reconstruction error."""
        return self.variance is not None and bool(self.variance.fwhm)

    @property
    def needs_pair(self) -> bool:
        """Whether training requires high-resolution images, such as a T2*-weighted image pair."""
        return not self.is_run_specific

    def label(self, recipe: str) -> str:
        """Return the label of the method, trained with a recipe, for figures and tables."""
        return self.labels.get(recipe, self.name)

    def describe_network(self, recipe: str) -> str:
        """Return a description of the network for the methods text.

        Parameters
        ----------
        recipe : str
            Name of the recipe, such as ``fast`` or ``paper``.

        Returns
        -------
        str
            Noun phrase with citations.
        """
        return self.network_text.get(recipe, self.about)

    def describe_prior(self, recipe: str) -> str:
        """Return the description of a method's prior for the methods text.

        Parameters
        ----------
        recipe : str
            Name of the recipe, such as ``fast`` or ``paper``.

        Returns
        -------
        str
            Continuation of "under a Gaussian prior"; "" if the method has no such text.
        """
        return self.prior_text.get(recipe, self.prior_text.get("any", ""))

    def cost(self, recipe: str) -> RunTime:
        """Return the measured cost of a recipe, or a typical cost if it was not measured.

        Parameters
        ----------
        recipe : str
            Name of the recipe, such as ``fast`` or ``paper``.

        Returns
        -------
        RunTime
            Processor time of training and application.
        """
        name = "fast" if self.variance is not None else recipe
        typical_cost = _TYPICAL_FAST_COST if name == "fast" else _TYPICAL_PAPER_COST
        return self.costs.get(name, typical_cost)


class UnknownMethod(InvalidInput):
    """Error raised for an unknown method or recipe."""


def methods_trained_on(*sources: str) -> tuple[str, ...]:
    """Return the names of the methods with one of these types of training data.

    The types are ``pair``, ``series``, ``self`` and ``images``.
    """
    return tuple(method.name for method in list_methods() if method.trained_on in sources)


def list_methods() -> tuple[Method, ...]:
    """Return all methods in the order of their names."""
    return tuple(map(get_method, method_names()))


@cache
def is_network(series: str) -> bool:
    """Return whether a series is from a network."""
    try:
        return bool(method_of_series(series).recipes)
    except UnknownMethod:
        return False


def method_of_series(label: str) -> Method:
    """Return the method that computes a series, or raise `UnknownMethod`."""
    return get_method(next((name for name in method_names() if series_name(name) == label), label))


def get_method(name: str) -> Method:
    """Return a method by name.

    For other names, UnknownMethod is raised with a list of methods and the closest name.
    """
    if name not in _list_module_names():
        raise UnknownMethod(
            f"unknown method {name!r}; expected one of {', '.join(method_names())}",
            suggestion_text(name, method_names()),
        )
    method = importlib.import_module(_list_module_names()[name]).METHOD
    assert isinstance(method, Method)
    return method


def find_method_file(name: str) -> Path:
    """Return the file that defines a method."""
    return Path(str(importlib.import_module(_list_module_names()[name]).__file__))


def suggestion_text(name: str, known: Sequence[str]) -> str:
    """Return ``Did you mean x?`` for the closest known name, or "" if no name is similar."""
    from difflib import get_close_matches

    similar_names = get_close_matches(name, known, n=1)
    return f"Did you mean {similar_names[0]}?" if similar_names else ""


def method_names_without_controls() -> tuple[str, ...]:
    """Return the names of all methods except controls, which are listed as baselines."""
    return tuple(name for name in method_names() if get_kind(name) != "baseline")


def method_names() -> tuple[str, ...]:
    """Return the names of all methods in alphabetical order, without importing them."""
    return tuple(sorted(_list_module_names()))


@cache
def _list_module_names() -> Mapping[str, str]:
    """Return the names of the modules that define the methods, by method name.

    Hyphens in method names are underscores in file names.
    """
    modules = pkgutil.walk_packages(methods.__path__, f"{methods.__name__}.")
    return {
        module.name.rpartition(".")[2].replace("_", "-"): module.name
        for module in modules
        if not module.ispkg
    }


def get_recipe(method: Method, name: str) -> Recipe:
    """Return a recipe by name.

    For other names, UnknownMethod is raised with a list of the method's recipes.
    """
    if name in method.recipes:
        return method.recipes[name]
    raise UnknownMethod(
        f"the method {method.name} has no recipe {name!r}; expected one of "
        f"{', '.join(method.recipes)}"
    )
