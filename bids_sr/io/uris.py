"""Names of external files in provenance: BIDS URIs in data sets, else URIs that name the owner."""

import importlib.metadata
import importlib.util
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bids_sr.region_names import templateflow_home

_TEMPLATEFLOW = "https://templateflow.s3.amazonaws.com"


def uri_of(path: Path, roots: Mapping[str, Path]) -> str:
    """URI of a file.

    Parameters
    ----------
    roots : data sets by the names that they have in URIs; "" for the one in which the URI stands

    Examples
    --------
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
def template_uri(space: str, resolution: str = "") -> str:
    """URI of the T1w image of a template at TemplateFlow; "" for no template.

    It is that of the resolution (a label), else that at 1 mm where there are several.
    TemplateFlow's list of files is read, nothing is imported or downloaded.
    """
    name, _, cohort = space.partition("+")
    folder = f"tpl-{name}/" + (f"cohort-{cohort}/" if cohort else "")
    stem = f"{folder}tpl-{name}_" + (f"cohort-{cohort}_" if cohort else "")
    labels = (f"res-{each}_" for one in (resolution, "1") for each in (one.zfill(2), one))
    found = (f"{stem}{label}T1w.nii.gz" for label in (*labels, ""))
    listed = _templateflow_files()
    return next((f"{_TEMPLATEFLOW}/{each}" for each in found if each in listed), "")


@cache
def _templateflow_files() -> frozenset[str]:
    spec = importlib.util.find_spec("templateflow")
    if spec is None or spec.origin is None:
        return frozenset()
    with zipfile.ZipFile(Path(spec.origin).parent / "conf" / "templateflow-skel.zip") as skeleton:
        return frozenset(skeleton.namelist())
