"""Files listed in ``.bidsignore``, which validators skip. Programs that read a data set do not."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from bids_sr.io.atomic_files import read_text

NAME = ".bidsignore"
_GLOBS = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_TOKEN = re.compile(r"\*\*/|/\*\*|\*\*|\*|\?|\[[^]]*\]|.", re.DOTALL)


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

    Examples
    --------
    >>> root = Path("/data")
    >>> is_ignored(root / "sub-01/func/sub-01_bold.nii", root, ["*_bold.nii"])
    True
    >>> is_ignored(root / "sub-01/func/sub-01_bold.nii", root, ["sub-01/", "!sub-01/"])
    False
    """
    if not patterns or not path.is_relative_to(bids_dir):
        return False
    relative = PurePosixPath(path.relative_to(bids_dir).as_posix())
    candidates_of_path = [relative, *list(relative.parents)[:-1]]
    ignored = False
    for text in patterns:
        pattern = text.removeprefix("!")
        candidates = candidates_of_path[1:] if pattern.endswith("/") else candidates_of_path
        if any(_regex(pattern).fullmatch(str(candidate)) for candidate in candidates):
            ignored = not text.startswith("!")
    return ignored


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern, for paths relative to the root."""
    bare = pattern.strip("/")
    is_anchored = "/" in pattern.rstrip("/")
    parts = (
        _GLOBS.get(token, token.replace("[!", "[^") if token[0] == "[" else re.escape(token))
        for token in _TOKEN.findall(bare)
    )
    return re.compile(("" if is_anchored else "(?:.*/)?") + "".join(parts))
