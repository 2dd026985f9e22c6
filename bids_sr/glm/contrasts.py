"""Contrasts: weights of trial types in each named comparison.

Preflight resolves the contrasts of every run before work starts and the activation stage uses the
result, so that a misspelt name is refused at once and means the same thing everywhere.
"""

import difflib
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from bids_sr.notices import UsageError

NOT_MODELED = frozenset({"rest", "baseline", "fixation", "n/a", "nan", ""})
"""Names (lower case) of rows that are the implicit baseline: no regressor is made of them."""

UNNAMED = "task"
"""Trial type of every row of a table without the column ``trial_type``, which BIDS leaves
optional.
"""

NO_TIME = frozenset({"n/a", "nan", ""})
"""Onsets and durations (lower case) of rows that are left out: when they happened is unknown."""

MAX_TYPES_FOR_PAIRS, MAX_TYPES_FOR_OTHERS = 3, 8
"""Up to so many trial types every pair, or each with the mean of the others, is compared by
default.
"""

Contrast = dict[str, float]
"""Weight of each trial type; types that are not named weigh nothing."""
Contrasts = Mapping[str, Mapping[str, float]]
"""Contrasts by name."""

ComparableWeights = tuple[tuple[str, float], ...]
"""Trial types with their weights, of which the larger side sums to one."""

ALL = "all"
"""Contrast of the mean of all trial types."""
ALL_TYPE = "typeAll"
"""Contrast of a trial type that is named ``all``."""

_LONGEST_LABEL = 80  # letters, as it becomes part of file names
_SYMBOLS = {
    "+": "plus",
    "-": "minus",
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
_NAMED = re.compile(r"^\s*([A-Za-z0-9]+)\s*=\s*(.+)$")
_WEIGHT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*\*\s*")
_SIGN = re.compile(r"\s*([+-])\s*")
_UNKNOWN = re.compile(r"\s*([^+*\-\s]+)")


def modeled_types(column: Iterable[object]) -> tuple[str, ...]:
    """Return the trial types that get a regressor, in order of first appearance.

    Missing values may be NaN, None or ``n/a``.

    Names without repetition; rest and missing values are left out.
    """
    seen: dict[str, None] = {}
    for value in column:
        name = "" if value is None else str(value).strip()
        if name.lower() not in NOT_MODELED:
            seen.setdefault(name)
    return tuple(seen)


def seconds(text: str | None) -> float | None:
    """A time of an events table, or None for text that is no finite number.

    >>> seconds("12.5"), seconds("n/a"), seconds("inf")
    (12.5, None, None)

    `text`: cell of the table; None for an empty one.
    """
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def camel(name: str) -> str:
    """Return a name in letters and digits only, as for the entity ``contrast-``.

    Other scripts are transliterated.

    Which trial type a label stands for is told by the weights in the sidecar of every map.

    >>> camel("left hand"), camel("-1"), camel("1.5"), camel("левая рука"), camel("%")
    ('leftHand', 'minus1', '1dot5', 'levayaRuka', 'percent')
    """
    from anyascii import anyascii

    signed = re.sub(r"(?:^|(?<=[\s(,;:]))[+-](?=\d)", lambda sign: _SYMBOLS[sign[0]], name.strip())
    pointed = re.sub(r"(?<=\d)\.(?=\d)", "dot", signed)
    words = re.findall(r"[A-Za-z0-9]+", anyascii(pointed))
    if not words:
        words = [_SYMBOLS.get(letter, f"u{ord(letter):x}") for letter in name.strip()] or [
            "contrast"
        ]
    label = words[0] + "".join(word[0].upper() + word[1:] for word in words[1:])
    return shortened(label, name)


def shortened(label: str, name: str) -> str:
    """Return a label for file names; a long one is cut and ends in a checksum of the name."""
    if len(label) <= _LONGEST_LABEL:
        return label
    return label[: _LONGEST_LABEL - 8] + hashlib.sha256(name.encode()).hexdigest()[:8]


def _capital(name: str) -> str:
    short = camel(name)
    return short[0].upper() + short[1:]


def _default_contrasts(trial_types: Sequence[str]) -> dict[str, Contrast]:
    """Each trial type against rest, the mean of all (``all``), and comparisons.

    Two or three types are compared in pairs, first less second; four to eight each with the mean
    of the others; more not at all.
    """
    contrasts: dict[str, Contrast] = {}
    count = len(trial_types)
    for name in dict.fromkeys(trial_types):
        label = camel(name)
        # `all` is the mean of all types, also if one of them has this name
        _add(contrasts, ALL_TYPE if label == ALL and count > 1 else label, {name: 1.0})
    if count > 1:
        _add(contrasts, ALL, dict.fromkeys(trial_types, 1.0 / count))
    if count <= MAX_TYPES_FOR_PAIRS:
        for first, second in combinations(trial_types, 2):
            _add(contrasts, f"{camel(first)}Minus{_capital(second)}", {first: 1.0, second: -1.0})
    elif count <= MAX_TYPES_FOR_OTHERS:
        for trial_type in trial_types:
            _add(
                contrasts,
                f"{camel(trial_type)}MinusOthers",
                dict.fromkeys(trial_types, -1.0 / (count - 1)) | {trial_type: 1.0},
            )
    return contrasts


def minus_others(contrasts: Contrasts) -> tuple[str, ...]:
    """Return the contrasts of one condition with the mean of three or more."""
    return tuple(
        name
        for name, weights in contrasts.items()
        if len(weights) > MAX_TYPES_FOR_PAIRS
        and sum(weight > 0 for weight in weights.values()) == 1
    )


def single_conditions(contrasts: Contrasts) -> list[str]:
    """Return contrasts of one condition against rest: those whose overlap is of interest."""
    return [
        name
        for name, weights in contrasts.items()
        if [w > 0 for w in weights.values() if w] == [True]
    ]


def resolve_contrasts(
    trial_types: Sequence[str], requested: Sequence[str | tuple[str, Contrast]] = ()
) -> dict[str, Contrast]:
    """Return weights of every contrast of a run, by name, in the order requested.

    `requested`: forms ``thumb``, ``thumb-little``, ``thumb+little``,
    ``name=0.5*thumb-0.5*little``, ``all`` (mean of all types); a plain sum weighs each term by 1;
    or name and weights; empty: `_default_contrasts`. `UsageError`: a term is not a trial type (the
    nearest is suggested), or the text has another form.
    """
    if not requested:
        return _default_contrasts(trial_types)
    resolved: dict[str, Contrast] = {}
    for each in requested:
        name, weights = _parse(each, trial_types) if isinstance(each, str) else each
        if unknown := weights.keys() - set(trial_types):
            raise _unknown(name, min(unknown), 0, trial_types)
        if weights not in resolved.values():
            _add(resolved, name, weights)
    return resolved


def _add(contrasts: dict[str, Contrast], name: str, weights: Contrast) -> None:
    """Put a contrast under a name of its own: two types may shorten to the same letters."""
    name = shortened(name, name)
    unique, number = name, 2
    joint = "x" if name[-1].isdigit() else ""
    while unique in contrasts:
        unique = f"{name}{joint}{number}"
        number = number + 1
    contrasts[unique] = weights


def _parse(text: str, trial_types: Sequence[str]) -> tuple[str, Contrast]:
    expression = text.strip()
    # a name may itself hold a dash or a plus
    if expression in trial_types and (expression != ALL or len(trial_types) == 1):
        return camel(expression), {expression: 1.0}
    named = _NAMED.match(expression)
    body = named.group(2) if named else expression
    if body.strip() == ALL and trial_types:
        weights = {name: 1.0 / len(trial_types) for name in trial_types}
        return (named.group(1) if named else ALL), weights
    if body.strip() == ALL_TYPE and ALL in trial_types and ALL_TYPE not in trial_types:
        return (named.group(1) if named else ALL_TYPE), {ALL: 1.0}
    terms = _terms(text, body, trial_types)
    weights = {}
    for trial_type, weight in terms:
        weights[trial_type] = weights.get(trial_type, 0.0) + weight
    if not any(weights.values()):
        raise UsageError(
            f"contrast {text!r}",
            "all weights of the contrast are zero",
            "Specify at least one nonzero weight, for example `thumb-little`.",
        )
    return (named.group(1) if named else _name_of(terms)), weights


def _terms(text: str, body: str, trial_types: Sequence[str]) -> list[tuple[str, float]]:
    terms: list[tuple[str, float]] = []
    position = 0
    by_length = sorted(trial_types, key=len, reverse=True)
    while position < len(body.rstrip()):
        sign = _SIGN.match(body, position)
        if sign is None and terms:
            raise UsageError(
                f"contrast {text!r}",
                f"a `+` or `-` sign is missing before {body[position:]!r}",
                "Join the terms of the contrast with `+` or `-`.",
            )
        position = sign.end() if sign else position
        weight = _WEIGHT.match(body, position)
        position = weight.end() if weight else position
        name = next((t for t in by_length if _stands_at(body, position, t)), None)
        if name is None:
            raise _unknown(text, body, position, trial_types)
        factor = float(weight.group(1)) if weight else 1.0
        terms.append((name, -factor if sign and sign.group(1) == "-" else factor))
        position += len(name)
    if not terms:
        raise UsageError(
            f"contrast {text!r}",
            "the contrast contains no trial types",
            f"Choose one of {', '.join(trial_types)}.",
        )
    return terms


def _stands_at(body: str, position: int, name: str) -> bool:
    rest = body[position + len(name) :].lstrip()
    return body.startswith(name, position) and (not rest or rest[0] in "+-")


def _unknown(text: str, body: str, position: int, trial_types: Sequence[str]) -> UsageError:
    word = _UNKNOWN.match(body, position)
    if word is None:
        return UsageError(
            f"contrast {text!r}",
            "a trial type is missing",
            "Specify trial types joined with `+` or `-`, for example `thumb-little`.",
        )
    name = word.group(1)
    if name in trial_types:
        return UsageError(
            f"contrast {text!r}",
            f"a `+` or `-` sign is missing after {name!r}",
            "Join the terms of the contrast with `+` or `-`.",
        )
    have = (
        f"The trial types of this run are {', '.join(trial_types)}."
        if trial_types
        else "This run has no trial types."
    )
    return UsageError(
        f"contrast {text!r}",
        f"{name!r} is not a trial type of this run",
        " ".join(filter(None, [have, _suggestion(name, trial_types)])),
    )


def _suggestion(word: str, known: Iterable[str]) -> str:
    """Text that proposes the nearest known name, or nothing where none is near."""
    names = list(known)
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), list(lower), n=1, cutoff=0.75)
    return f"Did you mean {lower[near[0]]!r}?" if near else ""


def _name_of(terms: Sequence[tuple[str, float]]) -> str:
    (first, weight), *others = terms
    name = camel(first) if weight > 0 else "minus" + _capital(first)
    return name + "".join(
        ("Plus" if w > 0 else "Minus") + _capital(trial_type) for trial_type, w in others
    )


def comparable(weights: Mapping[str, float]) -> ComparableWeights:
    """Return weights in a form that is equal for contrasts with equal effects.

    Examples
    --------
    >>> comparable({"thumb": 1.0, "little": 1.0}) == comparable({"little": 0.5, "thumb": 0.5})
    True
    """
    positive = sum(weight for weight in weights.values() if weight > 0)
    negative = -sum(weight for weight in weights.values() if weight < 0)
    side = max(positive, negative) or 1.0
    return tuple(sorted((name, round(weight / side, 6)) for name, weight in weights.items()))
