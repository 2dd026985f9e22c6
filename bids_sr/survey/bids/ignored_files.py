"""Files listed in ``.bidsignore``, which validators skip. Programs that read a data set do not."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePosixPath

from bids_sr.io.atomic_files import read_text
from bids_sr.io.notices import InvalidInput

NAME = ".bidsignore"
_WILDCARDS = {"**/": "(?:.*/)?", "/**": "/.*", "*": "[^/]*", "?": "[^/]"}
# a set contains at least one character, which may be the closing bracket
_SET = r"\[[!^]?+(?:\\.|[^\\])(?:\\.|[^]\\])*\]"
_PATTERN_TOKEN = re.compile(rf"\*\*/|/\*\*|\*+|\?|{_SET}|\\.|.", re.DOTALL)
_DASH_TO_DASH = r"-\-"  # otherwise a warning of a set difference


def read_patterns(bids_dir: Path) -> tuple[str, ...]:
    """Return the valid patterns of a data set in order; empty without a readable file."""
    try:
        lines = read_text(bids_dir / NAME).splitlines()
    except (OSError, ValueError):
        return ()
    patterns = (line.strip() for line in lines if line.strip() and not line.startswith("#"))
    return tuple(filter(_is_pattern, patterns))


def _is_pattern(line: str) -> bool:
    """Return whether a line is a valid pattern."""
    try:
        _compile_pattern(line.removeprefix("!"))
    except InvalidInput:
        return False
    return True


def is_ignored(path: Path, bids_dir: Path, patterns: Sequence[str]) -> bool:
    """Return whether a file, or a directory that contains it, matches the patterns.

    The last pattern that matches decides; patterns with an exclamation mark include again.

    >>> root = Path("/data")
    >>> is_ignored(root / "sub-01/func/sub-01_bold.nii", root, ["*_bold.nii"])
    True
    >>> is_ignored(root / "sub-01/func/sub-01_bold.nii", root, ["sub-01/", "!sub-01/"])
    False
    """
    if not patterns or not path.is_relative_to(bids_dir):
        return False
    relative_path = PurePosixPath(path.relative_to(bids_dir).as_posix())
    folders = list(relative_path.parents)[:-1]
    ignored = False
    for signed_pattern in patterns:
        pattern = signed_pattern.removeprefix("!")
        candidates = folders if pattern.endswith("/") else [relative_path, *folders]
        if any(_compile_pattern(pattern).fullmatch(str(candidate)) for candidate in candidates):
            ignored = not signed_pattern.startswith("!")
    return ignored


@lru_cache(maxsize=256)
def _compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern, for paths relative to the root.

    Raises `InvalidInput` if a set of characters is not closed or has a range from a later to an
    earlier character.
    """
    is_anchored = "/" in pattern.rstrip("/")
    prefix = "" if is_anchored else "(?:.*/)?"
    tokens = [
        "*" if not token.strip("*") else token
        for token in _PATTERN_TOKEN.findall(pattern.strip("/"))
    ]
    try:
        return re.compile(prefix + _join_tokens(tokens))
    except re.error as error:
        raise InvalidInput(f"a set of characters is not valid ({error.msg})") from error


def _join_tokens(tokens: Sequence[str]) -> str:
    """Return the regular expression of tokens.

    The first match of the text between two ``*`` suffices, so that other matches are not tried:
    their number would grow exponentially with the number of wildcards.
    """
    parts = list[str]()
    stars = [index for index, token in enumerate(tokens) if token == "*"]
    position = 0
    for star, next_star in pairwise(stars):
        if any(token in _WILDCARDS for token in tokens[star + 1 : next_star] if token != "?"):
            continue
        parts += map(_convert_token, tokens[position:star])
        text = "".join(map(_convert_token, tokens[star + 1 : next_star]))
        parts.append(f"(?>[^/]*?{text})")
        position = next_star
    return "".join((*parts, *map(_convert_token, tokens[position:])))


def _convert_token(token: str) -> str:
    """Return a wildcard, a set of characters or a character as a regular expression.

    Raises `InvalidInput` for the bracket of a set that is not closed.
    """
    if token in _WILDCARDS:
        return _WILDCARDS[token]
    if token == "[":
        raise InvalidInput("the bracket [ is not closed")
    if not token.startswith("["):
        return _escape(token)
    is_negated = token[1] in "!^"
    characters = re.findall(r"\\.|.", token[1 + is_negated : -1], re.DOTALL)
    ranges = "".join("-" if character == "-" else _escape(character) for character in characters)
    return f"[{'^/' if is_negated else ''}{ranges.replace('--', _DASH_TO_DASH)}]"


def _escape(character: str) -> str:
    """Return a character, which may follow a backslash, as a regular expression."""
    return re.escape(character.removeprefix("\\") or character)
