"""Models of ``--pretrained``: their methods, their factor, and the input that they require."""

from collections.abc import Iterator
from pathlib import Path

from bids_sr.config import SuperRes
from bids_sr.io.atomic_files import read_json
from bids_sr.io.grids import Factor
from bids_sr.io.notices import Notice
from bids_sr.io.series import series_name
from bids_sr.sr.method import get_method, method_names
from bids_sr.survey.bids.inputs import ModelInput
from bids_sr.survey.notices import option_problem

_MAX_FACTOR = 8  # along an axis
_MAX_ZOOM_MM = 100.0  # largest voxel size of a grid of structural scans


def judge_given_models(superres: SuperRes) -> Iterator[Notice]:
    """Reject ``--pretrained`` models of unrequested methods, and second models of a method."""
    file_by_method: dict[str, Path] = {}
    for file in superres.pretrained:
        method = method_of_model(file)
        if method is None or method not in method_names():
            continue  # missing files, cards and methods are reported when the model is opened
        option, description = f"--pretrained {file}", f"the file contains a {method} model"
        if method not in superres.learned:
            fix = f"Add {method} to --sr-method, or omit this file from --pretrained."
            yield option_problem(
                option, f"{description}, but --sr-method does not include this method", fix
            )
        elif method in file_by_method:
            yield option_problem(
                option,
                f"{description}, but {file_by_method[method]} already specifies a model for this"
                " method",
                "Specify one model per method. To compare two models, run the program twice with"
                " different output directories.",
            )
        file_by_method.setdefault(method, file)


def factor_without_pair(superres: SuperRes) -> Factor | None:
    """Return the factor of ``--sr-factor`` or of the given models, or None."""
    return superres.factor_by_axis or factor_of_models(superres)


def factor_of_models(superres: SuperRes) -> Factor | None:
    """Return the factor of the ``--pretrained`` models, or None if they do not share one factor.

    Models that were trained with several factors, and models of methods that are not requested, do
    not count.
    """
    factors = {
        _read_factor(file)
        for file in superres.pretrained
        if method_of_model(file) in superres.learned
    }
    return factors.pop() if len(factors) == 1 else None


def _read_factor(model: Path) -> Factor | None:
    """Return the single factor that a model card states, or None if it is missing or invalid.

    The card is checked when the model is used.
    """
    card = read_json(model.with_suffix(".json"))
    factor = card.get("factor")
    if card.get("factors") or not isinstance(factor, list) or len(factor) != 3:
        return None
    if not all(
        isinstance(number, int | float) and 1 <= number <= _MAX_FACTOR for number in factor
    ):
        return None
    x, y, z = map(float, factor)
    return None if x == y == z == 1 else (x, y, z)


def input_of_models(superres: SuperRes) -> ModelInput | None:
    """Return the input of the ``--pretrained`` models of structural scans, or None.

    Returns None unless every method has such a model, and the card of the first model states
    contrasts, voxel size and slice orientation. Further models are compared with the first one
    later.
    """
    models = [find_pretrained(superres, name) for name in superres.learned]
    if not models or models[0] is None or None in models:
        return None
    card = read_json(models[0].with_suffix(".json"))
    resolution = card.get("resolution")
    mm = resolution.get("lowres_mm") if isinstance(resolution, dict) else None
    contrast, orientation = card.get("contrast"), card.get("orientation")
    if not isinstance(contrast, str) or orientation not in ("R-L", "P-A", "I-S"):
        return None
    if not isinstance(mm, list) or len(mm) != 3:
        return None
    if not all(isinstance(size, int | float) and 0 < size < _MAX_ZOOM_MM for size in mm):
        return None
    x, y, z = map(float, mm)
    return ModelInput(
        contrasts=tuple(contrast.split("+")), mm=(x, y, z), orientation=str(orientation)
    )


def label_methods(superres: SuperRes) -> dict[str, str]:
    """Return the labels of methods that differ from their names, by name of the series.

    They depend on the recipe, which model cards contain for given models.
    """
    labels = {}
    for name in superres.learned:
        model = find_pretrained(superres, name)
        card = {} if model is None else read_json(model.with_suffix(".json"))
        label = get_method(name).label(str(card.get("recipe", superres.recipe)))
        if label != name:
            labels[series_name(name)] = label
    return labels


def find_pretrained(superres: SuperRes, method: str) -> Path | None:
    """Return the first ``--pretrained`` model whose card names this method, or None.

    Methods without such a model are trained as usual.
    """
    return next((file for file in superres.pretrained if method_of_model(file) == method), None)


def method_of_model(model: Path) -> str | None:
    """Return the method of a ``.safetensors`` file from its model card, or None.

    Returns None if the card next to the file does not name a method.
    """
    method = read_json(model.with_suffix(".json")).get("method")
    return method if isinstance(method, str) else None
