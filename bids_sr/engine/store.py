"""Storage of files as BIDS derivatives with names from ``io_spec.json``.

Files are written completely or not at all, the sidecar first.

There are two kinds of data sets. The output directory contains all results. Nested data sets
contain only the exported series, with the names and folders that other programs expect of a
preprocessed series; their files are links to files in the output directory, if these exist.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from bids_sr.engine.artifacts import Facts, File, read_entities
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.io import atomic_files
from bids_sr.io.dataset_description import RESULTS, dataset_root
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, BOLDREF, FIRST_BOLDREF, AxisOrder, inverse_order
from bids_sr.io.map_metadata import join_map_metadata
from bids_sr.io.uris import template_uri

RECORD = "written.json"
LEFT_OUT = "LeftOut"
"""Key of the sets of entities of files that are not stored, see `store`."""
_NO_ENTRIES: Mapping[str, str] = {}
# NIfTI codes of scanner coordinates and of coordinates of a template (MNI)
_SCANNER_XFORM_CODE, _TEMPLATE_XFORM_CODE = 1, 4
# NIfTI code by the label of the space; 2 is alignment with another image
_XFORM_CODES = {
    **dict.fromkeys(("", BOLDREF, FIRST_BOLDREF), _SCANNER_XFORM_CODE),
    "T1w": 2,
}


@frozen
class _StoredFile:
    """File to store, with its entities (long names) and the metadata of its sidecar."""

    source: Path
    entities: Mapping[str, str]
    metadata: Mapping[str, object]

    def rename(self, entities: Mapping[str, str]) -> "_StoredFile":
        """Return the file in a data set for other programs, where `entities` differ."""
        # from this data set, the output directory is another data set
        metadata = {
            key: _name_dataset(value) if key in ("Sources", "SpatialReference") else value
            for key, value in self.metadata.items()
        }
        return _StoredFile(
            source=self.source, entities={**self.entities, **entities}, metadata=metadata
        )


@step(Stage.STORAGE, makes="stored")
def store(
    here: Path = HERE,
    files: Sequence[File] = (),
    sidecar: Facts | None = None,
    left_out: Facts | None = None,
    *,
    output_dir: Path,
    entities: Mapping[str, str],
    own_entities: Mapping[str, str] | None = None,
    own_sidecar: Mapping[str, object] = _NO_ENTRIES,
    among: list[Mapping[str, str]] | None = None,
    sources: Sequence[str] = (),
    references: Mapping[str, str] = _NO_ENTRIES,
    provenance: Mapping[str, object] = _NO_ENTRIES,
    axis_order: AxisOrder = AS_STORED,
    output_dtype: Literal["float32", "int16"] = "float32",
    datasets: Sequence[str] = (),
    in_output: bool = True,
    exported_as: Mapping[str, str] | None = None,
    awaited: bool = False,  # noqa: ARG001  # read by the scheduler
) -> list[File]:
    """Store files under their BIDS-Derivatives names.

    Unknown entities are rejected, never turned into metadata. Images on a grid of a run (without
    entity ``space``, or with ``boldref``) get the axis order of the input.

    `files` are empty if a step has no output. `entities` of the scope and `own_entities` of the
    artifact are long names to labels; if the latter are None, the file names contain them. `among`
    are alternative sets of entities that select the files to store. If None, all files are stored.
    Files with any of the sets of entities `left_out` (key `LEFT_OUT`) are not stored.

    `references` are URIs of the image with the grid or frame of an image, by the entity ``space``,
    which may be "". `output_dtype` is the data type of stored series. `datasets` are
    series whose data sets for other programs may contain the files. `exported_as` are entities
    that differ in these data sets, "" to omit an entity. If None, the files are not exported.
    `awaited` files are stored early.
    Stored files are returned, including files in data sets for other programs.
    """
    notes = {} if own_entities is not None else _read_notes(files)
    images: list[_StoredFile] = []
    omitted = cast(Sequence[Mapping[str, str]], (left_out or {}).get(LEFT_OUT, ()))
    for source, file_entities in _select_files(files, own_entities, among):
        if any(entity_set.items() <= file_entities.items() for entity_set in omitted):
            continue
        name_entities = {**entities, **file_entities, "extension": _find_extension(source)}
        values = notes.get(source.name.partition(".")[0], {**own_sidecar, **(sidecar or {})})
        content = _make_sidecar(values, sources, references, name_entities) | dict(provenance)
        images.append(_StoredFile(source=source, entities=name_entities, metadata=content))
    images_by_root = {output_dir: images} if in_output else {}
    if exported_as is not None:
        exported_images = [image.rename(exported_as) for image in images]
        images_by_root |= {dataset_root(output_dir, name): exported_images for name in datasets}
    sidecar_files = [
        path
        for root, root_images in images_by_root.items()
        for path in _write_sidecars(root, root_images)
    ]
    stored_files = _write_files(images_by_root, output_dtype, axis_order)
    if in_output:
        _describe_figures(output_dir, images, notes, entities)
    (here / RECORD).write_text(json.dumps([str(path) for path in (*stored_files, *sidecar_files)]))
    return stored_files


def _read_notes(files: Sequence[Path]) -> dict[str, dict[str, object]]:
    """Return the content of the JSON files of a step, by the name of the file that each is for."""
    return {
        path.with_suffix("").name: dict(json.loads(path.read_text(encoding="utf-8")))
        for path in files
        if path.suffix == ".json"
    }


def _select_files(
    files: Sequence[Path],
    own_entities: Mapping[str, str] | None,
    among: list[Mapping[str, str]] | None,
) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Yield the files to store with their own entities, which are in their names if not given."""
    for source in files:
        file_entities = own_entities
        if file_entities is None:
            if source.suffix == ".json":
                continue
            is_drawing = source.suffix in {".svg", ".html"}
            file_entities = read_entities(source) | ({"datatype": "figures"} if is_drawing else {})
        if among is None or any(
            alternative.items() <= file_entities.items() for alternative in among
        ):
            yield source, file_entities


def _write_files(
    images_by_root: Mapping[Path, Sequence[_StoredFile]], dtype: str, axis_order: AxisOrder
) -> list[Path]:
    """Write the same files to several data sets, and return their paths.

    The first data set gets copies, and the others get links to them.
    """
    stored_files: list[Path] = []
    for images in zip(*images_by_root.values(), strict=True):
        first, *others = (
            root / derivative_path(image.entities)
            for root, image in zip(images_by_root, images, strict=True)
        )
        _copy_file(images[0], first, dtype, axis_order)
        for other in others:
            atomic_files.link_or_copy(first, other)
        stored_files += [first, *others]
    return stored_files


def _describe_figures(
    output_dir: Path,
    images: Sequence[_StoredFile],
    notes: Mapping[str, Mapping[str, object]],
    entities: Mapping[str, str],
) -> None:
    """Store the descriptions of figures next to them, with the entities of the scope."""
    for image in images:
        if note := notes.get(image.source.name):
            figure_file = output_dir / derivative_path(image.entities)
            atomic_files.write_json(
                figure_file.with_name(f"{figure_file.name}.json"),
                {"entities": dict(entities), **note},
            )


def _make_sidecar(
    values: Mapping[str, object],
    sources: Sequence[str],
    references: Mapping[str, str],
    entities: Mapping[str, str],
) -> dict[str, object]:
    """Return the sidecar of a file: the given keys, then keys required by BIDS.

    Sources among the given keys replace `sources`, which are those of the step.
    """
    content = dict(values)
    if sources:
        content.setdefault("Sources", list(sources))
    if entities["extension"] == ".nii.gz":
        if entities["suffix"] not in {"mask", "dseg", "probseg"}:
            content.setdefault("SkullStripped", False)
        space = "+".join(filter(None, (entities.get("space", ""), entities.get("cohort", ""))))
        template = "" if space in _XFORM_CODES else template_uri(space, entities.get("res", ""))
        if reference := references.get(space) or template:
            content["SpatialReference"] = reference
    return content


def _write_sidecars(root: Path, files: Sequence[_StoredFile]) -> list[Path]:
    """Write the sidecars of files in a data set, and return their paths.

    Statistical maps of a series share a sidecar (`bids_sr.io.map_metadata`), and so do its
    regions by a threshold.
    """
    maps: dict[str, dict[tuple[str, str], Mapping[str, object]]] = {}
    contents: dict[str, Mapping[str, object]] = {}
    for file in files:
        entities = {**file.entities, "extension": ".json"}
        if entities["suffix"] == "statmap" or "ThresholdLabel" in file.metadata:
            contrast = entities.pop("contrast", "") or entities.pop("label", "")
            labels = contrast, entities.pop("stat", "")
            maps.setdefault(derivative_path(entities), {})[labels] = file.metadata
        elif _is_described(file.entities):
            contents[derivative_path(entities)] = file.metadata
    contents |= {path: join_map_metadata(metadata) for path, metadata in maps.items()}
    for path, content in contents.items():
        atomic_files.write_json(root / path, content)
    return [root / path for path in contents]


def derivative_path(entities: Mapping[str, str]) -> str:
    """Return the relative path of a derivative from its entities (long names).

    Raises `ValueError` if an entity is unknown, or if no file name pattern matches.
    """
    from bids.layout.writing import build_path

    from bids_sr.boilerplate import data_of

    spec = data_of("io_spec.json")
    labels = {key: value for key, value in entities.items() if value not in (None, "")}
    unknown = sorted(set(labels) - set(spec["entities"]))
    if unknown:
        raise ValueError(
            f"unknown entities: {', '.join(unknown)} (known entities:"
            f" {', '.join(spec['entities'])})"
        )
    path = build_path(labels, spec["default_path_patterns"], strict=True)
    if path is None:
        raise ValueError(f"no BIDS file name pattern matches the entities {labels}")
    return str(path)


def _is_described(entities: Mapping[str, str]) -> bool:
    """Return whether a file has a sidecar.

    The label table of a segmentation shares the sidecar of the image.
    """
    if entities["suffix"] == "dseg" and entities["extension"] == ".tsv":
        return False
    return entities["extension"] not in {".json", ".svg", ".html", ".safetensors"}


def _copy_file(file: _StoredFile, target: Path, dtype: str, axis_order: AxisOrder) -> None:
    """Copy a file to `target` atomically.

    A target with the same content keeps its modification time. Images on a grid of the run get the
    axis order of the input, `axis_order`.
    """
    from bids_sr.io.copies import compress_series, save_reordered
    from bids_sr.io.nifti import SeriesReader

    # qform and sform code that niworkflows writes
    xform_code = _XFORM_CODES.get(file.entities.get("space", ""), _TEMPLATE_XFORM_CODE)
    order = inverse_order(axis_order) if xform_code == _SCANNER_XFORM_CODE else AS_STORED
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_files.atomic_file(target) as partial:
        if _find_extension(file.source) != ".nii.gz":
            shutil.copyfile(file.source, partial)
        elif len(SeriesReader(file.source).header.get_data_shape()) == 4:
            compress_series(file.source, partial, dtype=dtype, order=order, code=xform_code)
        else:
            save_reordered(file.source, partial, order=order, code=xform_code)


def _find_extension(path: Path) -> str:
    """Return the extension of a file, such as ``.func.gii``; images are always ``.nii.gz``."""
    name = path.name
    if name.endswith((".nii", ".nii.gz")):
        return ".nii.gz"
    return name[name.index(".") :] if name.endswith(".gii") else path.suffix


def _name_dataset(value: object) -> object:
    """Return URIs of files in the output directory with its name as a data set.

    `value` is a URI or a list of URIs; other values are returned unchanged.
    """
    if isinstance(value, list):
        return [*map(_name_dataset, value)]
    is_own_uri = isinstance(value, str) and value.startswith("bids::")
    return f"bids:{RESULTS}:{str(value).removeprefix('bids::')}" if is_own_uri else value
