"""Command lines of all programs, generated from the fields that hold their options.

Fields declare their flags, help text and place in the help. Only the standard library is imported,
so that ``--help`` responds at once.
"""

import argparse
import dataclasses
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from bids_sr.config import UsageError, suggest_name
from bids_sr.config.readers import parse_path
from bids_sr.config.section import OptionSection, get_option
from bids_sr.config.values import SettingError
from bids_sr.version import __version__

ParsedOptions = dict[str, dict[str, object]]
"""Options on a command line: options class in lower case → field → value."""
_T = TypeVar("_T")
_C = TypeVar("_C", bound=OptionSection)
_READER_BY_TYPE = {Path: parse_path, int: int, float: float}


class Parser(argparse.ArgumentParser):
    """Parser that raises `UsageError` with the most similar option instead of exiting.

    Missing options have no value.

    Parameters
    ----------
    prog : str
        Name of the program.
    description : str
        Text at the top of the help.
    *kinds : type
        Classes whose fields become options.
    """

    def __init__(self, prog: str, description: str, *kinds: type[OptionSection]) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        self._unused_flags: dict[str, str] = {}
        self._refused_flags: dict[str, str] = {}
        version = f"{prog.partition(' ')[0]} {__version__}"
        self.add_argument("--version", action="version", version=version)
        for kind in kinds:
            self.add_fields(kind)

    def add_fields(
        self,
        kind: type[OptionSection],
        *,
        title: str = "",
        show_all: bool = True,
    ) -> None:
        """Add the options of a class.

        The help lists all options if `show_all` is true, and otherwise only common options.
        """
        hints = get_type_hints(kind)
        class_fields = kind.__annotations__
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]  # all are dataclasses
        # options shared by several commands come last in the help
        for item in sorted(fields, key=lambda item: item.name not in class_fields):
            properties = get_option(item)
            if not properties.flags:
                continue
            *names, value_name = properties.flags.split()
            destination = f"{kind.__name__.lower()}.{item.name}"
            keywords = dict[str, Any]()
            if value_name.startswith("-"):
                names.append(value_name)
            else:
                keywords["metavar"] = value_name
            keywords["help"] = (
                properties.help if show_all or properties.common else argparse.SUPPRESS
            )
            if names:
                keywords |= {"dest": destination, "required": item.default is dataclasses.MISSING}
            elif properties.parser_settings.get("nargs") == "?":
                # argparse would otherwise parse the default as if it were on the command line
                keywords["default"] = item.default
            keywords = _complete_keywords(
                {**keywords, **properties.parser_settings},
                hints[item.name],
                item.default,
                has_flag=bool(names),
            )
            heading = (properties.among or title) if names else ""
            (self.get_group(heading) if heading else self).add_argument(
                *(names or [destination]), **keywords
            )

    def add_foreign(
        self, *, unused: Mapping[str, Sequence[str]], refused: Mapping[str, Sequence[str]]
    ) -> None:
        """Add options of other programs, which the help does not list.

        `unused` maps a reason to options without effect, `refused` a remedy to rejected options.
        """
        self._refused_flags |= {flag: fix for fix, flags in refused.items() for flag in flags}
        for reason, flags in unused.items():
            for flag, _, value in (declaration.partition(" ") for declaration in flags):
                keywords: dict[str, Any] = {"action": "store_true"}
                if value:
                    keywords = {"nargs": "+" if value.endswith("...") else None}
                self.add_argument(flag, dest=flag, help=argparse.SUPPRESS, **keywords)
                self._unused_flags[flag] = reason

    def get_group(self, title: str) -> "argparse._ArgumentGroup":
        """Return the group of options with a heading in the help, created if missing."""
        groups = (group for group in self._action_groups if group.title == title)
        return next(groups, None) or self.add_argument_group(title)

    def read(self, argv: Sequence[str], make: Callable[[ParsedOptions], _T]) -> _T:
        """Return the result of `make` for the values of a command line.

        Raises
        ------
        UsageError
            If the command line or a value is invalid.
        SystemExit
            After ``--help`` and ``--version``.
        """
        values: ParsedOptions = {}
        tokens = list(normalize_flags(argv))
        # checked first, because their values could be taken for positional arguments
        names = [token.partition("=")[0] for token in tokens if token.startswith("--")]
        if refused := [name for name in names if name in self._refused_flags]:
            fixes = dict.fromkeys(self._refused_flags[name] for name in refused)
            raise UsageError(
                f"unrecognized arguments: {' '.join(refused)}", remedy="; ".join(fixes)
            )
        arguments = vars(self.parse_args([*self._repeat_number_flags(tokens)]))
        for key, value in arguments.items():
            section, _, name = key.partition(".")
            if name:
                values.setdefault(section, {})[name] = _flatten(value)
        unused = tuple(
            (key, self._unused_flags[key]) for key in arguments if key in self._unused_flags
        )
        if unused:
            values.setdefault("run", {})["without_effect"] = unused
        flags = {action.dest: _format_flag(action) for action in self._actions}
        try:
            return make(values)
        except SettingError as error:
            section, _, name = error.setting.partition(".")
            if name in values.get(section, {}) and error.setting in flags:
                flag = flags[error.setting]
                notice = error.notice
                raise SettingError(flag, error.value, notice.why, notice.remedy) from None
            raise

    def _repeat_number_flags(self, tokens: Sequence[str]) -> Iterator[str]:
        """Yield tokens with ``--flag 2 2 2`` as ``--flag=2 --flag=2 --flag=2``.

        Options with several numbers then end at the first token that is not a number, so that a
        directory may follow.
        """
        flags = {
            flag
            for action in self._actions
            for flag in action.option_strings
            if action.nargs == "+" and action.type is float
        }
        remaining = list(tokens)
        while remaining:
            token = remaining.pop(0)
            if token == "--":
                yield from (token, *remaining)
                return
            if token not in flags or not remaining or remaining[0].startswith("--"):
                yield token
                continue
            yield f"{token}={remaining.pop(0)}"
            while remaining and _is_number(remaining[0]):
                yield f"{token}={remaining.pop(0)}"

    def options(self, argv: Sequence[str], kind: type[_C]) -> _C:
        """Return the options of a class from a command line; raise the same errors as `read`."""
        return self.read(argv, lambda values: make_options(values, kind))

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with the most similar option or a hint, instead of exiting."""
        fix = f"run {self.prog} --help for the available options"
        unknown_match = re.match(r"unrecognized arguments: (?:.*?(?=--))?(\S+)", message)
        if unknown_match:
            flags = [flag for action in self._actions for flag in action.option_strings]
            flag = unknown_match[1].split("=")[0]
            fix = self._refused_flags.get(flag) or suggest_name(flag, flags) or fix
        elif choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            fix = suggest_name(choice[1], re.findall(r"[^', ]+", choice[2])) or fix
        elif message.startswith("the following arguments are required"):
            arguments = " ".join(
                f"{_format_flag(action)} {action.metavar}"
                if action.option_strings
                else _format_flag(action)
                for action in self._actions
                if action.required or not action.option_strings
            )
            fix = f"usage: {self.prog} {arguments} [options]. Run {self.prog} --help for details."
        raise UsageError(message, remedy=fix)


def _is_number(text: str) -> bool:
    """Return whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def make_options(inputs: ParsedOptions, kind: type[_C]) -> _C:
    """Return the options of a class from the values of a command line."""
    return kind(**inputs.get(kind.__name__.lower(), {}))


def _format_flag(action: argparse.Action) -> str:
    """Return the name of an option as the user writes it."""
    long_flags = (flag for flag in action.option_strings if flag.startswith("--"))
    return next(long_flags, str(action.metavar or action.dest))


def _flatten(value: object) -> object:
    """Return a list with nested lists flattened, because a value may stand for several values."""
    if not isinstance(value, list):
        return value
    return [
        item
        for element in value
        for item in (element if isinstance(element, tuple) else (element,))
    ]


def normalize_flags(tokens: Sequence[str]) -> Iterator[str]:
    """Yield tokens with underscores in the names of long options replaced by hyphens.

    Values are not changed.
    """
    for token in tokens:
        name, equals, value = token.partition("=")
        yield name.replace("_", "-") + equals + value if name.startswith("--") else token


def _complete_keywords(
    keywords: Mapping[str, object], annotation: object, default: object, *, has_flag: bool
) -> dict[str, Any]:
    """Complete the argparse arguments of an option from the type and default of its field."""
    if annotation is bool:
        return {**keywords, "action": "store_true"}
    if keywords.get("action") == "count":
        return dict(keywords)
    is_container = get_origin(annotation) in (tuple, types.UnionType, Union)
    element_type = get_args(annotation)[0] if is_container else annotation
    if get_origin(element_type) is Literal:
        keywords = {"choices": get_args(element_type), **keywords}
    elif element_type in _READER_BY_TYPE:
        keywords = {"type": _READER_BY_TYPE[element_type], **keywords}
    if get_origin(annotation) is tuple:
        keywords = {"nargs": "+", **({"action": "extend"} if has_flag else {}), **keywords}
    has_default_text = default in (None, (), "", dataclasses.MISSING) or "(default" in str(
        keywords["help"]
    )
    if has_flag and not has_default_text and keywords["help"] != argparse.SUPPRESS:
        keywords = {
            **keywords,
            "help": f"{keywords['help']} (default: {_format_default(default)})",
        }
    return dict(keywords)


def _format_default(value: object) -> str:
    """Return a default value as text."""
    if isinstance(value, tuple):
        return " ".join(map(_format_default, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
