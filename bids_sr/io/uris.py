"""Names of external files in provenance: BIDS URIs in data sets, else URIs that name the owner."""

import importlib.metadata
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from bids_sr.io.installed_files import package_file, templateflow_home

SKELETON = ("templateflow", "conf/templateflow-skel.zip")
"""Package and place in it of empty files for all that TemplateFlow has."""
_TEMPLATEFLOW = "https://templateflow.s3.amazonaws.com"


def uri_of(path: Path, roots: Mapping[str, Path]) -> str:
    """URI of a file.

    `roots`: data sets by the names that they have in URIs; "" for the one in which the URI stands.
    BIDS URI, else that of TemplateFlow, of a package or of a local file.

    >>> uri_of(Path("/data/sub-01/anat/sub-01_T1w.nii.gz"), {"raw": Path("/data")})
    'bids:raw:sub-01/anat/sub-01_T1w.nii.gz'
    """
    holding = [(root, name) for name, root in roots.items() if root in path.parents]
    if holding:
        # a data set may lie in another
        root, name = max(holding, key=lambda each: len(each[0].parts))
        return f"bids:{name}:{path.relative_to(root).as_posix()}"
    home = templateflow_home()
    if home in path.parents:
        return f"{_TEMPLATEFLOW}/{path.relative_to(home).as_posix()}"
    return _in_package(path) or path.absolute().as_uri()


def _in_package(path: Path) -> str:
    """Package URL of a file that an installed package carries; "" for any other file."""
    parts = path.parts
    if "site-packages" not in parts:
        return ""
    start = len(parts) - parts[::-1].index("site-packages")
    try:
        version = importlib.metadata.version(parts[start])
    except importlib.metadata.PackageNotFoundError:
        return ""
    return f"pkg:pypi/{parts[start]}@{version}#{'/'.join(parts[start:])}"


@cache
def _listed_uris() -> frozenset[str]:
    """Names of all files that TemplateFlow has; none where its list is not installed."""
    package = package_file(*SKELETON)
    if package is None:
        return frozenset()
    with zipfile.ZipFile(package) as skeleton:
        return frozenset(skeleton.namelist())


def template_uri(space: str, resolution: str = "", ending: str = "T1w.nii.gz") -> str:
    """URI of a file of a template at TemplateFlow, its T1w image; "" for no template.

    It is that of the resolution (a label), else that at 1 mm where there are several.
    TemplateFlow's list of files is read, nothing is imported or downloaded.

    `resolution`: label of the resolution (``res``); empty for label 1, or the only one. `ending`:
    of the name, such as ``hemi-L_den-10k_white.surf.gii``. Address of the file; empty where
    TemplateFlow lists none.
    """
    numbers = [resolution, "1", ""] if resolution else ["1", ""]
    found = (name for name in template_files(space, ending, numbers) if name in _listed_uris())
    return next((f"{_TEMPLATEFLOW}/{name}" for name in found), "")


def template_files(template: str, ending: str, numbers: Iterable[str]) -> Iterator[str]:
    """Return names that a file of a template may have below the home of TemplateFlow.

    `ending`: of the name, such as ``T1w.nii.gz`` or ``desc-brain_mask.nii.gz``. `numbers`: of
    resolutions, in the order in which they are tried; "" for a name without one.
    """
    name, _, cohort = template.partition("+")
    folder, stem = f"tpl-{name}/", f"tpl-{name}_"
    if cohort:
        folder, stem = f"{folder}cohort-{cohort}/", f"{stem}cohort-{cohort}_"
    for number in numbers:
        for label in (f"res-{number.zfill(2)}_", f"res-{number}_") if number else ("",):
            yield f"{folder}{stem}{label}{ending}"
