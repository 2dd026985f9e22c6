"""Store files as BIDS derivatives: names from ``io_spec.json``, whole files or none, sidecar first."""

import gzip
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Literal

from bids_sr.io import atomic_files
from bids_sr.io.grids import AS_STORED, AxisOrder, inverse
from bids_sr.pipeline.artifacts import Facts, File, entities_of_name
from bids_sr.pipeline.step import step

RECORD = "written.json"
_NOTHING: Mapping[str, str] = {}


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


def full_extension(path: Path) -> str:
    """Extension of a file, ``.nii.gz`` as one; derivatives are always compressed."""
    name = path.name
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


def _sidecar_of(
    given: Mapping[str, object], sources: Sequence[str], path: str, entities: Mapping[str, str]
) -> dict[str, object]:
    """Sidecar of one file: its own keys, then what BIDS asks for."""
    content = dict(given)
    if path.endswith(".tsv"):
        return content
    if sources:
        content.setdefault("Sources", list(sources))
    if path.endswith(".nii.gz") and entities.get("suffix") not in {"mask", "dseg", "probseg"}:
        content.setdefault("SkullStripped", False)
    return content


def _named(path: Path) -> dict[str, str]:
    """Entities of a file whose name tells them; what is drawn lies among the figures."""
    drawn = {"datatype": "figures"} if path.suffix in {".svg", ".html"} else {}
    return {**entities_of_name(path), **drawn}


@step(makes="stored")
def store(
    here: Path, files: Sequence[File] = (), sidecar: Facts | None = None, *, output_dir: Path,
    entities: Mapping[str, str], own_entities: Mapping[str, str] | None = None,
    own_sidecar: Mapping[str, object] = _NOTHING, sources: Sequence[str] = (),
    provenance: Mapping[str, str] = _NOTHING, axis_order: AxisOrder = AS_STORED,
    output_dtype: Literal["float32", "int16"] = "float32",
) -> list[File]:  # fmt: skip
    """Store files under their BIDS-Derivatives names; unknown entities are refused, never turned into metadata.

    Images of a run that are on a grid of its own (no entity ``space``) get the order of axes that its input has.

    Parameters
    ----------
    output_dir : root of the derivatives
    files : to store; none where a step had nothing to give
    sidecar, own_sidecar : metadata, where no JSON file of the same name is among the files
    entities, own_entities : long names to labels, of the scope and of the artifact; where the latter are None the names
        of the files tell them
    sources : BIDS URIs of what the files were made from
    provenance : keys that every sidecar gets, such as the version
    axis_order : axis of the stored image that each axis is in use
    output_dtype : stored type of uncompressed series
    """
    beside = (
        {path.with_suffix("").name: path for path in files if path.suffix == ".json"} if own_entities is None else {}
    )
    written = []
    for source in files:
        if source in beside.values():
            continue
        own = _named(source) if own_entities is None else own_entities
        found = {**entities, **own, "extension": full_extension(source)}
        target = output_dir / derivative_path(found)
        if found["extension"] not in {".json", ".svg", ".html", ".safetensors"}:
            told = beside.get(source.name.partition(".")[0])
            given = json.loads(told.read_text(encoding="utf-8")) if told else sidecar or own_sidecar
            content = _sidecar_of(given, sources, str(target), found) | dict(provenance)
            atomic_files.write_json(output_dir / derivative_path({**found, "extension": ".json"}), content)
        own_grid = found["extension"] == ".nii.gz" and "space" not in found
        _store(source, target, output_dtype, inverse(axis_order) if own_grid else AS_STORED)
        written.append(target)
    (here / RECORD).write_text(json.dumps([str(path) for path in written]))
    return written
