"""Command lines of all programs, made from the fields that hold their options.

Each field states its flags, its help and where it is shown. Only the standard library is imported,
so that ``--help`` answers at once.
"""

import argparse
import dataclasses
import re
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from bids_sr.config import UsageError, nearest_name
from bids_sr.config.readers import path
from bids_sr.config.section import Checked, option_of
from bids_sr.config.values import SettingError
from bids_sr.version import __version__

Given = dict[str, dict[str, object]]
"""What a command line holds: class of options, in lower case → field → value."""
_T = TypeVar("_T")
_C = TypeVar("_C", bound=Checked)
_READERS = {Path: path, int: int, float: float}


class Parser(argparse.ArgumentParser):
    """Parser that raises `UsageError`, proposes the nearest option, and never exits.

    Options that are absent leave no value.

    `*kinds`: classes whose fields become options.
    """

    def __init__(self, prog: str, description: str, *kinds: type[Checked]) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        self._unused: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        version = f"{prog.partition(' ')[0]} {__version__}"
        self.add_argument("--version", action="version", version=version)
        for kind in kinds:
            self.add_fields(kind)

    def add_fields(
        self,
        kind: type[Checked],
        *,
        title: str = "",
        everything: bool = True,
        without: Collection[str] = (),
    ) -> None:
        """Add the options of a class.

        `everything`: whether the help lists all of them, or the common ones alone.
        """
        hints = get_type_hints(kind)
        own = kind.__annotations__
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]  # all are dataclasses
        # what several commands share comes last in the help
        for item in sorted(fields, key=lambda each: each.name not in own):
            known = option_of(item)
            if not known.flags or item.name in without:
                continue
            *names, last = known.flags.split()
            where = f"{kind.__name__.lower()}.{item.name}"
            keywords = dict[str, Any]()
            if last.startswith("-"):
                names.append(last)
            else:
                keywords["metavar"] = last
            keywords["help"] = known.help if everything or known.common else argparse.SUPPRESS
            if names:
                keywords |= {"dest": where, "required": item.default is dataclasses.MISSING}
            elif known.how.get("nargs") == "?":
                # argparse would read the word that stands for "no value" as if it had been typed
                keywords["default"] = item.default
            keywords = _of_kind(
                {**keywords, **known.how}, hints[item.name], item.default, named=bool(names)
            )
            heading = (known.among or title) if names else ""
            (self.titled(heading) if heading else self).add_argument(
                *(names or [where]), **keywords
            )

    def add_foreign(
        self, *, unused: Mapping[str, Sequence[str]], refused: Mapping[str, Sequence[str]]
    ) -> None:
        """Add options of other programs, which the help does not show."""
        self._refused |= {flag: fix for fix, flags in refused.items() for flag in flags}
        for why, flags in unused.items():
            for flag, _, value in (each.partition(" ") for each in flags):
                how: dict[str, Any] = {"action": "store_true"}
                if value:
                    how = {"nargs": "+" if value.endswith("...") else None}
                self.add_argument(flag, dest=flag, help=argparse.SUPPRESS, **how)
                self._unused[flag] = why

    def titled(self, title: str) -> "argparse._ArgumentGroup":
        """The group of options under a heading of the help; made where there is none."""
        known = (each for each in self._action_groups if each.title == title)
        return next(known, None) or self.add_argument_group(title)

    def read(self, argv: Sequence[str], make: Callable[[Given], _T]) -> _T:
        """Return what `make` makes of a command line.

        `SystemExit`: after ``--help`` and ``--version``.
        """
        values: Given = {}
        tokens = list(hyphens(argv))
        # before a value of theirs is taken for a positional argument
        names = [token.partition("=")[0] for token in tokens if token.startswith("--")]
        if refused := [name for name in names if name in self._refused]:
            fixes = dict.fromkeys(self._refused[name] for name in refused)
            raise UsageError(
                f"unrecognized arguments: {' '.join(refused)}", remedy="; ".join(fixes)
            )
        parsed = vars(self.parse_args([*self._one_number_each(tokens)]))
        for key, value in parsed.items():
            section, _, name = key.partition(".")
            if name:
                values.setdefault(section, {})[name] = _flat(value)
        if unused := tuple((key, self._unused[key]) for key in parsed if key in self._unused):
            values.setdefault("run", {})["without_effect"] = unused
        flags = {each.dest: _named(each) for each in self._actions}
        try:
            return make(values)
        except SettingError as error:
            section, _, name = error.setting.partition(".")
            if name in values.get(section, {}) and error.setting in flags:
                flag = flags[error.setting]
                notice = error.notice
                raise SettingError(flag, error.value, notice.why, notice.remedy) from None
            raise

    def _one_number_each(self, tokens: Sequence[str]) -> Iterator[str]:
        """Yield tokens with ``--flag 2 2 2`` as ``--flag=2 --flag=2 --flag=2``.

        Options that take several numbers then end at the first token that is not a number, and
        a directory may follow them.
        """
        flags = {
            flag
            for action in self._actions
            for flag in action.option_strings
            if action.nargs == "+" and action.type is float
        }
        left = list(tokens)
        while left:
            token = left.pop(0)
            if token == "--":
                yield from (token, *left)
                return
            if token not in flags or not left or left[0].startswith("--"):
                yield token
                continue
            yield f"{token}={left.pop(0)}"
            while left and _is_number(left[0]):
                yield f"{token}={left.pop(0)}"

    def options(self, argv: Sequence[str], kind: type[_C]) -> _C:
        """Return the options of a class that a command line holds; raises as `read` does."""
        return self.read(argv, lambda given: made_of(given, kind))

    def error(self, message: str) -> NoReturn:
        """Raise an error with the nearest option or a hint instead of exiting."""
        fix = f"run {self.prog} --help for the available options"
        unknown = re.match(r"unrecognized arguments: (?:.*?(?=--))?(\S+)", message)
        if unknown:
            flags = [each for action in self._actions for each in action.option_strings]
            flag = unknown[1].split("=")[0]
            fix = self._refused.get(flag) or nearest_name(flag, flags) or fix
        elif choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            fix = nearest_name(choice[1], re.findall(r"[^', ]+", choice[2])) or fix
        elif message.startswith("the following arguments are required"):
            these = " ".join(
                f"{_named(each)} {each.metavar}" if each.option_strings else _named(each)
                for each in self._actions
                if each.required or not each.option_strings
            )
            fix = f"usage: {self.prog} {these} [options]. Run {self.prog} --help for details."
        raise UsageError(message, remedy=fix)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def made_of(inputs: Given, kind: type[_C]) -> _C:
    """The options of one class, of those that were given."""
    return kind(**inputs.get(kind.__name__.lower(), {}))


def _named(action: argparse.Action) -> str:
    """An option as the user knows it."""
    long = (each for each in action.option_strings if each.startswith("--"))
    return next(long, str(action.metavar or action.dest))


def _flat(value: object) -> object:
    """A list without the lists in it: of several values each may stand for several."""
    if not isinstance(value, list):
        return value
    return [item for each in value for item in (each if isinstance(each, tuple) else (each,))]


def hyphens(tokens: Sequence[str]) -> Iterator[str]:
    """Yield the tokens with underscores in the names of long options turned to hyphens.

    One argument; values are left as they are.
    """
    for token in tokens:
        name, equals, value = token.partition("=")
        yield name.replace("_", "-") + equals + value if name.startswith("--") else token


def _of_kind(
    keywords: Mapping[str, object], kind: object, default: object, *, named: bool
) -> dict[str, Any]:
    """Complete option arguments from the type and default of a field."""
    if kind is bool:
        return {**keywords, "action": "store_true"}
    if keywords.get("action") == "count":
        return dict(keywords)
    several = get_origin(kind) in (tuple, types.UnionType, Union)
    inner = get_args(kind)[0] if several else kind
    if get_origin(inner) is Literal:
        keywords = {"choices": get_args(inner), **keywords}
    elif inner in _READERS:
        keywords = {"type": _READERS[inner], **keywords}
    if get_origin(kind) is tuple:
        keywords = {"nargs": "+", **({"action": "extend"} if named else {}), **keywords}
    told = default in (None, (), "", dataclasses.MISSING) or "(default" in str(keywords["help"])
    if named and not told and keywords["help"] != argparse.SUPPRESS:
        keywords = {**keywords, "help": f"{keywords['help']} (default: {_shown(default)})"}
    return dict(keywords)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
