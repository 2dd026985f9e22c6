"""Fetch templates into TEMPLATEFLOW_HOME while the image is built, or say that they could not be
had.

python docker/templates.py SPACE...

An image can be built where TemplateFlow is out of reach: the default template comes with bids-sr,
and another with nilearn. Nothing is ever fetched when the image runs.
"""

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

# suffixes and entities of the files that bids_sr.preproc.templates looks for; the tissue maps
# may be missing
WANTED = (
    {"suffix": "T1w", "desc": None},
    {"suffix": "mask", "desc": "brain"},
    {"suffix": "probseg", "label": "GM"},
    {"suffix": "probseg", "label": "WM"},
)


def say(text: str) -> None:
    sys.stderr.write(f"templates: {text}\n")


def fetch(space: str) -> None:
    """Files of one space at 1 mm.

    Raises
    ------
    Exception : whatever the client raises where the files cannot be had
    """
    from templateflow import api

    for wanted in WANTED:
        found = api.get(space, resolution=1, extension=".nii.gz", **wanted)
        if not found and wanted["suffix"] != "probseg":
            raise FileNotFoundError(f"no {wanted['suffix']} at 1 mm")


def tidy(home: Path, spaces: Iterable[str]) -> None:
    """Leave only these spaces, and of them only what was fetched: the client lays out thousands of
    empty files.
    """
    for folder in home.iterdir():
        if folder.name not in {f"tpl-{space}" for space in spaces}:
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    for path in list(home.rglob("*")):
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()


def main() -> None:
    home = Path(os.environ["TEMPLATEFLOW_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    fetched = []
    for space in sys.argv[1:]:
        try:
            fetch(space)
        except Exception as err:  # the client raises what its several ways of fetching raise
            say(
                f"{space} is left out, TemplateFlow could not give it ({type(err).__name__}:"
                f" {err})"
            )
        else:
            fetched.append(space)
            say(f"{space} is in the image")
    tidy(home, fetched)


if __name__ == "__main__":
    main()
