"""Commands and tests in the list of items of the papers, `docs/papers/items.tsv`, exist."""

import csv
import shlex
from itertools import pairwise

import pytest
from pages import ROOT, loaded

from bids_sr.cli.parser import parse_settings
from bids_sr.sr.method import method_names_without_controls
from bids_sr.sr.recipe_changes import change_of_method, check_changes

PARSERS = dict(loaded(ROOT / "docs/options_page.py").commands())
STATUSES = {"works", "with stand-in", "differs", "missing"}
"""An item works, works with a program or device that was replaced in tests, differs from the paper
as its note says, or is missing.
"""
with (ROOT / "docs/papers/items.tsv").open(encoding="utf-8", newline="") as stream:
    ITEMS = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def check_command(command: str) -> None:
    """Check program, options, values and settings of a command.

    Commands other than `bids-sr` lack positional arguments.
    """
    words = shlex.split(command)
    if words[0] in ("docker", "git", "pip", "python"):
        assert words[0] != "python" or (ROOT / words[1]).exists()
        return
    heading = next(name for name in (" ".join(words[:2]), words[0]) if name in PARSERS)
    arguments = words[len(heading.split()) :]
    if heading == "bids-sr":
        assert parse_settings(arguments).selection.analysis_level == arguments[2]
        return
    actions = PARSERS[heading]._option_string_actions
    assert {word.partition("=")[0] for word in arguments if word.startswith("--")} <= set(actions)
    for option, value in pairwise(arguments):
        choices = actions[option].choices if option in actions else None
        assert choices is None or value in choices or value.startswith("--")
    if heading == "bids-sr-models train":
        assert arguments[0] in method_names_without_controls()
        if "--set" in arguments:
            texts = [w for w in arguments[arguments.index("--set") + 1 :] if "=" in w]
            changes = [change_of_method(text, arguments[0]) for text in texts]
            check_changes(changes, [arguments[0]], "paper", vgg=False)


def test_items_that_ran_only_with_stand_ins_have_this_status() -> None:
    numbers = {int(row["number"]) for row in ITEMS if row["status"] == "with stand-in"}
    assert numbers == {58, 59, 61, 83, 92, 138, 142}


def test_there_are_149_items_and_none_is_broken() -> None:
    assert [int(row["number"]) for row in ITEMS] == list(range(1, 150))
    assert {row["status"] for row in ITEMS} <= STATUSES


@pytest.mark.parametrize("row", ITEMS, ids=[row["number"] for row in ITEMS])
def test_commands_and_tests_of_an_item_exist(row: dict[str, str]) -> None:
    if row["status"] in ("works", "with stand-in"):
        assert row["command"]
        assert row["test"]
    if row["status"] in ("differs", "with stand-in"):
        assert row["note"], "the note says how it differs, or what was replaced"
    if row["command"]:
        check_command(row["command"])
    if row["test"]:
        file, _, function = row["test"].partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in text
