"""Options of all commands as fields: default, flags, help, effect on results, and check.

The effect states whether the field decides the results.

Read values from files of others, check and convert their types, and write them as TOML.

Conversion of option text to values, refusing invalid text with the valid forms.

Levels of storage: which series and maps of a run each level stores.

Every level makes the same results and the same report, and decides which of them become files.
What is stored is known from the settings alone, before anything runs. What a user named beyond the
defaults is stored at the standard level, too.
"""

import argparse
import dataclasses
import json
import operator
import re
import sys
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from bids_sr.frozen import frozen
from bids_sr.notices import UsageError
from bids_sr.series import BASELINES, MEASURED, RAW, series_names
from bids_sr.sr.recipe_changes import ChangeError, RecipeChange

_LARGEST = sys.float_info.max
_CLOSE = 0.75  # of `difflib`, from which a name is proposed for another


class SettingError(UsageError):
    """A value that a setting (``group.name``) cannot have."""

    def __init__(self, setting: str, value: object, why: str, fix: str) -> None:
        super().__init__(f"{setting}: {value}", why, fix)
        self.setting, self.value = setting, value


def read_tables(path: Path, what: str, yaml: Sequence[str] = ()) -> dict[str, Any]:
    """Read a file of TOML, or of YAML by the ending of its name.

    Values by key; of YAML whatever it holds.
    """
    import tomllib

    from yaml import YAMLError, safe_load

    from bids_sr.io.atomic_files import read_text

    form, parse = ("YAML", safe_load) if path.suffix in yaml else ("TOML", tomllib.loads)
    try:
        return parse(read_text(path).replace("\r\n", "\n"))
    except OSError as error:
        why = f"the file cannot be read: {error.strerror}"
        fix = "check the path"
        raise UsageError(f"{what} {path}", why, fix) from error
    except (ValueError, RecursionError, YAMLError) as error:
        why = f"the file is not valid {form}: {error}"
        fix = "correct the line that is mentioned in this message"
        raise UsageError(f"{what} {path}", why, fix) from error


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the known name closest to `name`, or an empty string.

    >>> nearest_name("--smoth", ["--smoothing", "--strict"])
    "did you mean '--smoothing'?"
    >>> nearest_name("--run", ["--run-id", "--truth"])
    "did you mean '--run-id'?"
    >>> nearest_name("precentrla", ["Heschl_L", "Precentral_L"])
    "did you mean 'Precentral_L'?"
    >>> nearest_name("--notrack", ["--force", "--truth"])
    ''

    Question to the user, or an empty text.
    """
    word = name.lstrip("-").lower()
    bare = {each.lstrip("-").lower(): each for each in known}
    part = [
        each
        for each in bare
        if len(word) > 2 and (each.startswith(word) or each.endswith((f".{word}", f"-{word}")))
    ]
    close = part
    if len(part) != 1:
        from difflib import get_close_matches

        close = get_close_matches(word, list(bare), n=1, cutoff=_CLOSE)
    return f"did you mean {bare[close[0]]!r}?" if close else ""


def as_annotated(value: object, hint: object, where: str) -> object:
    """Return `value` as the annotation `hint` asks for.

    A list becomes a tuple, a number a tuple of one number, text a path, an integer a float, a
    mapping an object of a class where that is meant; the word ``none`` stands for a number that is
    not set. Raises `UsageError`, naming `where`, if the value is nothing of the kind.
    """
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):  # the latter where a Literal is one of the two
        inner = next(arg for arg in args if arg is not type(None))
        if value is None or (value == "none" and inner in (int, float)):
            return None
        return as_annotated(value, inner, where)
    if origin is Literal:
        if value in args:
            return value
        fix = nearest_name(str(value), map(str, args)) or "choose one of these values"
        raise SettingError(
            where, repr(value), f"the value must be one of {', '.join(map(str, args))}", fix
        )
    if isinstance(value, dict) and isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint(**value)
    if hint is RecipeChange and isinstance(value, str):
        try:
            return RecipeChange.from_text(value)
        except ChangeError as error:
            raise SettingError(where, value, error.why, error.fix) from None
    if origin is tuple:
        if args[0] is float and isinstance(value, int | float):
            value = (value,)
        if isinstance(value, list | tuple):
            return tuple(as_annotated(item, args[0], where) for item in value)
    elif hint is Path:
        if isinstance(value, str | Path):
            return Path(value)
    elif hint is float:
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= _LARGEST
        ):
            return float(value)
    elif (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool or not isinstance(value, bool))
    ):
        return value
    kind = getattr(hint, "__name__", str(hint)) if origin is None else "list"
    raise SettingError(where, repr(value), f"expected a value of type {kind}", "change the value")


def as_toml(value: object) -> str:
    """Write one value as TOML. JSON escapes strings as TOML does, but for the delete character."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def split_named(text: str) -> tuple[str, str]:
    """Split an option's ``NAME=VALUE`` into name and value.

    The name is "" where there is none, as in a path that holds ``=``.

    >>> split_named("fmriprep=out"), split_named("./a=b"), split_named("tap-rest=map.nii.gz")
    (('fmriprep', 'out'), ('', './a=b'), ('tap-rest', 'map.nii.gz'))
    """
    name, equals, value = text.partition("=")
    return (name.strip(), value) if equals and name.strip() and "/" not in name else ("", text)


_T = TypeVar("_T")


@frozen
class _Option:
    """What is known of a setting besides its default and its type."""

    # with the name of the value, as they stand in the help; the name alone is a positional
    # argument; none: no option fills it
    flags: str = ""
    help: str = ""
    common: bool = False  # whether --help shows it; --help-all shows all
    decides: bool = True  # whether a result depends on it
    # whether it belongs to one call, and is not taken from an older settings file
    once: bool = False
    # the heading under which it stands in the help, where that is not its group's
    among: str = ""
    # bounds of a number, or of each of several
    above: float | None = None
    least: float | None = None
    most: float | None = None
    # to `argparse`, beyond what the type of the setting tells
    how: Mapping[str, object] = field(default_factory=dict)


def _documented(help: str) -> dict[str, object]:
    """The metadata by which a help text stands in the docstring of its class."""
    return {"doc": f"{help[0].upper()}{help[1:]}."} if help else {}


def option(
    default: _T,
    flags: str = "",
    help: str = "",
    *,
    common: bool = False,
    decides: bool = True,
    once: bool = False,
    among: str = "",
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    **how: object,
) -> _T:
    """A field of a group of settings: its default, and what `_Option` says of it.

    Parameters
    ----------
    default : T
        Value where the user gives none.
    flags : str, optional
        Flags with the name of the value; empty for no option.
    help : str, optional
        Text of the help for the option.
    common : bool, optional
        Whether ``--help`` shows it, and not ``--help-all`` alone.
    decides : bool, optional
        Whether a result depends on it.
    once : bool, optional
        Whether it is of one call, and never taken from older settings.
    among : str, optional
        Group of options it stands with in the help; empty for its own.
    above : float | None, optional
        Bound that a number has to exceed; None for none.
    least : float | None, optional
        Smallest number that is allowed; None for any.
    most : float | None, optional
        Largest number that is allowed; None for any.
    **how : object
        Further arguments for the option's declaration in argparse.

    Returns
    -------
    T
        Field of a dataclass, with all this in its metadata.
    """
    metadata = _Option(
        flags=flags,
        help=help,
        common=common,
        decides=decides,
        once=once,
        among=among,
        above=above,
        least=least,
        most=most,
        how=how,
    )
    return field(default=default, metadata={"option": metadata} | _documented(help))


def argument(flags: str, help: str, **how: object) -> Any:
    """A field without a default: a positional argument, or an option that has to be given."""
    return field(
        metadata={"option": _Option(flags=flags, help=help, decides=False, once=True, how=how)}
        | _documented(help)
    )


def option_of(item: "Field[Any]") -> _Option:
    """What `option` said of a field."""
    found: _Option = item.metadata["option"]
    return found


class Checked:
    """Base class of options, which converts values to their annotated types and checks them."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            self._set(name, as_annotated(getattr(self, name), hint, self._where(name)))
        for item in fields(self):  # type: ignore[arg-type]  # all are dataclasses
            if "option" in item.metadata:
                self._check_bounds(item.name, option_of(item))
        self._check()

    def _where(self, name: str) -> str:
        """A setting as messages name it."""
        return f"{type(self).__name__.lower()}.{name}"

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # only while the object is being made

    def _check(self) -> None:
        """Refuse values that have the right type and still cannot hold."""

    def _need(self, holds: bool, name: str, why: str) -> None:
        if not holds:
            value = getattr(self, name)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            known = option_of(next(item for item in fields(self) if item.name == name))  # type: ignore[arg-type]
            fix = "change that value"
            if known.flags:
                fix = (
                    f"change the value. {known.flags} accepts: {known.help}. See also bids-sr"
                    " --help-all"
                )
            raise SettingError(self._where(name), shown, why, fix)

    def _check_bounds(self, name: str, known: _Option) -> None:
        value = getattr(self, name)
        numbers = value if isinstance(value, tuple) else (value,)
        for word, bound, holds in (
            ("a value above", known.above, operator.gt),
            ("at least", known.least, operator.ge),
            ("at most", known.most, operator.le),
        ):
            if bound is not None and value is not None:
                within = all(holds(number, bound) for number in numbers)
                self._need(within, name, f"expected {word} {bound}")

    def _each_once(self, *names: str) -> None:
        for name in names:
            self._set(name, tuple(dict.fromkeys(getattr(self, name))))


def is_label(text: str) -> bool:
    """Whether a text is a label of BIDS: letters, digits and ``+``.

    False also for an empty text.
    """
    return text.isascii() and text.replace("+", "0").isalnum()


# sigma 1.5, read as mm or as 3.75 mm pixels, as full width at half maximum
_PAPER_SMOOTHING_MM = (3.5, 13.2)
_GIGABYTES = {"k": 1 / 2**20, "m": 1 / 2**10, "g": 1.0, "t": 2.0**10}


def gigabytes(text: str, unit: str = "g") -> float:
    """Read a size of memory in GB.

    Examples are ``8``, ``8G``, ``1.5 GB``, ``512M`` and ``2000MiB``.

    >>> gigabytes("512M"), gigabytes("512", "m"), gigabytes("8G", "m")
    (0.5, 0.5, 8.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(?:i?b)?)?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a memory size. Specify for example 8, 8G or 512M."
        )
    size = float(match[1]) * _GIGABYTES[match[2] or unit]
    if size > 2000 and not match[2]:  # such a number is one of MB
        raise argparse.ArgumentTypeError(
            f"{text} would be interpreted as {size:g} GB. Specify {text}M or {text}G instead."
        )
    return size


class Memory(argparse.Action):
    """Store a size of memory in GB; the option's name tells the unit of a bare number."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        unit = "m" if option_string == "--mem-mb" else "g"
        try:
            setattr(namespace, self.dest, gigabytes(str(values), unit))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error


def labels(text: str) -> tuple[str, ...]:
    """Read labels that are separated by commas or spaces; ``@FILE`` is read from a file.

    Of a table, such as ``participants.tsv``, the first column counts.

    >>> labels("sub-01,sub-02"), labels("01 02")
    (('sub-01', 'sub-02'), ('01', '02'))
    """
    listed = text
    if text.startswith("@"):
        try:
            table = Path(text[1:]).expanduser().read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise argparse.ArgumentTypeError(
                f"the file {text[1:]} cannot be read: {error}"
            ) from error
        mark = "," if table.startswith("participant_id,") else "\t"
        listed = " ".join(line.partition(mark)[0] for line in table.splitlines())
    found = re.findall(r"[^\s,]+", listed.removeprefix("participant_id"))
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} does not contain any labels. To process all participants, omit the option."
        )
    return tuple(found)


def path(text: str) -> Path:
    """Read a path, refusing an empty one.

    An empty path, as from an unset shell variable, would mean the current directory.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path must not be empty")
    return Path(text)


def folder(text: str) -> str:
    """Read a folder, or a word such as ``auto``, as it is written.

    ``./auto`` is a folder and not the word.

    Same text, not empty.
    """
    path(text)
    return text


def named_file(text: str) -> str:
    """Read ``NAME=FILE`` or ``NAME=DIR``; both are needed."""
    name, where = split_named(text)
    if not name or not where.strip():
        raise argparse.ArgumentTypeError(
            f"{text!r} does not have the form NAME=PATH, such as NORDIC=PATH"
        )
    return text


def run_number(text: str) -> int:
    """Read the number of a run: ``1``, ``01``, ``run-01``."""
    digits = text.removeprefix("run-")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a run number. Specify for example 1 or run-1."
        )
    return int(digits)


def _number(text: str, otherwise: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {otherwise}") from None


def widths(text: str) -> tuple[float, ...]:
    """Read a smoothing width: mm FWHM, or ``paper`` for the two readings of the paper's sigma."""
    return (
        _PAPER_SMOOTHING_MM
        if text == "paper"
        else (_number(text, "number of millimeters (FWHM) or the word paper"),)
    )


def fraction(text: str) -> float:
    """Read a fraction, or ``start`` or ``middle``."""
    words = {"start": 0.0, "middle": 0.5}
    return (
        words[text] if text in words else _number(text, "number, and is neither start nor middle")
    )


def frequency(text: str) -> float | None:
    """Read a cut-off in Hz; ``none`` switches the filter off."""
    return None if text == "none" else _number(text, "frequency in Hz or the word none")


Level = Literal["minimal", "standard", "full"]
_LEVELS: tuple[Level, ...] = get_args(Level)
"""From the fewest files to the most."""
SMOOTHING, THRESHOLDS = (0.0, 5.0), ("quarter", "fdr")
"""Widths (mm FWHM) and thresholds that nobody named."""
_CORRELATED, _FITTED, _GROUP = ("cc",), ("t", "effect", "variance"), ("t", "effect")


def reaches(asked: Level, least: Level) -> bool:
    """Whether what is stored from one level up is stored at the level that was asked for."""
    return _LEVELS.index(asked) >= _LEVELS.index(least)


def series_level(name: str, asked_for: Collection[str]) -> Level:
    """The smallest level at which a series is stored.

    The acquired one and those of the methods always; baselines and the measured one can be made
    again. `asked_for`: names of the methods and baselines that were asked for.
    """
    can_be_made_again = name == MEASURED or (name in BASELINES and name not in asked_for)
    return "full" if can_be_made_again else "minimal"


def _maps_level(name: str, asked_for: Collection[str], baselines: str) -> Level:
    """The smallest level at which maps of a series are stored; `baselines` as of the settings."""
    always = name in (RAW, MEASURED, "bspline") or name not in BASELINES
    return "standard" if always or name in asked_for or baselines != "default" else "full"


@frozen
class _Stored:
    """Maps by statistic and regions by threshold (as in the settings) stored at one smoothing."""

    stats: Sequence[str] = ()
    thresholds: Sequence[str] = ()


@frozen
class StoredMaps:
    """Settings that decide which maps become files.

    The fields are named as the settings; `methods` includes the named baselines.

    `baselines`: which baselines are compared: ``default`` or ``all``. `kinds`: maps to make:
    ``cc`` (correlation), ``glm`` (linear model), or both. `correlation`: whether correlation is
    stored beside the linear model at the standard level. `minus_others`: contrasts that nobody
    asked for, stored of the acquired and the primary series alone at the standard level.
    """

    level: Level
    methods: Collection[str] = ()
    baselines: str = "default"
    smoothing: Sequence[float] = SMOOTHING
    thresholds: Sequence[str] = THRESHOLDS
    kinds: Sequence[str] = ("cc", "glm")
    correlation: bool = False
    primary: str = ""
    minus_others: Collection[str] = ()

    def of(self, series: str) -> Mapping[float, _Stored]:
        """What is stored of every contrast of a series, by FWHM (mm).

        Full: everything. Standard: t, effect and its variance (not of baselines) at the smallest
        width, t and effect, which the group level reads, at the smallest width above 0.
        Correlation, with the region of the first threshold, is stored where nothing else is mapped
        or `correlation` says so. Widths that were named get what the smallest gets, and thresholds
        that were named have their regions.
        """
        if not reaches(
            self.level, _maps_level(series, series_names(self.methods), self.baselines)
        ):
            return {}
        correlated, fitted = "cc" in self.kinds, "glm" in self.kinds
        every = (*(_CORRELATED if correlated else ()), *((*_FITTED, "z") if fitted else ()))
        possible = [
            each for each in self.thresholds if (correlated if each == "quarter" else fitted)
        ]
        if self.level == "full":
            return {width: _Stored(stats=every, thresholds=possible) for width in self.smoothing}
        can_be_made_again = series_level(series, series_names(self.methods)) == "full"
        least_fitted = _GROUP if can_be_made_again else _FITTED
        correlated = correlated and (self.correlation or not fitted)
        unnamed = possible[:1] if correlated else ()
        most = _Stored(
            stats=[*(_CORRELATED if correlated else ()), *(least_fitted if fitted else ())],
            thresholds=unnamed if tuple(self.thresholds) == THRESHOLDS else possible,
        )
        if tuple(sorted(self.smoothing)) != SMOOTHING:
            return dict.fromkeys(self.smoothing, most)
        least, above = sorted(self.smoothing)
        return {least: most, above: _Stored(stats=_GROUP if fitted else _CORRELATED)}

    def leaves_out(self, series: str) -> Collection[str]:
        """Return the contrasts of which nothing is stored of a series."""
        every = self.level == "full" or series in (RAW, self.primary)
        return () if every else self.minus_others

    def holds(self, series: str, contrast: str, fwhm_mm: float, stat: str) -> bool:
        """Whether the map of a contrast and statistic is stored of a series at one smoothing."""
        return contrast not in self.leaves_out(series) and any(
            stat in own.stats
            for width, own in self.of(series).items()
            if round(10 * (width - fwhm_mm)) == 0
        )
