"""Stored files of a workflow: `Outputs.store` next to the call of the step that computes them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Literal

from bids_sr.engine.artifacts import Derivative, Facts
from bids_sr.engine.flow import current_flow
from bids_sr.engine.nodes import Handle
from bids_sr.engine.storage_level import StorageLevel, reaches
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, BOLDREF, FIRST_BOLDREF, AxisOrder

_NO_METADATA: Mapping[str, object] = {}


@frozen
class Outputs:
    """Location and form of the stored outputs of a part of a workflow.

    Outside a `bids_sr.engine.flow.Flow`, nothing is stored.

    Parameters
    ----------
    output_dir : Path
        Output directory of the call.
    entities : Mapping[str, str]
        Entities that all files have in common, long names to labels.
    level : StorageLevel
        Storage level (``--level``).
    provenance : Mapping[str, object]
        Sidecar keys that describe how a table was computed.
    axis_order : AxisOrder
        Axis order of the input, which is restored in stored images on its grid.
    dtype : Literal['float32', 'int16']
        Data type of stored series.
    datasets : Sequence[str]
        Series with a data set for other programs.
    with_series : bool
        Whether series (suffix ``bold``) are stored.
    references : Mapping[str, object]
        Image with the grid or frame of stored images, by the label of their space; "" for the
        acquired run or image itself.
    """

    output_dir: Path
    entities: Mapping[str, str] = field(default_factory=dict)
    level: StorageLevel = "standard"
    provenance: Mapping[str, object] = field(default_factory=dict)
    axis_order: AxisOrder = AS_STORED
    dtype: Literal["float32", "int16"] = "float32"
    datasets: Sequence[str] = ()
    with_series: bool = True
    references: Mapping[str, object] = field(default_factory=dict)

    def with_references(
        self,
        *,
        own: object = None,
        t1w: object = None,
        boldref: object = None,
        first_boldref: object = None,
    ) -> "Outputs":
        """Return outputs with further images as spatial references.

        Parameters
        ----------
        own : object, optional
            Handle of the image with the grid of files without a space.
        t1w : object, optional
            Handle of the T1w image.
        boldref : object, optional
            Handle of the boldref of the run.
        first_boldref : object, optional
            Handle of the boldref in whose space the maps of several runs are combined.

        Returns
        -------
        Outputs
            Copy with these images.
        """
        images = {"": own, "T1w": t1w, BOLDREF: boldref, FIRST_BOLDREF: first_boldref}
        new_references = {space: image for space, image in images.items() if image is not None}
        return replace(self, references={**self.references, **new_references})

    def store(
        self,
        artifact: object,
        entities: Mapping[str, str] | None = None,
        *,
        sidecar: Mapping[str, object] = _NO_METADATA,
        facts: Facts | None = None,
        provenance: bool = False,
        level: StorageLevel = "standard",
        exported_as: Mapping[str, str] | None = None,
        exported_only: bool = False,
        among: Iterable[Mapping[str, str]] | None = None,
        left_out: Facts | None = None,
        awaited: bool = False,
    ) -> None:
        """Store the output of a step.

        Parameters
        ----------
        artifact : object
            Handle of one or several files, or a list of such handles (`flow.concatenate`).
        entities : Mapping[str, str] | None, optional
            Entities of the file, long names to labels; None if the file names contain them.
        sidecar : Mapping[str, object], optional
            Metadata.
        facts : Facts | None, optional
            Metadata that are only known after the step has run.
        provenance : bool, default=False
            Whether the sidecar describes how the file was computed.
        level : StorageLevel, default="standard"
            Lowest storage level (``--level``) that includes the file.
        exported_as : Mapping[str, str] | None, optional
            Entities that differ in the data sets for other programs, "" to omit an entity. If
            None, these data sets do not contain the file.
        exported_only : bool, default=False
            Whether the file is only stored in the data sets for other programs.
        among : Iterable[Mapping[str, str]] | None, optional
            Alternative sets of entities that select the files to store. If None, all files are
            stored.
        left_out : Facts | None, optional
            Sets of entities (value of the key `LEFT_OUT`) of files that are not stored, which are
            only known after other steps have run.
        awaited : bool, default=False
            Whether the files are stored before steps that no awaited result depends on.
        """
        alternatives = None if among is None else [dict(entity_set) for entity_set in among]
        is_omitted = not self.with_series and (entities or {}).get("suffix") == "bold"
        in_output = reaches(self.level, level) and alternatives != [] and not is_omitted
        if exported_only:
            in_output, exported_as = False, exported_as or {}
        if not in_output and (exported_as is None or not self.datasets):
            return
        flow = current_flow()
        artifacts = artifact if isinstance(artifact, list) else [artifact]
        handles = [item for item in artifacts if isinstance(item, Handle)]
        if flow is None or not handles:
            return
        metadata: dict[str, object] = {"sidecar": facts, "left_out": left_out}
        flow.store(
            handles,
            {
                "output_dir": self.output_dir,
                "entities": dict(self.entities),
                "own_entities": None if entities is None else dict(entities),
                "own_sidecar": dict(sidecar),
                "among": alternatives,
                "provenance": dict(self.provenance) if provenance else {},
                "axis_order": self.axis_order,
                "output_dtype": self.dtype,
                "datasets": self.datasets,
                "in_output": in_output,
                "exported_as": None if exported_as is None else dict(exported_as),
                "awaited": awaited,
            },
            facts={name: item for name, item in metadata.items() if isinstance(item, Handle)},
            references={
                space: image
                for space, image in self.references.items()
                if isinstance(image, Handle)
            },
        )

    def store_metrics(self, table: object, desc: str, columns: Facts | None = None) -> None:
        """Store a table of metrics, at every storage level.

        `table` is its handle, and `columns` the descriptions of its columns.
        """
        entities = {"desc": desc, "suffix": "metrics"}
        self.store(table, entities, facts=columns, provenance=True, level="minimal")

    def store_figures(self, figures: list[Derivative], *, awaited: bool = False) -> None:
        """Store the drawings of a figure step for the report, at every storage level.

        Parameters
        ----------
        figures : list[Derivative]
            Handle of the figures.
        awaited : bool, default=False
            Whether they are stored early; see `store`.
        """
        self.store(figures, level="minimal", awaited=awaited)
