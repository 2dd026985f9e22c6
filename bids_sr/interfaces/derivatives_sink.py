"""Store files as BIDS derivatives: names from ``io_spec.json``, whole files or none, sidecar first."""

import gzip
import json
import os
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiObject,
    OutputMultiObject,
    TraitedSpec,
    traits,
)

from bids_sr.interfaces.steps import AXIS_ORDER, Step
from bids_sr.io import atomic_files
from bids_sr.io.grids import AS_STORED, AxisOrder, inverse

RECORD = "written.json"


class UnknownEntityError(ValueError):
    """An entity, or a combination of entities, that no path pattern of ``io_spec.json`` knows."""


@cache
def io_spec() -> dict[str, list[str]]:
    """Entities and path patterns of the derivatives, from ``boilerplate/io_spec.json``."""
    from bids_sr.boilerplate import path

    return json.loads(path("io_spec.json").read_text(encoding="utf-8"))


def derivative_path(entities: Mapping[str, str]) -> str:
    """Relative path of a derivative.

    Parameters
    ----------
    entities : long entity names (``subject``, ``task``, …, ``datatype``, ``suffix``, ``extension``) to labels

    Raises
    ------
    UnknownEntityError
        for an entity that is not declared, or a combination that fits no pattern (nothing is dropped silently)
    """
    from bids.layout.writing import build_path

    spec = io_spec()
    given = {key: value for key, value in entities.items() if value not in (None, "")}
    unknown = sorted(set(given) - set(spec["entities"]))
    if unknown:
        raise UnknownEntityError(f"unknown entities {', '.join(unknown)}; declared are {', '.join(spec['entities'])}")
    path = build_path(given, spec["default_path_patterns"], strict=True)
    if path is None:
        raise UnknownEntityError(f"no file name can be made of {given}")
    return str(path)


def full_extension(path: str | os.PathLike[str]) -> str:
    """Extension of a file, ``.nii.gz`` as one; derivatives are always compressed."""
    name = Path(path).name
    if name.endswith((".nii", ".nii.gz")):
        return ".nii.gz"
    return Path(name).suffix


def _dimensions(path: Path) -> int:
    from bids_sr.io.nifti import SeriesReader

    with SeriesReader(path) as reader:
        return len(reader.header.get_data_shape())


def _packed(stream: IO[bytes]) -> gzip.GzipFile:
    """A gzip stream without name and time, so that equal content gives equal bytes."""
    return gzip.GzipFile(filename="", mode="wb", compresslevel=5, fileobj=stream, mtime=0)


def _store(source: Path, target: Path, dtype: str, order: AxisOrder) -> None:
    """Bring ``source`` to ``target`` in whole; a target of the same content keeps its modification time."""
    from bids_sr.io.copies import compress_series, save_reordered

    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_files.whole_file(target) as beside:
        if (source.suffix == ".nii" or order != AS_STORED) and _dimensions(source) == 4:
            compress_series(source, beside, dtype=dtype, order=order)
        elif order != AS_STORED:
            save_reordered(source, beside, order=order)
        elif source.suffix == ".nii":
            with source.open("rb") as plain, beside.open("wb") as raw, _packed(raw) as packed:
                shutil.copyfileobj(plain, packed)
        else:
            shutil.copyfile(source, beside)


def _sidecar_of(given: Any, sources: list[str] | None, path: str, entities: Mapping[str, str]) -> dict[str, Any]:
    """Sidecar of one file: its own keys (a dictionary or the path of a JSON file), then what BIDS asks for."""
    content = dict(json.loads(Path(given).read_text())) if isinstance(given, str) else dict(given or {})
    if path.endswith(".tsv"):
        return content
    if sources:
        content.setdefault("Sources", sources)
    if path.endswith(".nii.gz") and entities.get("suffix") not in {"mask", "dseg", "probseg"}:
        content.setdefault("SkullStripped", False)
    return content


class WriteDerivatives(Step):
    """Store files under their BIDS-Derivatives names; unknown entities are refused, never turned into metadata.

    Images of a run that are on a grid of its own (no entity ``space``) get the order of axes that its input has.
    """

    class input_spec(BaseInterfaceInputSpec):
        base_directory = Directory(mandatory=True, desc="root of the derivatives")
        in_file = InputMultiObject(File(exists=True), mandatory=True, desc="files to store")
        entities = InputMultiObject(traits.Dict, mandatory=True, desc="entities of each file")
        sidecar = InputMultiObject(traits.Any, desc="metadata of each file: a dictionary, or the path of a JSON file")
        common = traits.Dict(desc="entities that all files share")
        provenance = traits.Dict(traits.Str, traits.Str, desc="keys that every sidecar gets, such as the version")
        sources = traits.List(traits.Str, desc="BIDS URIs of what the files were made from")
        dtype = traits.Enum("float32", "int16", usedefault=True, desc="stored type of uncompressed series")
        axis_order = AXIS_ORDER

    class output_spec(TraitedSpec):
        out_file = OutputMultiObject(File(exists=True), desc="the stored files")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        sidecars = inputs.sidecar or [None] * len(inputs.in_file)
        if not len(inputs.in_file) == len(inputs.entities) == len(sidecars):
            raise ValueError(
                f"{len(inputs.in_file)} files, {len(inputs.entities)} sets of entities, {len(sidecars)} sidecars"
            )
        root, written = Path(inputs.base_directory), []
        for source, own, given in zip(inputs.in_file, inputs.entities, sidecars, strict=True):
            entities = {**(inputs.common or {}), **own, "extension": full_extension(source)}
            target = root / derivative_path(entities)
            if entities["extension"] not in {".json", ".svg", ".html", ".safetensors"}:
                content = _sidecar_of(given, inputs.sources, str(target), entities) | (inputs.provenance or {})
                atomic_files.write_json(root / derivative_path({**entities, "extension": ".json"}), content)
            own_grid = entities["extension"] == ".nii.gz" and "space" not in entities
            _store(Path(source), target, inputs.dtype, inverse(inputs.axis_order) if own_grid else AS_STORED)
            written.append(str(target))
        (here / RECORD).write_text(json.dumps(written))
        return {"out_file": written}
