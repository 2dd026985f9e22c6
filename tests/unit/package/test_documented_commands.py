"""Commands on pages of the documentation, and options in their sentences, are accepted.

The pages are read by bash (`commands`) and each command by the parser of its program. At night,
`tests/e2e/test_documented_runs.py` runs the commands.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from commands import (
    PROGRAMS,
    VARIABLES,
    all_pages,
    calls_of,
    codes_of,
    ours_within,
    script_of,
    with_values,
)
from pages import ROOT, loaded

from bids_sr.cli.parser import parse_settings
from bids_sr.io.notices import UsageError

PARSERS = dict(loaded(ROOT / "docs/options_page.py").commands())
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in all_pages()}
OTHER_OPTIONS = {
    *("--build-arg", "--env", "--logdir", "--no-home", "--nv", "--read-only", "--strict-skips"),
    *("--upgrade", "--userns"),
}
"""Options of other programs within sentences."""


def parse(words: Sequence[str]) -> None:
    """Parse a command of ours; raises `UsageError` if it is invalid."""
    if {"--help", "--help-all", "--version"} & {*words}:
        return
    heading = next(
        (name for name in (" ".join(words[:2]), words[0]) if name in PARSERS), "bids-sr-models"
    )
    arguments = [*words[len(heading.split()) :]]
    if heading == "bids-sr-slurm":
        split = arguments.index("--") if "--" in arguments else len(arguments)
        PARSERS[heading].parse_args(arguments[:split])
        parse_settings([*arguments[:2], "participant", *arguments[split + 1 :]])
    elif heading == "bids-sr":
        parse_settings(arguments)
    else:
        PARSERS[heading].parse_args(arguments)


def commands_of(page: str, folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the words of our commands on a page, also within commands of other programs."""
    for code in codes_of(TEXTS[page]):
        script = with_values(page, script_of(code))
        for call in calls_of(script, folder, VARIABLES):
            inner = call if call.is_ours else ours_within(call)
            if inner is not None:
                yield inner.words


def test_commands_of_all_pages_are_accepted(tmp_path: Path) -> None:
    faults, programs = [], []
    for page in TEXTS:
        for words in commands_of(page, tmp_path):
            programs.append(words[0])
            try:
                parse(words)
            except (UsageError, KeyError) as error:
                faults.append(f"{page}: {shlex.join(words)}: {error}")
    assert faults == []
    assert len(programs) > 60
    assert {*programs} == {*PROGRAMS}


def test_options_within_sentences_exist() -> None:
    known = {flag for parser in PARSERS.values() for flag in parser._option_string_actions}
    unknown = {}
    for page, text in TEXTS.items():
        sentences = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
        options = set(re.findall(r"`(--[a-z][\w-]*)[^`]*`", sentences))
        if missing := options - known - OTHER_OPTIONS:
            unknown[page] = missing
    assert unknown == {}
