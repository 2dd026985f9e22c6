"""URIs of external files in provenance: BIDS URIs in data sets, otherwise URIs of the owner."""

import importlib.metadata
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from bids_sr.io.installed_files import PACKAGED_TEMPLATES, package_file, templateflow_home

SKELETON = ("templateflow", "conf/templateflow-skel.zip")
"""Package, and path in it of an archive with an empty file for each file of TemplateFlow."""
_TEMPLATEFLOW_URL = "https://templateflow.s3.amazonaws.com"


def file_uri(path: Path, roots: Mapping[str, Path]) -> str:
    """Return the BIDS URI of a file, or a URI of TemplateFlow, a package or the local file system.

    Packaged images of the default template have the URI of their originals at TemplateFlow.

    `roots` are data sets by their names in URIs; "" is the data set that contains the URI.

    >>> file_uri(Path("/data/sub-01/anat/sub-01_T1w.nii.gz"), {"raw": Path("/data")})
    'bids:raw:sub-01/anat/sub-01_T1w.nii.gz'
    """
    data_sets = [(root, name) for name, root in roots.items() if root in path.parents]
    if data_sets:
        # a data set may be inside another data set
        root, name = max(data_sets, key=lambda data_set: len(data_set[0].parts))
        return f"bids:{name}:{path.relative_to(root).as_posix()}"
    for folder in (templateflow_home(), PACKAGED_TEMPLATES):
        # the second folder also contains other files
        if folder in path.parents and path.relative_to(folder).parts[0].startswith("tpl-"):
            return f"{_TEMPLATEFLOW_URL}/{path.relative_to(folder).as_posix()}"
    return _make_package_url(path) or path.absolute().as_uri()


def _make_package_url(path: Path) -> str:
    """Return the package URL of a file in an installed package, or "" for other files."""
    path_parts = path.parts
    if "site-packages" not in path_parts:
        return ""
    start = len(path_parts) - path_parts[::-1].index("site-packages")
    try:
        version = importlib.metadata.version(path_parts[start])
    except importlib.metadata.PackageNotFoundError:
        return ""
    return f"pkg:pypi/{path_parts[start]}@{version}#{'/'.join(path_parts[start:])}"


@cache
def list_templateflow_files() -> frozenset[str]:
    """Return the names of all files of TemplateFlow, empty if its list is not installed."""
    package = package_file(*SKELETON)
    if package is None:
        return frozenset()
    with zipfile.ZipFile(package) as skeleton:
        return frozenset(skeleton.namelist())


def template_uri(space: str, resolution: str = "", ending: str = "T1w.nii.gz") -> str:
    """Return the URI of a template file at TemplateFlow, or "" if TemplateFlow does not list it.

    TemplateFlow's list of files is read without importing or downloading anything.

    `resolution` is the label of the resolution (``res``); if it is "" or not available, label 1 or
    the only file is used. `ending` is the end of the file name, such as
    ``hemi-L_den-10k_white.surf.gii``.
    """
    resolutions = [resolution, "1", ""] if resolution else ["1", ""]
    listed_names = (
        name
        for name in template_files(space, ending, resolutions)
        if name in list_templateflow_files()
    )
    return next((f"{_TEMPLATEFLOW_URL}/{name}" for name in listed_names), "")


def template_files(template: str, ending: str, resolutions: Iterable[str]) -> Iterator[str]:
    """Yield possible names of a template file, relative to the home of TemplateFlow.

    `ending` is the end of the file name, such as ``T1w.nii.gz`` or ``desc-brain_mask.nii.gz``.
    `resolutions` are labels in order of preference; "" for a name without a resolution.
    """
    name, _, cohort = template.partition("+")
    folder, stem = f"tpl-{name}/", f"tpl-{name}_"
    if cohort:
        folder, stem = f"{folder}cohort-{cohort}/", f"{stem}cohort-{cohort}_"
    for resolution in resolutions:
        if not resolution:
            yield f"{folder}{stem}{ending}"
            continue
        for label in (resolution.zfill(2), resolution):
            yield f"{folder}{stem}res-{label}_{ending}"
