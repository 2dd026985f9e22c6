"""Every statement of a verdict is used, and callers fill in all of its values."""

import re
from pathlib import Path
from string import Formatter

import pytest

import bids_sr
from bids_sr.evaluation.sentences import Sentence
from bids_sr.evaluation.statements import Statement

FOLDER = Path(bids_sr.__file__).parent


def test_every_statement_is_used_and_the_table_has_every_statement_that_is_used():
    used = {
        name
        for path in FOLDER.rglob("*.py")
        for name in re.findall(r"\bStatement\.([A-Z_]+)\b", path.read_text(encoding="utf-8"))
    }
    assert used == {statement.name for statement in Statement}


@pytest.mark.parametrize("statement", Statement)
def test_a_sentence_has_no_text_without_all_of_its_values(statement):
    fields = [name for _, name, _, _ in Formatter().parse(statement) if name is not None]
    values = {name: f"<{name}>" for name in fields}
    text = Sentence(statement, values).text
    assert all(value in text for value in values.values())
    for name in values:
        partial_values = {key: value for key, value in values.items() if key != name}
        with pytest.raises(KeyError, match=name):
            _ = Sentence(statement, partial_values).text
