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

from bids_sr.config import suggest_name
from bids_sr.config.readers import StoreMemory, parse_gigabytes, parse_path
from bids_sr.config.section import OptionSection, get_option
from bids_sr.config.values import SettingError
from bids_sr.io.notices import UsageError
from bids_sr.version import __version__

ParsedOptions = dict[str, dict[str, object]]
"""Options on a command line: options class in lower case → field → value."""
_T = TypeVar("_T")
_READER_BY_TYPE = {Path: parse_path, int: int, float: float}


class Parser(argparse.ArgumentParser):
    """Parser that raises `UsageError` with the most similar option instead of exiting.

    Missing options have no value. `description` is the text at the top of the help. The fields of
    the classes `kinds` become options.
    """

    def __init__(self, prog: str, description: str, *kinds: type[OptionSection]) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=_HelpFormatter,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        self.setting_names: tuple[str, ...] = ()
        """Settings without a flag, which are suggested for unknown flags."""
        version = f"{prog.partition(' ')[0]} {__version__}"
        self.add_argument("--version", action="version", version=version)
        self._kinds = kinds
        for kind in kinds:
            self.add_fields(kind)

    def add_fields(
        self, kind: type[OptionSection], *, title: str = "", show_all: bool = True
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
                properties.help if show_all else properties.common or argparse.SUPPRESS
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
            heading = (properties.among or title) if names and show_all else ""
            (self.get_group(heading) if heading else self).add_argument(
                *(names or [destination]), **keywords
            )

    def get_group(self, title: str) -> "argparse._ArgumentGroup":
        """Return the group of options with a heading in the help, created if missing."""
        groups = (group for group in self._action_groups if group.title == title)
        return next(groups, None) or self.add_argument_group(title)

    def read(self, argv: Sequence[str], make: Callable[[ParsedOptions], _T]) -> _T:
        """Return the result of `make` for the values of a command line.

        Raises `UsageError` if the command line or a value is invalid, and `SystemExit` after
        ``--help`` and ``--version``.
        """
        values: ParsedOptions = {}
        tokens = list(normalize_flags(argv))
        arguments = vars(self.parse_args([*self._repeat_number_flags(tokens)]))
        for key, value in arguments.items():
            section, _, name = key.partition(".")
            if name:
                values.setdefault(section, {})[name] = flatten(value)
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

    def options(self, argv: Sequence[str]) -> tuple[Any, ...]:
        """Return an object of each class `kinds`; raise the same errors as `read`."""
        return self.read(
            argv,
            lambda values: tuple(
                kind(**values.get(kind.__name__.lower(), {})) for kind in self._kinds
            ),
        )

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with the most similar option or a hint, instead of exiting."""
        fix = f"run {self.prog} --help for the available options"
        unknown_match = re.match(r"unrecognized arguments: (?:.*?(?=--))?(\S+)", message)
        if unknown_match:
            fix = self._suggest_option(unknown_match[1].split("=")[0]) or fix
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

    def _suggest_option(self, flag: str) -> str:
        """Return the remedy for an unknown flag: the nearest flag or setting, or ""."""
        settings = {name.partition(".")[2]: name for name in self.setting_names}
        keyword = flag.lstrip("-").replace("-", "_")
        if keyword in settings:
            return f"use --set {settings[keyword]}=VALUE"
        flags = [name for action in self._actions for name in action.option_strings]
        if suggestion := suggest_name(flag, flags):
            return suggestion
        nearest = re.search("'(.+)'", suggest_name(keyword, settings))
        return f"did you mean --set {settings[nearest[1]]}=VALUE?" if nearest else ""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Formatter that names the value of an option once, as in ``-w, --work-dir DIR``.

    A short help text is on the line of its option, and names are not broken at hyphens.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=10)

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        lines = text.splitlines()
        joined = f"{lines[0]:<24} {lines[-1].strip()}" if len(lines) == 2 else ""
        return f"{joined}\n" if joined and len(joined) <= self._width else text

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        default = self._get_default_metavar_for_optional(action)
        return f"{', '.join(action.option_strings)} {self._format_args(action, default)}"

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs == "+":
            (name,) = self._metavar_formatter(action, default_metavar)(1)
            return f"{name} ..."
        return super()._format_args(action, default_metavar)


def _complete_keywords(
    keywords: Mapping[str, object], annotation: object, default: object, *, has_flag: bool
) -> dict[str, Any]:
    """Complete the argparse arguments of an option from the type and default of its field."""
    if annotation is bool:
        return {**keywords, "action": "store_true"}
    if keywords.get("action") == "count":
        return dict(keywords)
    element_type = get_element_type(annotation)
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


def normalize_flags(tokens: Sequence[str]) -> Iterator[str]:
    """Yield tokens with underscores in the names of long options replaced by hyphens.

    Values are not changed.
    """
    for token in tokens:
        name, equals, value = token.partition("=")
        yield name.replace("_", "-") + equals + value if name.startswith("--") else token


def flatten(value: object) -> object:
    """Return a list with nested lists flattened, because a value may stand for several values."""
    if not isinstance(value, list):
        return value
    return [
        item
        for element in value
        for item in (element if isinstance(element, tuple) else (element,))
    ]


def _format_flag(action: argparse.Action) -> str:
    """Return the name of an option as the user writes it."""
    long_flags = (flag for flag in action.option_strings if flag.startswith("--"))
    return next(long_flags, str(action.metavar or action.dest))


def _is_number(text: str) -> bool:
    """Return whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def get_reader(item: "dataclasses.Field[Any]", annotation: object) -> Callable[[str], object]:
    """Return the function that converts the text of one element of an option to its value."""
    settings: Mapping[str, Any] = get_option(item).parser_settings
    if settings.get("action") is StoreMemory:  # which reads the text itself
        return parse_gigabytes
    reader: Callable[[str], object] = settings.get(
        "type", _READER_BY_TYPE.get(get_element_type(annotation), str)
    )
    return reader


def get_element_type(annotation: object) -> Any:
    """Return the type of one element of a tuple, or of a value that may be None."""
    is_container = get_origin(annotation) in (tuple, types.UnionType, Union)
    return get_args(annotation)[0] if is_container else annotation
