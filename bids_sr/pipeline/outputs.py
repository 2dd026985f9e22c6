"""Stored files of a workflow: `Outputs.keep` beside the call of the step that makes it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Literal

from bids_sr.config.levels import Level, reaches
from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder
from bids_sr.pipeline.artifacts import Derivative, Facts
from bids_sr.pipeline.flow import current_flow
from bids_sr.pipeline.nodes import Handle

_NOTHING: Mapping[str, object] = {}
_NO_KEYS: Mapping[str, Sequence[str]] = {}


@frozen
class Outputs:
    """Where and how what a part of a workflow makes is stored.

    Outside a `bids_sr.pipeline.flow.Flow` nothing is stored.

    Parameters
    ----------
    output_dir : Path
        Folder of all results.
    figures_dir : Path | None
        Folder that figures are written to; None: `output_dir`.
    entities : Mapping[str, str]
        Entities that all files have in common, long names to labels.
    level : Level
        How much is stored (``--level``).
    provenance : Mapping[str, object]
        Keys of sidecars that say what made a table.
    axis_order : AxisOrder
        Order of the axes of the input, which stored images on its grid get back.
    dtype : Literal['float32', 'int16']
        Stored type of series.
    datasets : Sequence[str]
        Series that have data sets for other programs.
    references : Mapping[str, object]
        Image that has the grid or frame of stored images, by the label of their space; "" for the
        acquired run or image itself.
    """

    output_dir: Path
    figures_dir: Path | None = None
    entities: Mapping[str, str] = field(default_factory=dict)
    level: Level = "standard"
    provenance: Mapping[str, object] = field(default_factory=dict)
    axis_order: AxisOrder = AS_STORED
    dtype: Literal["float32", "int16"] = "float32"
    datasets: Sequence[str] = ()
    references: Mapping[str, object] = field(default_factory=dict)

    def with_references(
        self, *, own: object = None, t1w: object = None, boldref: object = None
    ) -> "Outputs":
        """Return outputs that know further images as spatial references.

        Parameters
        ----------
        own : object, optional
            Handle of the image that has the grid of files without a space.
        t1w : object, optional
            Handle of the T1w image.
        boldref : object, optional
            Handle of the boldref in whose space the maps of several runs are combined.

        Returns
        -------
        Outputs
            The same with these images.
        """
        images = {"": own, "T1w": t1w, "boldref": boldref}
        known = {space: image for space, image in images.items() if image is not None}
        return replace(self, references={**self.references, **known})

    def keep(
        self,
        artifact: object,
        entities: Mapping[str, str] | None = None,
        *,
        sidecar: Mapping[str, object] = _NOTHING,
        facts: Facts | None = None,
        provenance: bool = False,
        level: Level = "standard",
        exported_as: Mapping[str, str] | None = None,
        exported_only: bool = False,
        among: Iterable[Mapping[str, str]] | None = None,
        varies: Mapping[str, Sequence[str]] = _NO_KEYS,
    ) -> None:
        """Store what a step makes.

        Parameters
        ----------
        artifact : object
            Handle of a file or of several.
        entities : Mapping[str, str] | None, optional
            Entities of the file, long names to labels; None: the names of the files tell them.
        sidecar : Mapping[str, object], optional
            Metadata.
        facts : Facts | None, optional
            Metadata that are known only when the step has run.
        provenance : bool, default=False
            Whether the sidecar says what made the file.
        level : Level, default="standard"
            Lowest level of storage (``--level``) that has the file among all results.
        exported_as : Mapping[str, str] | None, optional
            Entities that differ in the data sets for other programs, "" for none; None: the file
            is not there.
        exported_only : bool, default=False
            Whether it is stored only in the data sets for other programs.
        among : Iterable[Mapping[str, str]] | None, optional
            Entities of the files to store, each a choice; None: all.
        varies : Mapping[str, Sequence[str]], optional
            Entities that distinguish files with a shared sidecar, each with the keys that differ
            with it. These keys go to a sidecar a folder higher.
        """
        choices = None if among is None else [dict(choice) for choice in among]
        in_output = reaches(self.level, level) and choices != []
        if exported_only:
            in_output, exported_as = False, exported_as or {}
        if not in_output and exported_as is None:
            return
        settings: dict[str, object] = {
            "own_entities": None if entities is None else dict(entities),
            "in_output": in_output,
            "output_dir": self.output_dir,
            "own_sidecar": dict(sidecar),
            "exported_as": None if exported_as is None else dict(exported_as),
            "among": choices,
            "varies": {name: list(keys) for name, keys in varies.items()} or None,
            "provenance": dict(self.provenance) if provenance else {},
        }
        self._store(artifact, settings, facts)

    def keep_figures(self, drawn: list[Derivative]) -> None:
        """Store what a step of a figure has drawn, for the report.

        Parameters
        ----------
        drawn : list[Derivative]
            Handle of the figures.
        """
        settings: dict[str, object] = {
            "own_entities": None,
            "in_output": True,
            "output_dir": self.figures_dir or self.output_dir,
            "own_sidecar": {},
            "provenance": {},
        }
        self._store(drawn, settings, None)

    def _store(
        self, artifact: object, settings: Mapping[str, object], facts: Facts | None
    ) -> None:
        flow = current_flow()
        if flow is None or not isinstance(artifact, Handle):
            return
        common = {
            "entities": dict(self.entities),
            "axis_order": self.axis_order,
            "output_dtype": self.dtype,
            "datasets": self.datasets,
        }
        references = {
            space: image for space, image in self.references.items() if isinstance(image, Handle)
        }
        flow.store(
            artifact,
            {**common, **settings},
            facts=facts if isinstance(facts, Handle) else None,
            references=references,
        )
