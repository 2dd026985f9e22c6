"""Files listed in ``.bidsignore``, which validators skip. Programs that read a data set do not."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from bids_sr.io.atomic_files import read_text

NAME = ".bidsignore"
_WILDCARDS = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_PATTERN_TOKEN = re.compile(r"\*\*/|/\*\*|\*\*|\*|\?|\[[^]]*\]|.", re.DOTALL)


def read_patterns(bids_dir: Path) -> tuple[str, ...]:
    """Return the patterns of a data set in order, () if the file is missing or unreadable."""
    try:
        lines = read_text(bids_dir / NAME, encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        return ()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


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
    """Return the regular expression of a pattern, for paths relative to the root."""
    is_anchored = "/" in pattern.rstrip("/")
    prefix = "" if is_anchored else "(?:.*/)?"
    tokens = _PATTERN_TOKEN.findall(pattern.strip("/"))
    return re.compile(prefix + "".join(map(_convert_token, tokens)))


def _convert_token(token: str) -> str:
    """Return a wildcard, a set of characters or a character as a regular expression."""
    if token in _WILDCARDS:
        return _WILDCARDS[token]
    return token.replace("[!", "[^") if token.startswith("[") else re.escape(token)
