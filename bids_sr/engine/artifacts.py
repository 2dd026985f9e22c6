"""Kinds of artifacts that steps exchange, as values in memory and as files on disk.

A kind is the annotation of a parameter or return value. It saves the value to a file and loads it,
so that steps need not do so. This module defines general kinds, such as images and tables. Types
of a subject define in their own module how they are stored: a class derives from `Artifact`, and
other types are annotated with a kind of their module.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Self, TypeVar, cast

from bids_sr.engine import metric_rows
from bids_sr.engine.metric_rows import MetricRow, VerdictFacts
from bids_sr.io.atomic_files import link_or_copy, write_json, write_text
from bids_sr.io.json_records import record_from_json, record_to_json
from bids_sr.io.tables import read_frame
from bids_sr.io.volume import Volume

if TYPE_CHECKING:
    import pandas as pd

    from bids_sr.io.nifti import SeriesReader

_T = TypeVar("_T")
Content = Mapping[str, object]
"""Content of a JSON file."""


class ArtifactKind(Generic[_T]):
    """Storage of values in files; this base class stores a file whose path is the value.

    A kind `is_light` if its files are small, and `is_figure` if they are figures, not data.
    `stored_extension` is the extension of a stored derivative; "" if it depends on the value.
    `value_type` distinguishes kinds of the same class; None if the class has a single kind.
    """

    is_light: ClassVar[bool] = False
    stored_extension: ClassVar[str] = ""
    is_figure: ClassVar[bool] = False
    value_type: object = None

    @property
    def name(self) -> str:
        """Name of the kind in annotations of steps, for messages."""
        return type(self).__name__.strip("_").replace("Kind", "")

    def accepts(self, other: "ArtifactKind[Any]") -> bool:
        """Return whether a value of another kind is a value of this kind."""
        types = {self.value_type, other.value_type} - {None}
        return len(types) < 2 and (isinstance(other, type(self)) or isinstance(self, type(other)))

    def load(self, path: Path) -> _T:
        """Return the value of a file."""
        return cast("_T", path)

    def save(self, value: _T, _stem: Path) -> Path | list[Path]:
        """Save a value under a stem and the extension of its kind, and return its file(s).

        For a plain file, `value` is its path.
        """
        return Path(str(value))

    def is_sidecar(self, _path: Path) -> bool:
        """Return whether a saved file only accompanies another file, and is not a value."""
        return False


File = Annotated[Path, ArtifactKind()]


class Artifact(ABC):
    """Base class of values that save and load themselves; the class is the annotation."""

    __slots__ = ()

    @abstractmethod
    def save(self, stem: Path) -> Path:
        """Save the value under a stem and the extension of its class, and return the file."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """Return the value in a file of `save`."""


@dataclass(frozen=True)
class ClassKind(ArtifactKind[Artifact]):
    """Kind of the values of a class that derives from `Artifact`."""

    value_type: type[Artifact]

    @property
    def name(self) -> str:
        return self.value_type.__name__

    def load(self, path: Path) -> Artifact:
        return self.value_type.load(path)

    def save(self, value: Artifact, stem: Path) -> Path:
        return value.save(stem)


@dataclass(frozen=True)
class _VolumeKind(ArtifactKind[Volume]):
    """Image, saved without compression.

    Files in the folders of steps have another `extension`, because compression takes longer than
    writing.
    """

    stored_extension: ClassVar[str] = ".nii.gz"
    extension: str = ".nii"

    def load(self, path: Path) -> Volume:
        from bids_sr.io.nifti import SeriesReader, load_image

        return Volume(*load_image(path), SeriesReader(path).header)

    def save(self, value: Volume, stem: Path) -> Path:
        from bids_sr.io.nifti import save_image

        path = stem.with_name(stem.name + self.extension)
        save_image(value.data, value.affine, path, header_like=value.header, dtype=value.dtype)
        return path


Image = Annotated[Volume, _VolumeKind()]


@dataclass(frozen=True, slots=True, eq=False)
class Derivative:
    """Map, region, figure or HTML fragment, with its entities and metadata.

    `content` is a `Volume`, a figure, or HTML. After storage, it is the path of the file, so that
    a list of maps takes no memory.
    """

    content: object
    entities: Mapping[str, str]
    sidecar: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """File name without extension, which consists of the entities."""
        pairs = [f"{key}-{label}" for key, label in self.entities.items() if key != "suffix"]
        return "_".join([*pairs, self.entities["suffix"]])

    @property
    def volume(self) -> Volume:
        """Volume of the map, loaded if it is a file."""
        if isinstance(self.content, Path):
            return _VolumeKind().load(self.content)
        if isinstance(self.content, Volume):
            return self.content
        raise TypeError(f"{dict(self.entities)}: not a volume")

    @property
    def voxels(self) -> Any:
        """Voxel values for indexing; only the indexed values of a file are read."""
        if isinstance(self.content, Path):
            import nibabel as nib

            return nib.Nifti1Image.from_filename(self.content).dataobj
        return self.volume.data

    def save_content(self, stem: Path) -> Path:
        """Save the content under a stem, unless it is a file, and return its file."""
        if isinstance(self.content, Path):
            return self.content
        if isinstance(self.content, str):
            (path := stem.with_suffix(".html")).write_text(self.content, encoding="utf-8")
            return path
        return _VolumeKind().save(self.volume, stem)


class _DerivativesKind(ArtifactKind[Derivative]):
    """Volume, figure or HTML file with its sidecar; the file name consists of the entities."""

    def load(self, path: Path) -> Derivative:
        entities = read_entities(path)
        sidecar = path.with_name(path.name.partition(".")[0] + ".json")
        return Derivative(path, entities, _FactsKind().load(sidecar) if sidecar.exists() else {})

    def is_sidecar(self, path: Path) -> bool:
        return path.suffix == ".json"

    def save(self, value: Derivative, stem: Path) -> list[Path]:
        stem = stem.with_name(value.name)
        return [
            value.save_content(stem),
            *([_FactsKind().save(dict(value.sidecar), stem)] if value.sidecar else []),
        ]


Map = Annotated[Derivative, _DerivativesKind()]


def read_entities(path: Path) -> dict[str, str]:
    """Return the entities in a file name that `Derivative.name` has formed."""
    *pairs, suffix = path.name.partition(".")[0].split("_")
    return dict(pair.split("-", 1) for pair in pairs) | {"suffix": suffix}


class _FactsKind(ArtifactKind[Content]):
    """Content of a JSON file."""

    is_light, stored_extension = True, ".json"

    def load(self, path: Path) -> Content:
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def save(self, value: Content, stem: Path) -> Path:
        if isinstance(value, Path):  # file that the step has written
            return value
        return write_json(stem.with_suffix(".json"), value)


Facts = Annotated[Content, _FactsKind()]
Verdict = Annotated[VerdictFacts, _FactsKind()]


class _SeriesKind(ArtifactKind["SeriesReader"]):
    """Series that is read volume by volume; a step writes its file and returns a reader."""

    stored_extension = ".nii.gz"

    def load(self, path: Path) -> "SeriesReader":
        from bids_sr.io.nifti import SeriesReader

        return SeriesReader(path)

    def save(self, value: "SeriesReader", stem: Path) -> Path:
        value.close()
        if value.path.is_relative_to(stem.parent):
            return value.path
        # the file of an earlier step, which is dropped after the last step that reads it
        path = stem.with_name(stem.name + "".join(value.path.suffixes[-2:]))
        link_or_copy(value.path, path)
        return path


Series = Annotated["SeriesReader", _SeriesKind()]


class _MaskKind(_VolumeKind):
    """Volume whose values are booleans in memory."""

    def load(self, path: Path) -> Volume:
        volume = super().load(path)
        return volume.like(volume.data > 0.5)


Mask = Annotated[Volume, _MaskKind()]


class _MetricsKind(ArtifactKind[list["MetricRow"]]):
    """Rows of a metrics table; see `bids_sr.engine.metric_rows`."""

    is_light, stored_extension = True, ".tsv"

    def load(self, path: Path) -> list["MetricRow"]:
        return metric_rows.read_table(path)

    def save(self, value: list["MetricRow"], stem: Path) -> Path:
        (path := stem.with_suffix(".tsv")).write_text(
            metric_rows.table_text(value), encoding="utf-8"
        )
        return path


Rows = Annotated[list["MetricRow"], _MetricsKind()]


@dataclass(frozen=True)
class RecordKind(ArtifactKind[_T]):
    """Frozen record, or records in a tuple, as JSON."""

    is_light: ClassVar[bool] = True
    value_type: object

    def load(self, path: Path) -> _T:
        content = json.loads(path.read_text(encoding="utf-8"))
        return cast("_T", record_from_json(content, self.value_type))

    def save(self, value: _T, stem: Path) -> Path:
        text = json.dumps(record_to_json(value), ensure_ascii=False)
        return write_text(stem.with_suffix(".json"), text)


class _FiguresKind(_DerivativesKind):
    """Figure with a JSON file that describes it.

    The figures of a participant are listed by means of these files.
    """

    is_light, is_figure = True, True

    def save(self, value: Derivative, stem: Path) -> list[Path]:
        path = value.save_content(stem.with_name(value.name))
        return [path, write_json(path.with_name(f"{path.name}.json"), dict(value.sidecar))]


Figure = Annotated[Derivative, _FiguresKind()]


@dataclass(frozen=True)
class _TableKind(ArtifactKind["pd.DataFrame"]):
    """Table as TSV, with all digits or a given number of digits."""

    is_light, stored_extension = True, ".tsv"
    digits: str | None = None

    def load(self, path: Path) -> "pd.DataFrame":
        return read_frame(path)

    def save(self, value: "pd.DataFrame", stem: Path) -> Path:
        if isinstance(value, Path):  # file that the step has written
            return value
        value.to_csv(
            path := stem.with_suffix(".tsv"),
            sep="\t",
            index=False,
            na_rep="n/a",
            float_format=self.digits,
        )
        return path


Table = Annotated["pd.DataFrame", _TableKind()]
ShortTable = Annotated["pd.DataFrame", _TableKind(digits="%.6g")]
Confounds = Annotated["pd.DataFrame", _TableKind(digits="%.9g")]
