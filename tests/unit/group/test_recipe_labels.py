"""Test the labels of methods at the group level, which follow from the recipes of their models."""

import json
from pathlib import Path

import pytest
from data.group_tables import joined, sizes, write_tables
from data.page import Page

from bids_sr.group.paper_table import paper_html, paper_sizes
from bids_sr.group.recipe_labels import find_recipe_labels
from bids_sr.report.evaluation_rows import label_series


@pytest.mark.parametrize(
    ("recipes", "label"),
    [
        (["fast", "fast"], "srgan (fast, no critic)"),
        (["paper", "paper"], "srgan"),
        (["fast", "paper"], "srgan"),
        ([], "srgan"),
    ],
)
def test_srgan_without_a_critic_is_labeled(recipes: list[str], label: str, tmp_path: Path) -> None:
    for number, recipe in enumerate(recipes):
        folder = tmp_path / "sourcedata" / "models" / f"sub-{number}"
        folder.mkdir(parents=True)
        card = folder / f"sub-{number}_desc-srgan_model.json"
        card.write_text(json.dumps({"method": "srgan", "recipe": recipe}))
    for participant in ("01", "02"):
        activation = [*sizes("acquired", 100, 120, 0.5), *sizes("srgan", 80, 90, 0.4)]
        write_tables(tmp_path, participant, activation=activation)
    (sizes_of_pair,) = paper_sizes(joined(tmp_path).values)
    with label_series(find_recipe_labels(tmp_path)):
        page = Page(paper_html(sizes_of_pair, ["srgan"]))
    assert [row[0] for row in next(iter(page.tables.values()))][:3] == [
        *(next(iter(page.tables.values()))[0][0], "acquired", label)
    ]
