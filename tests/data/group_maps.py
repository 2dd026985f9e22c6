"""Write participants' maps in small made-up grids or in a template space, and plan group maps."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_sr.cli import main
from bids_sr.cli.group_level import find_group_inputs
from bids_sr.config import Settings
from bids_sr.engine.metric_rows import MetricRow, table_text
from bids_sr.group.input_maps import DerivativeMaps
from bids_sr.group.level import RunsGroup
from bids_sr.group.map_plan import GroupMembers, MapPlan, plan_maps
from bids_sr.group.output_files import GroupNames
from bids_sr.group.template_sampling import Target, load_target
from bids_sr.io.nifti import load_image, save_image
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.transforms import voxel_centers
from data.group_tables import FACTS

SPACE = "MNI152NLin2009aSym"
AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
AFFINE[:3, 3] = [-40, -60, 20]
SHAPE = (20, 22, 8)
HR_AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
HR_AFFINE[:3, 3] = [-41, -61, 20]


def plan_of(maps: DerivativeMaps, series: Sequence[str] = ("acquired",)) -> MapPlan:
    """Return the plan of group maps of all participants who have maps."""
    labels = sorted({run.participant for run in (*maps.runs, *maps.combined)})
    members = GroupMembers(
        labels=labels,
        outsiders=(),
        with_tables=frozenset(labels),
        runs_at_rest=frozenset(),
        component_names=("component1", "component2", "component3"),
        unequal={},
        weights={},
        uncombined={},
    )
    return plan_maps(maps, maps, members, series=series, names=GroupNames())


def write_unit(root: Path, unit: str) -> None:
    """Write the unit of all maps below a folder that have no sidecar of their own."""
    (root / "statmap.json").write_text(json.dumps({"Units": unit}))


def write_run(
    root: Path, name: str, seed: int, *, xfm: np.ndarray | None = None, gain: float = 1.0
) -> None:
    """Write mask, boldref, transforms and maps (effect and t, acquired and sbl) of a run.

    Activation is the same in all runs. `gain` is the gain of the scanner, which does not change
    effects in percent.
    """
    root.mkdir(parents=True, exist_ok=True)
    write_unit(root, "percent")
    rng = np.random.default_rng(seed)
    sub = name.split("_")[0]
    func, anat = root / sub / "func", root / sub / "anat"
    func.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:-2, 2:-2, 1:-1] = True
    save_image(mask, AFFINE, func / f"{name}_space-boldref_label-brain_desc-acquired_mask.nii.gz")
    save_image(np.where(mask, 500.0 * gain, 3.0), AFFINE, func / f"{name}_desc-hmc_boldref.nii.gz")
    write_transforms(func / name, anat, xfm)
    for series, grid, shape, res in (
        ("acquired", AFFINE, SHAPE, ""),
        ("sbl", HR_AFFINE, (40, 44, 8), "_res-hr"),
    ):
        effect = (rng.normal(0, 0.2, shape) + 0.1).astype(np.float32)
        effect[tuple(n // 2 for n in shape)] += 4
        noise = np.full(shape, 0.2 if seed % 2 else 0.4, dtype=np.float32)
        for stat, values in (("effect", effect), ("t", effect / noise)):
            save_image(
                values,
                grid,
                func / f"{name}_space-boldref{res}_contrast-all_stat-{stat}"
                f"_desc-{series}Fwhm50_statmap.nii.gz",
            )


def short_name(run: str, over_sessions: bool) -> str:
    """Return the name of a run in the sidecars of combined maps, such as ``ses-a_run-1``."""
    keys = ("ses-", "run-") if over_sessions else ("run-",)
    return "_".join(part for part in run.split("_") if part.startswith(keys))


def write_combined(
    root: Path,
    sub: str,
    reference: str,
    runs: list[str],
    *,
    over_sessions: bool = False,
    shift: float = 0,
    left_out: tuple[str, ...] = (),
) -> None:
    """Write the map of all runs as the mean of the maps of the runs (acquired and sbl).

    `reference`: run whose boldref is the frame; `over_sessions`: whether runs are of several
    sessions; `shift`: added constant (percent) that identifies a stored map; `left_out`: names of
    excluded runs.
    """
    func = root / sub / "func"
    func.mkdir(parents=True, exist_ok=True)
    for series, res in (("acquired", ""), ("sbl", "_res-hr")):
        for stat in ("effect", "t"):
            ending = f"{res}_contrast-all_stat-{stat}_desc-{series}Fwhm50_statmap"
            names = [f"{run}_space-boldref{ending}.nii.gz" for run in runs]
            paths = [next(root.glob(f"{sub}/**/{name}")) for name in names]
            images = [load_image(path) for path in paths]
            values = np.mean([data for data, _ in images], axis=0) + shift
            name = f"{sub}_task-tap_space-firstBoldref{ending}"
            save_image(values, images[0][1], func / f"{name}.nii.gz")
            boldref = next(root.glob(f"{sub}/**/{reference}_desc-hmc_boldref.nii.gz"))
            sidecar = {
                "SpatialReference": f"bids::{boldref.relative_to(root).as_posix()}",
                "Sources": [f"bids::{path.relative_to(root).as_posix()}" for path in paths],
                "RunWeights": {short_name(run, over_sessions): 1 / len(runs) for run in runs},
                "RunsLeftOut": dict.fromkeys(left_out, "other contrast weights"),
                "Units": "percent",
            }
            shared_name = f"{sub}_task-tap_space-firstBoldref{res}_desc-{series}Fwhm50_statmap"
            (func / f"{shared_name}.json").write_text(json.dumps(sidecar))


def small_target(space: str = SPACE) -> Target:
    """Return a made-up template of 6 × 5 × 4 voxels without a brain mask."""
    shape = (6, 5, 4)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    everywhere = np.ones(shape, dtype=bool)
    return Target(
        space=space,
        shape=shape,
        affine=affine,
        mask=everywhere,
        background=np.ones(shape, dtype=np.float32),
        points=voxel_centers(everywhere, affine),
    )


FRAME = np.array([[20.0, 0, 0, -90], [0, 20, 0, -120], [0, 0, 20, -10], [0, 0, 0, 1]])
FRAME_SHAPE = (10, 12, 3)
"""Grid of the boldrefs of a `Study`, which contains its slices of the template."""


def write_transforms(stem: Path, anat: Path, xfm: np.ndarray | None = None) -> None:
    """Write the transforms of a run to T1w, identity by default, and of T1w to the template."""
    import ants

    write_itk(
        stem.with_name(f"{stem.name}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"),
        np.eye(4) if xfm is None else xfm,
    )
    anat.mkdir(parents=True, exist_ok=True)
    affine = ants.create_ants_transform(transform_type="AffineTransform", dimension=3)
    name = f"{anat.parent.name}_from-T1w_to-{SPACE}_mode-image_xfm.h5"
    ants.write_transform(affine, str(anat / name))


def write_frame(stem: Path, affine: np.ndarray, shape: tuple[int, ...]) -> None:
    """Write the brain mask and the boldref (1000) of a run."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    mask = np.ones(shape, dtype=bool)
    mask_name = f"{stem.name}_space-boldref_label-brain_desc-acquired_mask.nii.gz"
    save_image(mask, affine, stem.with_name(mask_name))
    boldref = np.full(shape, 1000, dtype=np.float32)
    save_image(boldref, affine, stem.with_name(f"{stem.name}_desc-hmc_boldref.nii.gz"))


def map_path(
    stem: Path, contrast: str, series: str = "acquired", space: str = f"_space-{SPACE}_res-2"
) -> Path:
    """Return the file of an unsmoothed effect map of a run.

    `space`: entities of the template space; "" for the space of the boldref.
    """
    name = f"{stem.name}{space}_contrast-{contrast}_stat-effect_desc-{series}_statmap"
    return stem.with_name(f"{name}.nii.gz")


def save_quickly(values: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write an image with little compression, which is faster for templates."""
    import gzip

    data = nib.Nifti1Image(values.astype(np.float32), affine).to_bytes()
    path.write_bytes(gzip.compress(data, compresslevel=1))


class Study:
    """Data set with folders but without images, and outputs of its participants.

    Effect maps are unsmoothed. They are stored in the space of a template, in ten slices, unless
    `write_run` stores them in the space of the boldref. The boldref is 1000.
    """

    def __init__(self, root: Path, labels: Sequence[str] = ("01", "02", "03", "04")) -> None:
        self.data, self.out = root / "in", root / "out"
        self.participants = [f"sub-{label}" for label in labels]
        self.out.mkdir(parents=True)
        write_unit(self.out, "percent")
        for participant in self.participants:
            (self.data / participant).mkdir(parents=True)
        self.list_participants(self.participants)

    def list_participants(self, participants: Sequence[str]) -> None:
        """Write ``participants.tsv``."""
        rows = "".join(f"{participant}\n" for participant in participants)
        (self.data / "participants.tsv").write_text(f"participant_id\n{rows}")

    def stem(self, participant: str, run: str = "task-tap", session: str = "") -> Path:
        """Return the folder and the start of the names of a run's outputs."""
        folder = self.out / participant / session / "func"
        return folder / "_".join(filter(None, [participant, session, run]))

    def write_run(
        self,
        participant: str,
        effects: Mapping[str, float | np.ndarray],
        *,
        run: str = "task-tap",
        session: str = "",
        weights: Mapping[str, Mapping[str, float]] | None = None,
        at_rest: bool = False,
        slices: slice = slice(40, 50),
        series: Sequence[str] = ("acquired",),
        in_template: bool = True,
    ) -> Path:
        """Write the outputs of a run, and return the folder and the start of their names.

        Parameters
        ----------
        participant : str
            Label with ``sub-``.
        effects : Mapping[str, float | np.ndarray]
            Effects in percent by contrast.
        run, session : str
            Parts of the names.
        weights : Mapping[str, Mapping[str, float]], optional
            Weights of the trial types by contrast; without them, the contrasts are trial types.
        at_rest : bool
            Whether seeds replace events.
        slices : slice
            Slices of the template with values.
        series : Sequence[str]
            Series with a map of each contrast.
        in_template : bool
            Whether maps are stored in the template space; otherwise in the space of the boldref,
            with transforms to the template.
        """
        stem = self.stem(participant, run, session)
        write_frame(stem, FRAME, FRAME_SHAPE)
        if in_template:
            target = load_target(SPACE)
            affine, space, inside = target.affine, f"_space-{SPACE}_res-2", target.mask.copy()
            inside[:, :, : slices.start] = inside[:, :, slices.stop :] = False
        else:
            write_transforms(stem, self.out / participant / "anat")
            affine, space, inside = FRAME, "", np.ones(FRAME_SHAPE, dtype=bool)
        for contrast, percent in effects.items():
            values = np.where(inside, np.asarray(percent), 0)
            for name in series:
                save_quickly(values, affine, map_path(stem, contrast, name, space))
        row = MetricRow(series="acquired", statistic="dof", value=44.0)
        table = stem.with_name(f"{stem.name}_desc-activation_metrics.tsv")
        table.write_text(table_text([row]))
        if weights is None:
            weights = {contrast: {contrast: 1.0} for contrast in effects}
        facts = {**FACTS, "ContrastWeights": weights}
        table.with_suffix(".json").write_text(
            json.dumps(facts | ({"MappedBy": "seeds"} if at_rest else {}))
        )
        return stem

    def find(self, selection: Mapping[str, object] | None = None) -> RunsGroup:
        """Return the inputs of a call, as for a dry run; `selection` as in the settings."""
        paths = {"bids_dir": self.data, "output_dir": self.out}
        settings = Settings.from_mapping({"paths": paths, "selection": selection or {}})
        inputs = find_group_inputs(settings)
        assert isinstance(inputs, RunsGroup)
        return inputs

    def call(self, *options: str) -> int:
        """Run the group level and return its exit code."""
        return main.main([str(self.data), str(self.out), "group", *options])

    def page(self, name: str = "group.html") -> str:
        """Return the text of the page without tags, scripts and figures."""
        html = re.sub(r"(?s)<(script|style|svg).*?</\1>", " ", (self.out / name).read_text())
        return " ".join(re.sub("<[^>]+>", " ", html).split())

    def files(self) -> dict[str, bytes]:
        """Return the contents of the results of the group level, without the index and logs."""
        paths = [*self.out.glob("group*"), *self.out.glob("group/**/*")]
        return {
            path.relative_to(self.out).as_posix(): path.read_bytes()
            for path in paths
            if path.is_file()
        }


def mean_value(image: Path) -> float:
    """Return the mean of the voxels that are not 0."""
    values, _ = load_image(image)
    return float(values[values != 0].mean())


def read_sidecar(image: Path) -> dict[str, object]:
    """Return the sidecar next to an image."""
    return json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
