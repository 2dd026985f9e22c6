"""Store files as BIDS derivatives with names from ``io_spec.json``.

Files are written in whole or not at all, the sidecar first.

There are two kinds of data sets. One holds all results. The other, inside it, holds the primary
series alone, named and laid out as other programs look for a preprocessed series; its files are
links to those of the first, where it has them.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from bids_sr.io import atomic_files
from bids_sr.io.dataset_description import RESULTS, dataset_of
from bids_sr.io.grids import AS_STORED, AxisOrder, inverse
from bids_sr.io.uris import template_uri
from bids_sr.pipeline.artifacts import Facts, File, entities_of_name
from bids_sr.pipeline.step import HERE, step
from bids_sr.sr.method import Cost

RECORD = "written.json"
_NOTHING: Mapping[str, str] = {}
_WITHOUT_SIDECAR = frozenset({"xfm"})
"""Kinds of which nobody asks metadata: in the data set for other programs these have none, which
spares files.
"""
Varies = Mapping[str, Sequence[str]]
"""Entities that distinguish files with a shared sidecar, with the keys that differ."""
_NOTHING_VARIES: Varies = {}


def derivative_path(entities: Mapping[str, str]) -> str:
    """Relative path of a derivative, of entities by their long names."""
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


def _full_extension(path: Path) -> str:
    """Extension of a file, ``.nii.gz`` and ``.func.gii`` as one; images are compressed."""
    name = path.name
    if name.endswith((".nii", ".nii.gz")):
        return ".nii.gz"
    return name[name.index(".") :] if name.endswith(".gii") else path.suffix


def _dimensions(path: Path) -> int:
    from bids_sr.io.nifti import SeriesReader

    with SeriesReader(path) as reader:
        return len(reader.header.get_data_shape())


def _store(source: Path, target: Path, dtype: str, order: AxisOrder, code: int) -> None:
    """Copy ``source`` to ``target`` atomically.

    A target of the same content keeps its modification time.

    `code` is that of qform and sform, which are those that niworkflows writes.
    """
    from bids_sr.io.copies import compress_series, save_reordered

    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_files.whole_file(target) as beside:
        if _full_extension(source) != ".nii.gz":
            shutil.copyfile(source, beside)
        elif _dimensions(source) == 4:
            compress_series(source, beside, dtype=dtype, order=order, code=code)
        else:
            save_reordered(source, beside, order=order, code=code)


def _write_sidecar(
    root: Path,
    entities: Mapping[str, str],
    content: Mapping[str, object],
    varies: Varies = _NOTHING_VARIES,
) -> list[Path]:
    """Write the sidecar of one file, or those that it shares with others, and return their paths.

    For shared sidecars see `Keep`.
    """
    own = derivative_path({**entities, "extension": ".json"})
    written: dict[str, Mapping[str, object]] = {}
    written.update(_shared(entities, content, varies))
    # of an earlier version; it would be taken before what is shared
    if not written or (root / own).exists():
        written[own] = content
    for path, told in written.items():
        atomic_files.write_json(root / path, told)
    return [root / path for path in written]


def _shared(
    entities: Mapping[str, str], content: Mapping[str, object], varies: Varies
) -> Iterator[tuple[str, dict[str, object]]]:
    """Sidecars that a file inherits from, by path; none where its kind shares none.

    BIDS lets one sidecar of a folder apply to a file. So one lies beside the files, named without
    the entity by which they differ, and holds what they have in common; what differs with this
    entity is in one a folder higher.
    """
    entity = next((name for name in varies if entities.get(name)), "")
    if not entity or (entities.get("space") and entities.get("res") == "hr"):
        # what maps on the fine grid of the run share would apply to such a map too, and BIDS lets
        # one apply
        return
    common = {key: value for key, value in content.items() if key not in varies[entity]}
    yield derivative_path({**entities, entity: "", "extension": ".json"}), common
    if differs := {key: value for key, value in content.items() if key in varies[entity]}:
        left_out = dict.fromkeys(("datatype", "space", "res", "stat", "desc"), "")
        yield derivative_path({**entities, **left_out, "extension": ".json"}), differs


def _sidecar_of(
    values: Mapping[str, object],
    sources: Sequence[str],
    references: Mapping[str, str],
    entities: Mapping[str, str],
) -> dict[str, object]:
    """Sidecar of one file: its own keys, then what BIDS asks for.

    Sources that a file states itself replace those of its step.
    """
    content = dict(values)
    if sources:
        content.setdefault("Sources", list(sources))
    if entities["extension"] == ".nii.gz":
        if entities["suffix"] not in {"mask", "dseg", "probseg"}:
            content.setdefault("SkullStripped", False)
        space = "+".join(filter(None, (entities.get("space", ""), entities.get("cohort", ""))))
        template = (
            "" if space in ("", "boldref", "T1w") else template_uri(space, entities.get("res", ""))
        )
        if reference := references.get(space) or template:
            content["SpatialReference"] = reference
    return content


def _is_described(entities: Mapping[str, str]) -> bool:
    """Return whether a file has a sidecar.

    The label table of a segmentation shares that of its image.
    """
    if entities["suffix"] == "dseg" and entities["extension"] == ".tsv":
        return False
    return entities["extension"] not in {".json", ".svg", ".html", ".safetensors"}


def _of_results(content: Mapping[str, object]) -> dict[str, object]:
    """Return a sidecar as in the data set for other programs.

    From there, all results are another data set.
    """

    def renamed(value: object) -> object:
        if isinstance(value, list):
            return [*map(renamed, value)]
        is_ours = isinstance(value, str) and value.startswith("bids::")
        return f"bids:{RESULTS}:{str(value).removeprefix('bids::')}" if is_ours else value

    return {
        key: renamed(value) if key in ("Sources", "SpatialReference") else value
        for key, value in content.items()
    }


def _read(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _named(path: Path) -> dict[str, str]:
    """Entities of a file whose name tells them; what is drawn lies among the figures."""
    drawn = {"datatype": "figures"} if path.suffix in {".svg", ".html"} else {}
    return {**entities_of_name(path), **drawn}


def _cost(own_entities: Mapping[str, str] | None) -> Cost:
    """A series is compressed; nothing else takes long."""
    is_series = own_entities is not None and own_entities.get("suffix") == "bold"
    return Cost(volumes=0.013) if is_series else Cost(always=0.1)


@step(makes="stored", cost=_cost)
def store(
    here: Path = HERE,
    files: Sequence[File] = (),
    sidecar: Facts | None = None,
    *,
    output_dir: Path,
    entities: Mapping[str, str],
    own_entities: Mapping[str, str] | None = None,
    own_sidecar: Mapping[str, object] = _NOTHING,
    among: list[Mapping[str, str]] | None = None,
    sources: Sequence[str] = (),
    references: Mapping[str, str] = _NOTHING,
    provenance: Mapping[str, object] = _NOTHING,
    axis_order: AxisOrder = AS_STORED,
    output_dtype: Literal["float32", "int16"] = "float32",
    datasets: Sequence[str] = (),
    in_output: bool = True,
    exported_as: Mapping[str, str] | None = None,
    varies: Mapping[str, list[str]] | None = None,
) -> list[File]:
    """Store files under their BIDS-Derivatives names.

    Unknown entities are refused, never turned into metadata.

    Images of a run that are on a grid of its own (no entity ``space``, or ``boldref``) get the
    order of axes that its input has.

    `files`: to store; none where a step had nothing to give. `entities, own_entities`: long names
    to labels, of the scope and of the artifact; where the latter are None the names of the files
    tell them. `among`: entities of the files that are stored, each a choice; None: all.
    `references`: URI of the image whose grid or frame an image has, by the entity ``space``; ""
    for none. `output_dtype`: stored type of uncompressed series. `datasets`: series of whose data
    sets for other programs the files may be. `exported_as`: what of the entities is another one in
    `datasets`, an empty label for none; None: they are not there. Returns the files that were
    stored, with those in data sets for other programs.
    """
    told_by_files = (
        [path for path in files if path.suffix == ".json"] if own_entities is None else []
    )
    beside = {path.with_suffix("").name: path for path in told_by_files}
    written, notes = [], list[Path]()
    for source in (each for each in files if each not in beside.values()):
        own = _named(source) if own_entities is None else own_entities
        if among is not None and not any(each.items() <= own.items() for each in among):
            continue
        name_entities = {**entities, **own, "extension": _full_extension(source)}
        note = beside.get(source.name)
        told = beside.get(source.name.partition(".")[0])
        given = _read(told) if told else {**own_sidecar, **(sidecar or {})}
        content = _sidecar_of(given, sources, references, name_entities) | dict(provenance)
        code = {"": 1, "boldref": 1, "T1w": 2}.get(
            name_entities.get("space", ""), 4
        )  # scanner, another image, template
        order = inverse(axis_order) if code == 1 else AS_STORED
        first: Path | None = None
        if in_output:
            if _is_described(name_entities):
                notes += _write_sidecar(
                    output_dir, name_entities, content, varies or _NOTHING_VARIES
                )
            _store(
                source,
                first := output_dir / derivative_path(name_entities),
                output_dtype,
                order,
                code,
            )
            if note is not None:
                more = {"file": first.name, "entities": dict(entities)}
                atomic_files.write_json(
                    first.with_name(f"{first.name}.json"), {**more, **_read(note)}
                )
            written.append(first)
        for series in datasets if exported_as is not None else ():
            root = dataset_of(output_dir, series)
            there = {**name_entities, **(exported_as or {})}
            if "space" in name_entities or there["suffix"] not in _WITHOUT_SIDECAR:
                # one for all tissues
                all_labels = {**there, "label": ""} if there["suffix"] == "probseg" else there
                notes += _write_sidecar(root, all_labels, _of_results(content))
            written.append(target := root / derivative_path(there))
            if first is None:
                _store(source, first := target, output_dtype, order, code)
            else:
                atomic_files.link_whole(first, target)
    (here / RECORD).write_text(json.dumps([str(path) for path in (*written, *notes)]))
    return written
