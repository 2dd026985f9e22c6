"""Labels of methods in figures and tables of the group, which depend on their training recipe."""

from pathlib import Path

from bids_sr.io.atomic_files import read_json
from bids_sr.io.series import series_name
from bids_sr.sr.method import list_methods


def find_recipe_labels(output_dir: Path) -> dict[str, str]:
    """Return the labels of methods that differ from their names, by name of the series.

    The recipe is in the model cards of the output directory. A method without cards, or with cards
    of several recipes, keeps its name.
    """
    labels = {}
    for method in (method for method in list_methods() if method.labels):
        series = series_name(method.name)
        cards = (output_dir / "sourcedata" / "models").rglob(f"*_desc-{series}_model.json")
        recipes = {str(read_json(card).get("recipe", "")) for card in cards}
        if len(recipes) == 1:
            labels[series] = method.label(recipes.pop())
    return labels
