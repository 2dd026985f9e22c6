"""The command line of ``bids-sr``: what it accepts, and how it becomes `Settings`.

Only the standard library is imported, so that ``--help`` answers at once. Defaults and choices are
read from the settings themselves: they have one home.
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from bids_sr.cli.options import add_options
from bids_sr.config import Settings, UsageError, nearest_name
from bids_sr.config.readers import path
from bids_sr.config.settings import read_toml
from bids_sr.config.values import SettingError
from bids_sr.version import __version__

_DESCRIPTION = """\
Super-resolution of fMRI as a BIDS-App: super-resolves every BOLD series of a BIDS data set, and
maps activation (connectivity at rest) on the acquired, the interpolated and the super-resolved
series side by side.
For research; not for clinical use."""
_EPILOG = """\
bids-sr --help-all lists all options; bids-sr report OUTPUT_DIR --open shows finished reports."""


_ELSEWHERE = {"--seed": "--random-seed", "--nthreads": "--nprocs"}
"""Option of other programs to the one here that does the same, where another is spelled more like
it.
"""


class Parser(argparse.ArgumentParser):
    """Parser that raises `UsageError`, proposes the nearest option, and never exits."""

    def error(self, message: str) -> NoReturn:
        fix = f"see {self.prog} --help"
        unknown = re.match(r"unrecognized arguments: .*?(--\S+)", message)
        if unknown:
            flags, flag = (
                [each for action in self._actions for each in action.option_strings],
                unknown[1].split("=")[0],
            )
            meant = _ELSEWHERE.get(flag)
            fix = (
                f"did you mean {meant!r}?" if meant in flags else nearest_name(flag, flags) or fix
            )
        elif choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            fix = nearest_name(choice[1], re.findall(r"[^', ]+", choice[2])) or fix
        elif message.startswith("the following arguments are required"):
            these = " ".join(
                str(each.metavar or each.dest) for each in self._actions if not each.option_strings
            )
            fix = f"the command is: {self.prog} {these} [options]; see {self.prog} --help"
        raise UsageError(message, remedy=fix)


def data_parser(prog: str, description: str, data: str, output: str) -> Parser:
    """A parser of a program that works on a data set; absent options leave no value."""
    parser = Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths.bids_dir", metavar=data, type=path, help="root of the BIDS data set"
    )
    parser.add_argument(
        "paths.output_dir", metavar=output, type=path, help="where the derivatives go"
    )
    parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    return parser


WITHOUT_EFFECT = ("--resource-monitor", "--write-graph")
"""Options of fMRIPrep that are taken and do nothing."""


class _Nothing(argparse.Action):
    """Take an option and leave no value."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        """Do nothing."""


class _HelpAll(argparse.Action):
    """Print the help with every option, and end."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        build_parser(everything=True).print_help()
        parser.exit()


def build_parser(*, everything: bool = False) -> Parser:
    """Return the parser of ``bids-sr``, whose help lists the common options or all.

    Nothing is read or changed.
    """
    parser = data_parser("bids-sr", _DESCRIPTION, "bids_dir", "output_dir")
    level = "participant: each run; group: statistics over the participants in output_dir"
    levels = ("participant", "group")
    parser.add_argument(
        "selection.analysis_level", metavar="{participant,group}", choices=levels, help=level
    )
    parser.usage = "bids-sr bids_dir output_dir {participant,group} [options]"
    parser.add_argument("--help-all", nargs=0, action=_HelpAll, help="show all options and exit")
    parser.epilog = None if everything else _EPILOG
    for flag in WITHOUT_EFFECT:
        parser.add_argument(flag, nargs=0, action=_Nothing, help=argparse.SUPPRESS)
    add_options(parser, everything=everything)
    return parser


def hyphens(tokens: Sequence[str]) -> Iterator[str]:
    """Yield the tokens with underscores in the names of long options turned to hyphens."""
    for token in tokens:
        name, equals, value = token.partition("=")
        yield name.replace("_", "-") + equals + value if name.startswith("--") else token


def parse_settings(argv: Sequence[str]) -> Settings:
    """Return the settings of a command line, which override those of ``--config-file``.

    Raises `UsageError` for anything that is not understood, and SystemExit after ``--help`` and
    ``--version``.
    """
    parser = build_parser()
    return settings_of(parser, vars(parser.parse_args(list(hyphens(argv)))))


def settings_of(parser: argparse.ArgumentParser, given: Mapping[str, object]) -> Settings:
    """Return the settings of parsed options, ``group.name`` → value, by options of `parser`.

    Raises `UsageError` for values that cannot hold.
    """
    values: dict[str, dict[str, object]] = {}
    if "run.config_file" in given:
        values = read_toml(
            Path(os.path.expanduser(str(given["run.config_file"]))), reusable_only=True
        )
    for key, value in given.items():
        section, name = key.split(".")
        values.setdefault(section, {})[name] = value
    try:
        return Settings.from_mapping(values)
    except SettingError as error:
        flags = {
            action.dest: action.option_strings[-1]
            for action in parser._actions
            if action.option_strings
        }
        if error.setting in given and error.setting in flags:
            raise SettingError(
                flags[error.setting], error.value, error.notice.why, error.notice.remedy
            ) from None
        raise
