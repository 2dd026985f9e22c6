"""Contrasts: weights of trial types in each named comparison.

Preflight resolves the contrasts of every run before processing starts, and the activation stage
uses the result. A misspelled name is therefore rejected early, and contrasts have the same meaning
everywhere.
"""

import difflib
import hashlib
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from itertools import chain, combinations, count

from bids_sr.io.contrast_names import WITHOUT
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError
from bids_sr.io.tables import MISSING_MARKS, is_missing

REST_TYPES = frozenset({"rest", "baseline", "fixation"})
"""Lower-case trial types that belong to the implicit baseline and have no regressor."""

# words of trial types that may be pauses; they have regressors, because they can be conditions
_PAUSE_WORDS = REST_TYPES | {"fix", "iti", "isi", "null", "off", "pause", "break", "blank"}

MODULATION = "modulation"
"""Column of events tables with the amplitude of each event, as in nilearn."""

UNNAMED = "task"
"""Trial type of all rows if the table has no column ``trial_type``, which is optional in BIDS."""

MAX_TYPES_FOR_PAIRS, MAX_TYPES_FOR_OTHERS = 3, 8
"""Largest numbers of trial types for two kinds of default contrasts.

Up to the first number, all pairs of types are compared; up to the second number, each type is
compared with the mean of the others.
"""

Contrast = dict[str, float]
"""Weight of each trial type; other types have weight 0."""
Contrasts = Mapping[str, Mapping[str, float]]
"""Weights of conditions, or of seeds, by contrast."""


@frozen
class Term:
    """Term of a requested contrast: a trial type, or the mean of all types, with its weight.

    `trial_type` is `ALL` for the mean. `runs` are the entities of the runs that it is from, such
    as ``ses-pre_run-1``; "" for the run itself.
    """

    trial_type: str
    weight: float
    runs: str = ""


@frozen
class ContrastOverRuns:
    """Requested contrast with terms of several runs, such as ``thumb@ses-2 - thumb@ses-1``."""

    request: str
    name: str
    terms: Sequence[Term]


ComparableWeights = tuple[tuple[str, float], ...]
"""Trial types with their weights, rounded and sorted by name."""

ALL = "all"
"""Name of the contrast of the mean of all trial types."""
DEFAULTS = "defaults"
"""Request for the default contrasts, beside other requested contrasts."""
ALL_TYPE = "typeAll"
"""Name of the contrast of a trial type that is called ``all``."""

_MAX_LABEL_LENGTH = 80  # characters, because labels are part of file names
_CHECKSUM_LENGTH = 8  # characters
_LARGEST_AMPLITUDE = 1e6  # of events, and the inverse of the smallest
_MIN_SIMILARITY = 0.75  # ratio of difflib between an unknown name and a suggested name
_NUMBER_SIGNS = {"+": "plus", "-": "minus"}
_SYMBOLS = {
    "+": "plusSign",
    "-": "minusSign",
    "%": "percent",
    "<": "less",
    ">": "greater",
    "=": "equal",
    "*": "star",
    "?": "question",
    "!": "exclamation",
    "#": "number",
    "&": "and",
    "@": "at",
    "/": "slash",
    "~": "tilde",
    ".": "dot",
    "_": "underscore",
}
_NUMBER_SIGN = r"(?:^|(?<=[\s(,;:]))[+-](?=\d)"  # other signs are hyphens or joins
_NUMBER_PATTERN = re.compile(rf"((?:{_NUMBER_SIGN})?\d+(?:\.\d+)?)")
_NAME_PATTERN = re.compile(r"^\s*([A-Za-z0-9]+)\s*=\s*(.+)$")
_WEIGHT_PATTERN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*\*\s*")
_SIGN_PATTERN = re.compile(r"\s*([+-])\s*")
_ENTITY = "[A-Za-z]+-[A-Za-z0-9]+"
_TERM_END_PATTERN = re.compile(rf"(?:@({_ENTITY}(?:_{_ENTITY})*))?(?=\s*(?:[+-]|\Z))")
_UNKNOWN_TERM_PATTERN = re.compile(r"\s*([^+*\-\s]+)")


def list_modeled_types(column: Iterable[object], levels: Collection[str] = ()) -> tuple[str, ...]:
    """Return the trial types with a regressor, in order of first appearance.

    Rest and missing values are skipped. `levels` are the types in ``Levels`` of the events table,
    which count as types even if their text is in `MISSING_MARKS`.

    >>> list_modeled_types(["go", "NA", "Rest", None, "None"], levels=["None"])
    ('go', 'None')
    """
    names = dict.fromkeys("" if value is None else str(value).strip() for value in column)
    return tuple(
        name
        for name in names
        if name.lower() not in REST_TYPES and not is_missing_type(name, levels)
    )


def is_pause(name: str) -> bool:
    """Return whether the name of a trial type says that it is a pause.

    >>> [is_pause(name) for name in ("fix", "rest_block", "fixation cross", "forest", "0-back")]
    [True, True, True, False, False]
    """
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return bool(_PAUSE_WORDS & {*words})


def requires_type(
    request: str | tuple[str, Contrast], name: str, trial_types: Sequence[str]
) -> bool:
    """Return whether a requested contrast can be resolved, but not without a trial type.

    >>> [requires_type(text, "fix", ["go", "fix"]) for text in ("go", "go-fix", "all", "stop")]
    [False, True, False, False]
    """
    other_types = [other for other in trial_types if other != name]
    return is_possible(request, trial_types) and not is_possible(request, other_types)


def is_possible(request: str | tuple[str, Contrast], trial_types: Sequence[str]) -> bool:
    """Return whether a requested contrast can be computed from trial types."""
    try:
        resolve_contrasts(trial_types, [request])
    except UsageError:
        return False
    return True


def is_missing_type(name: str, levels: Collection[str] = ()) -> bool:
    """Return whether a text in the column trial_type is a missing value, and not a type.

    `levels` is as in `list_modeled_types`.
    """
    return is_missing(name) and (name not in levels or name not in MISSING_MARKS)


def list_levels(metadata: Mapping[str, object]) -> tuple[str, ...]:
    """Return the trial types in ``Levels`` of the metadata of events; () if they do not exist."""
    description = metadata.get("trial_type")
    levels = description.get("Levels") if isinstance(description, dict) else None
    return tuple(name.strip() for name in levels) if isinstance(levels, dict) else ()


def order_types(types: Iterable[str], levels: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the distinct trial types in the order of default contrasts and of their signs.

    Types in `levels` come first, in this order. The other types follow in alphabetical order,
    which ignores case and accents and sorts numbers by value. Types that differ only in case or
    accents are sorted by character code. The order depends neither on the order of `types` nor on
    the language of the system.

    `levels` are types in the order of ``Levels``, which applies to all runs, so that it may
    contain types that a run does not have.

    >>> order_types(["go 10", "Stop", "go 2", "-1", "1", "cue"], levels=["miss", "cue"])
    ('cue', '-1', '1', 'go 2', 'go 10', 'Stop')
    """
    positions = {name: position for position, name in enumerate(dict.fromkeys(levels))}
    return tuple(
        sorted(
            set(types),
            key=lambda name: (positions.get(name, len(positions)), _make_sort_key(name)),
        )
    )


@lru_cache(maxsize=1024)
def _make_sort_key(name: str) -> tuple[tuple[str | Decimal, ...], str]:
    """Return the key of a trial type in alphabetical order, see `order_types`.

    Texts and numbers alternate, so that equal positions in two keys have the same type.
    """
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    text = "".join(character for character in decomposed if not unicodedata.combining(character))
    parts = _NUMBER_PATTERN.split(text)
    return tuple(Decimal(part) if index % 2 else part for index, part in enumerate(parts)), name


def read_modulation(
    trial_types: Sequence[str], cells: Sequence[str | None]
) -> tuple[list[float], str]:
    """Return the amplitude of each event from the column ``modulation``, as nilearn uses it.

    The amplitudes of a trial type without any value (``n/a``) are 1. All amplitudes are 1 if the
    column cannot be used.

    `cells` contains the cell of each event, which is None if the table does not have the column.
    Returns amplitudes, and the reason why the column cannot be used, which is "" if it is used or
    missing.

    >>> read_modulation(["go", "go", "stop"], ["2", "1.5", "n/a"])
    ([2.0, 1.5, 1.0], '')
    >>> read_modulation(["go", "go"], ["2", "high"])
    ([1.0, 1.0], "the modulation of an event of type 'go' is not a number, but 'high'")
    """
    default_amplitudes = [1.0] * len(trial_types)
    cell_texts = [(cell or "").strip() for cell in cells]
    modulated_types = {
        name
        for name, cell_text in zip(trial_types, cell_texts, strict=True)
        if not is_missing(cell_text)
    }
    amplitudes = []
    for name, cell_text in zip(trial_types, cell_texts, strict=True):
        amplitude = parse_seconds(cell_text) if name in modulated_types else 1.0
        if amplitude is None:
            reason = (
                f"the modulation of an event of type {name!r} is not a number, but {cell_text!r}"
            )
            return default_amplitudes, reason
        if amplitude and not 1 / _LARGEST_AMPLITUDE <= abs(amplitude) <= _LARGEST_AMPLITUDE:
            reason = (
                f"the modulation of an event of type {name!r} is {cell_text}, but must be 0 or"
                f" between {1 / _LARGEST_AMPLITUDE:g} and {_LARGEST_AMPLITUDE:g}"
            )
            return default_amplitudes, reason
        amplitudes.append(amplitude)
    return amplitudes, ""


def find_unmodulated_types(
    trial_types: Sequence[str], amplitudes: Sequence[float]
) -> tuple[str, ...]:
    """Return the trial types whose events all have amplitude 0, in order of first appearance.

    Both sequences have one value per event.

    >>> find_unmodulated_types(["go", "stop", "go"], [0.0, 1.0, 0.0])
    ('go',)
    """
    modulated_types = {name for name, value in zip(trial_types, amplitudes, strict=True) if value}
    return tuple(dict.fromkeys(name for name in trial_types if name not in modulated_types))


def parse_seconds(text: str | None) -> float | None:
    """Return a time of an events table; None if the text is not a finite number.

    >>> parse_seconds("12.5"), parse_seconds("n/a"), parse_seconds("inf")
    (12.5, None, None)
    """
    if "_" in (text or ""):  # a separator of digits in Python only
        return None
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def resolve_contrasts(
    trial_types: Sequence[str],
    requested: Sequence[str | tuple[str, Contrast]] = (),
    *,
    described_types: Sequence[str] | None = None,
    averaged_types: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Contrast]:
    """Return the weights of every contrast of a run by name, in the order requested.

    `requested` contains names with weights, or texts such as ``thumb``, ``thumb-little``,
    ``thumb+little``, ``name=0.5*thumb-0.5*little``, and ``all`` (mean of all types). Terms without
    a factor have weight 1. If `requested` is empty, `_default_contrasts` are used.
    `described_types` have default contrasts, and `averaged_types` are in the mean ``all``; None
    for all types. `labels` are of the trial types of all runs; None for `label_types` of this run.

    Raises `UsageError` if a term is not a trial type (the closest is suggested), or if the text
    cannot be parsed.
    """
    labels = label_types(trial_types) if labels is None else labels
    if not requested:
        return _default_contrasts(trial_types, described_types, averaged_types, labels)
    averaged_types = trial_types if averaged_types is None else averaged_types
    resolved: dict[str, Contrast] = {}
    for request in requested:
        if isinstance(request, str):
            name, weights = _parse_contrast(request, trial_types, averaged_types, labels)
        else:
            name, weights = request
            label_by_name = {
                camel_case(trial_type): label
                for trial_type, label in labels.items()
                if weights == {trial_type: 1.0}
            }
            name = label_by_name.get(name, name)
        if unknown := weights.keys() - set(trial_types):
            raise _explain_unknown_term(name, min(unknown), 0, trial_types)
        if weights not in resolved.values():
            resolved[make_unique_label(name, resolved)] = weights
    return resolved


def label_types(types: Iterable[str]) -> dict[str, str]:
    """Return a label for file names by trial type.

    Labels are distinct on file systems that ignore case. A type keeps its label of `camel_case`
    unless an earlier type has it. Among several types, a type called ``all`` is `ALL_TYPE`,
    because `ALL` is the mean of all types.

    >>> list(label_types(["Thumb", "thumb", "go_left", "goleft", "thumb 2"]).values())
    ['Thumb', 'thumb3', 'goLeft', 'goleft2', 'thumb2']
    """
    plain_labels = {name: camel_case(name) for name in types}
    if len(plain_labels) > 1:
        for name, label in plain_labels.items():
            if label.lower() == ALL:
                plain_labels[name] = ALL_TYPE
    earliest: dict[str, str] = {}
    for name, label in plain_labels.items():
        earliest.setdefault(label.lower(), name)
    labels: dict[str, str] = {}
    for name, label in plain_labels.items():
        others = (
            () if earliest[label.lower()] == name else (*plain_labels.values(), *labels.values())
        )
        labels[name] = make_unique_label(label, others)
    return labels


def _default_contrasts(
    trial_types: Sequence[str],
    described_types: Sequence[str] | None,
    averaged_types: Sequence[str] | None,
    labels: Mapping[str, str],
) -> dict[str, Contrast]:
    """Return each trial type against rest, the mean of all types (``all``), and comparisons.

    Two or three types are compared in pairs, the first minus the second. For four to eight types,
    each is compared with the mean of the others. There are no comparisons of more types. Labels
    do not depend on the types that are left out.

    `described_types` are the types with their own contrasts, and `averaged_types` the types in
    means. By default, these are all types. `labels` are labels by trial type.
    """
    described_types = trial_types if described_types is None else described_types
    averaged_types = described_types if averaged_types is None else averaged_types
    defaults = {
        labels[name]: {name: 1.0} for name in dict.fromkeys(trial_types) if name in described_types
    }
    if len(averaged_types) > 1:
        mean = dict.fromkeys(averaged_types, 1.0 / len(averaged_types))
        defaults[make_unique_label(ALL, defaults)] = mean
    for label, weights in _iterate_comparisons(described_types, averaged_types, labels):
        defaults[make_unique_label(label, defaults)] = weights
    return defaults


def _iterate_comparisons(
    described_types: Sequence[str], averaged_types: Sequence[str], labels: Mapping[str, str]
) -> Iterator[tuple[str, Contrast]]:
    """Yield name and weights of default comparisons between types, see `_default_contrasts`.

    The names differ from all labels of types.
    """
    if len(described_types) <= MAX_TYPES_FOR_PAIRS:
        for positive_type, negative_type in combinations(described_types, 2):
            name = f"{labels[positive_type]}Minus{_capitalize(labels[negative_type])}"
            yield (
                make_unique_label(name, labels.values()),
                {positive_type: 1.0, negative_type: -1.0},
            )
    elif len(described_types) <= MAX_TYPES_FOR_OTHERS:
        for trial_type in described_types:
            other_types = [name for name in averaged_types if name != trial_type]
            if other_types:
                weights = dict.fromkeys(other_types, -1.0 / len(other_types))
                name = make_unique_label(f"{labels[trial_type]}MinusOthers", labels.values())
                yield name, weights | {trial_type: 1.0}


def _parse_contrast(
    text: str,
    trial_types: Sequence[str],
    averaged_types: Sequence[str],
    labels: Mapping[str, str],
) -> tuple[str, Contrast]:
    """Parse the text of a requested contrast; return its name and weights.

    The parameters and errors are as in `resolve_contrasts`.
    """
    expression = text.strip()
    # A trial type may contain a minus, plus or equals sign.
    if expression in trial_types and (expression != ALL or len(trial_types) == 1):
        return labels[expression], {expression: 1.0}
    requested_name, body = _split_name(expression, trial_types)
    if body.strip() == ALL and trial_types:
        weights = {name: 1.0 / len(averaged_types) for name in averaged_types}
        return requested_name or ALL, weights
    if body.strip() == ALL_TYPE and ALL in trial_types and ALL_TYPE not in trial_types:
        return requested_name or labels[ALL], {ALL: 1.0}
    terms = _parse_terms(text, body, trial_types)
    if any(term.runs for term in terms):
        raise UsageError(
            f"contrast {text!r}",
            "the contrast has terms of other runs, but a single run is analyzed",
            "Specify trial types without `@`.",
        )
    weights = weigh_terms(terms, averaged_types)
    if not any(weights.values()):
        raise UsageError(
            f"contrast {text!r}",
            "all weights of the contrast are zero",
            "Specify at least one nonzero weight, for example `thumb-little`.",
        )
    return requested_name or name_terms(terms, labels), weights


def parse_over_runs(
    text: str, trial_types: Sequence[str], labels: Mapping[str, str]
) -> ContrastOverRuns | None:
    """Parse a requested contrast with terms of several runs; None if it is not such a contrast.

    `trial_types` are those of all runs, and `labels` their labels.

    >>> parse_over_runs("go@run-2 - go@run-1", ["go"], {"go": "go"}).name
    'goRun2MinusGoRun1'
    """
    requested_name, body = _split_name(text.strip(), trial_types)
    if body in trial_types:
        return None
    try:
        terms = _parse_terms(text, body, trial_types)
    except UsageError:  # refused as a contrast of one run
        return None
    if not any(term.runs for term in terms):
        return None
    name = requested_name or name_terms(terms, labels)
    return ContrastOverRuns(request=text, name=name, terms=terms)


def weigh_terms(terms: Iterable[Term], averaged_types: Sequence[str]) -> Contrast:
    """Return the weights of the trial types of a sum of terms, whatever runs they are from.

    >>> weigh_terms([Term(trial_type="all", weight=1.0)], ["a", "b"])
    {'a': 0.5, 'b': 0.5}
    """
    weights: Contrast = {}
    for term in terms:
        is_mean = term.trial_type == ALL and ALL not in averaged_types
        types = averaged_types if is_mean else [term.trial_type]
        for name in types:
            weights[name] = weights.get(name, 0.0) + term.weight / len(types)
    return weights


def find_written_name(text: str, trial_types: Sequence[str]) -> str:
    """Return the name that the user wrote before a contrast, such as ``name=a-b``; "" if none.

    A trial type may contain an equals sign.
    """
    expression = text.strip()
    return "" if expression in trial_types else _split_name(expression, trial_types)[0]


def _split_name(expression: str, trial_types: Sequence[str]) -> tuple[str, str]:
    """Return the requested name of a contrast, "" if it has none, and the text without it."""
    name_match = _NAME_PATTERN.match(expression)
    if name_match is None or _find_term(expression, 0, trial_types):
        return "", expression
    return name_match[1], name_match[2]


def _parse_terms(text: str, body: str, trial_types: Sequence[str]) -> list[Term]:
    """Parse the terms of a contrast.

    `text` is the requested contrast, for messages, and `body` the text without the name.
    """
    terms: list[Term] = []
    position = 0
    while position < len(body.rstrip()):
        sign = None
        # The first type may begin with a sign.
        if terms or not _find_term(body, position, trial_types):
            sign = _SIGN_PATTERN.match(body, position)
        if sign is None and terms:
            raise UsageError(
                f"contrast {text!r}",
                f"a `+` or `-` sign is missing before {body[position:]!r}",
                "Join the terms of the contrast with `+` or `-`.",
            )
        position = sign.end() if sign else position
        factor, term = 1.0, _find_term(body, position, trial_types)
        if not term and (weight := _WEIGHT_PATTERN.match(body, position)):
            factor, position = float(weight.group(1)), weight.end()
            term = _find_term(body, position, trial_types)
        if not term:
            raise _explain_unknown_term(text, body, position, trial_types)
        found, position = term
        is_negative = sign is not None and sign.group(1) == "-"
        terms.append(replace(found, weight=-factor if is_negative else factor))
    if not terms:
        raise UsageError(
            f"contrast {text!r}",
            "the contrast contains no trial types",
            f"Choose one of {', '.join(trial_types)}.",
        )
    return terms


def _find_term(body: str, position: int, trial_types: Sequence[str]) -> tuple[Term, int] | None:
    """Return the term with the longest trial type at a position, and the position of its end.

    The trial type may be in quotation marks, and followed by ``@`` and entities of runs. A sign or
    the end of the text must follow. None if there is no such term.
    """
    names = {text: name for name in trial_types for text in (name, f"'{name}'")}
    if trial_types:
        names.setdefault(ALL, ALL)
    for text in sorted(names, key=len, reverse=True):
        if body.startswith(text, position) and (
            end := _TERM_END_PATTERN.match(body, position + len(text))
        ):
            return Term(trial_type=names[text], weight=1.0, runs=end[1] or ""), end.end()
    return None


def _explain_unknown_term(
    text: str, body: str, position: int, trial_types: Sequence[str]
) -> UsageError:
    """Return the error for a position of a contrast without a trial type."""
    term_match = _UNKNOWN_TERM_PATTERN.match(body, position)
    if term_match is None:
        return UsageError(
            f"contrast {text!r}",
            "a trial type is missing",
            "Specify trial types joined with `+` or `-`, for example `thumb-little`.",
        )
    name = term_match.group(1)
    if name in trial_types:
        return UsageError(
            f"contrast {text!r}",
            f"a `+` or `-` sign is missing after {name!r}",
            "Join the terms of the contrast with `+` or `-`.",
        )
    trial_type, at, _ = name.partition("@")
    if at and trial_type in (*trial_types, ALL):
        return UsageError(
            f"contrast {text!r}",
            f"{trial_type}@ is not followed by entities of runs",
            f"Write them as in file names, such as `{trial_type}@ses-post` or"
            f" `{trial_type}@ses-post_run-1`.",
        )
    suggestion = _suggest_name(name, trial_types) or _suggest_name(trial_type, trial_types)
    available_types = (
        f"The trial types of this run are {', '.join(trial_types)}."
        if trial_types
        else "This run has no trial types."
    )
    return UsageError(
        f"contrast {text!r}",
        f"{name!r} is not a trial type of this run",
        " ".join(filter(None, [available_types, suggestion])),
    )


def _suggest_name(unknown_name: str, names: Iterable[str]) -> str:
    """Return a sentence that proposes the closest known name, or "" if no name is close."""
    names_by_lower_case = {name.lower(): name for name in names}
    matches = difflib.get_close_matches(
        unknown_name.lower(), list(names_by_lower_case), n=1, cutoff=_MIN_SIMILARITY
    )
    return f"Did you mean {names_by_lower_case[matches[0]]!r}?" if matches else ""


def name_terms(terms: Sequence[Term], labels: Mapping[str, str]) -> str:
    """Return the name of a contrast without a requested name, such as ``thumbMinusLittle``.

    Only the contrast of a single type has the label of a type.
    """
    words = [_label_term(term, labels) for term in terms]
    first_word = words[0] if terms[0].weight > 0 else f"minus{_capitalize(words[0])}"
    other_words = (
        f"{'Plus' if term.weight > 0 else 'Minus'}{_capitalize(word)}"
        for term, word in zip(terms[1:], words[1:], strict=True)
    )
    name = "".join([first_word, *other_words])
    is_type = not terms[0].runs and name == labels.get(terms[0].trial_type)
    return name if is_type else make_unique_label(name, labels.values())


def _label_term(term: Term, labels: Mapping[str, str]) -> str:
    """Return the label of the trial type of a term, followed by its runs."""
    words = re.findall("[A-Za-z0-9]+", term.runs)
    return labels.get(term.trial_type, ALL) + "".join(map(_capitalize, words))


def make_unique_label(name: str, labels: Iterable[str]) -> str:
    """Return a name as a label for file names that is not one of some other labels.

    Case is ignored, because many file systems ignore it.

    >>> make_unique_label("left1", ["Left1", "left1x2"])
    'left1x3'
    """
    label = shorten_label(name, name)
    keys = {other.lower() for other in labels}
    separator = "x" if label[-1].isdigit() else ""
    numbered_labels = (f"{label}{separator}{number}" for number in count(2))
    candidates = chain([label], numbered_labels)
    return next(candidate for candidate in candidates if candidate.lower() not in keys)


def name_without_types(name: str, trial_types: Sequence[str]) -> str:
    """Return the name of a contrast without some of its trial types.

    >>> name_without_types("all", ["face", "left hand"])
    'allWithoutFaceAndLeftHand'
    """
    labels = map(camel_case, trial_types)
    return f"{name}{WITHOUT}{'And'.join(map(_capitalize, labels))}"


def _capitalize(label: str) -> str:
    """Return a label with a capital first letter."""
    return label[0].upper() + label[1:]


@lru_cache(maxsize=4096)
def camel_case(name: str) -> str:
    """Return a name in letters and digits, as for the entity ``contrast-``.

    Other scripts are transliterated. The normalization of `unicodedata` would drop their letters
    and letters such as ø and ß, so that "рука 1" and "нога 1" would have the same label, 1. The
    sidecar of every map lists the weights, so that trial types can be identified.

    >>> tuple(map(camel_case, ["left hand", "-1", "1.5", "левая рука", "%"]))
    ('leftHand', 'minus1', '1dot5', 'levayaRuka', 'percent')
    """
    from anyascii import anyascii

    text = name.strip()
    with_signs = re.sub(_NUMBER_SIGN, lambda sign: _NUMBER_SIGNS[sign[0]], text)
    with_points = re.sub(r"(?<=\d)\.(?=\d)", "dot", with_signs)
    words = re.findall(r"[A-Za-z0-9]+", anyascii(with_points))
    if not words:
        words = [_SYMBOLS.get(letter, f"u{ord(letter):x}") for letter in text] or ["contrast"]
    first_word, *other_words = words
    label = first_word + "".join(word[0].upper() + word[1:] for word in other_words)
    return shorten_label(label, name)


def shorten_label(label: str, name: str) -> str:
    """Return a label for file names; long labels are cut and end in a checksum of the name."""
    if len(label) <= _MAX_LABEL_LENGTH:
        return label
    checksum = hashlib.sha256(name.encode()).hexdigest()[:_CHECKSUM_LENGTH]
    return label[: _MAX_LABEL_LENGTH - _CHECKSUM_LENGTH] + checksum


def minus_others(contrasts: Contrasts) -> tuple[str, ...]:
    """Return the contrasts of one condition with the mean of three or more other conditions."""
    return tuple(
        name
        for name, weights in contrasts.items()
        if len(weights) > MAX_TYPES_FOR_PAIRS
        and sum(weight > 0 for weight in weights.values()) == 1
    )


def single_conditions(contrasts: Contrasts) -> list[str]:
    """Return the contrasts of one condition against rest, which are compared for overlap."""
    return [
        name
        for name, weights in contrasts.items()
        if [weight > 0 for weight in weights.values() if weight] == [True]
    ]


def comparable(weights: Mapping[str, float]) -> ComparableWeights:
    """Return weights in a form that is equal for contrasts with equal effects.

    >>> comparable({"thumb": 1.0, "rest": 0.0}) == comparable({"thumb": 1.0})
    True
    """
    rounded = ((name, round(weight, 6)) for name, weight in weights.items())
    return tuple(sorted((name, weight) for name, weight in rounded if weight))


def sum_larger_side(weights: Mapping[str, float]) -> float:
    """Return the larger of the sums of positive and of negative weights, as a positive number."""
    positive_sum = sum(weight for weight in weights.values() if weight > 0)
    negative_sum = -sum(weight for weight in weights.values() if weight < 0)
    return max(positive_sum, negative_sum)
