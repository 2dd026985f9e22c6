"""Test the commands of `docs/papers_items.tsv`: the program accepts their options."""

import csv
import shlex

import pytest
from pages import ROOT, loaded

from bids_sr.cli.parser import parse_settings

PARSERS = dict(loaded(ROOT / "docs/options_page.py").commands())


def commands(*programs: str) -> list[str]:
    """Return the distinct commands of these programs."""
    with (ROOT / "docs/papers_items.tsv").open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        cells = dict.fromkeys(row["command"] for row in rows)
    return [cell for cell in cells if cell.split()[:1] and cell.split()[0] in programs]


@pytest.mark.parametrize("command", commands("bids-sr"))
def test_a_command_of_bids_sr_is_parsed(command: str) -> None:
    arguments = shlex.split(command)[1:]
    assert parse_settings(arguments).selection.analysis_level == arguments[2]


@pytest.mark.parametrize("command", commands("bids-sr-models", "bids-sr-slurm", "bids-sr-phantom"))
def test_other_programs_have_the_options_of_a_command(command: str) -> None:
    """Positional arguments are left out of these commands."""
    words = shlex.split(command)
    parser = PARSERS.get(" ".join(words[:2])) or PARSERS[words[0]]
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert flags <= {*parser._option_string_actions}


def test_most_items_have_a_command() -> None:
    assert len(commands("bids-sr")) > 30
    assert len(commands("bids-sr-models")) > 30
