"""Check which options make each step run again: a change must not repeat work without need."""

from reruns import TABLE, table


def test_an_option_repeats_only_the_steps_of_the_table() -> None:
    """`python tests/reruns.py` writes the table; each added line makes a call slower."""
    assert table() + "\n" == TABLE.read_text(encoding="utf-8")
