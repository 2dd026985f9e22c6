"""Write fMRIPrep derivatives (versions 20.0 to 26) of a data set.

Transforms and motion parameters are written by nitransforms and antspyx rather than by this
program, so that tests read files of another program. File names are from the lists of outputs in
the tests of each fMRIPrep version.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nb
import numpy as np

if TYPE_CHECKING:
    from data.dataset import BidsMaker

SPACE = "MNI152NLin2009cAsym"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rigid(x: float = 0, y: float = 0, z: float = 0, yaw: float = 0) -> np.ndarray:
    """Return a 4x4 RAS matrix (mm): a rotation about z through the origin (rad), then a
    translation.
    """
    out = np.eye(4)
    out[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    out[:3, 3] = x, y, z
    return out


def write_linear(path: Path, matrices: np.ndarray | Sequence[np.ndarray]) -> None:
    """Write RAS matrices that take points of the target to the source, as ITK text, by
    nitransforms.
    """
    from nitransforms.linear import Affine, LinearTransformsMapping

    path.parent.mkdir(parents=True, exist_ok=True)
    transforms = np.asarray(matrices)
    if transforms.ndim == 2:
        Affine(transforms).to_filename(str(path), fmt="itk")
    else:
        LinearTransformsMapping(transforms).to_filename(str(path), fmt="itk")


def fsl_parameters(motion: np.ndarray, reference: np.ndarray, image: Any) -> np.ndarray:
    """Return translations (mm) and rotations (rad) that MCFLIRT would report.

    nitransforms converts the transforms to FSL's coordinates.
    """
    from nitransforms.io.fsl import FSLLinearTransformArray
    from scipy import ndimage
    from scipy.spatial.transform import Rotation

    grid = nb.Nifti1Image(reference, image.affine)
    center = np.array(ndimage.center_of_mass(reference))
    if np.linalg.det(image.affine[:3, :3]) > 0:
        center[0] = reference.shape[0] - 1 - center[0]
    center *= grid.header.get_zooms()[:3]
    fsl_transforms = FSLLinearTransformArray.from_ras(
        np.asarray(motion), reference=grid, moving=grid
    )
    matrices = np.stack([xfm["parameters"] for xfm in fsl_transforms.xforms])
    shifts = matrices[:, :3, 3] + matrices[:, :3, :3] @ center - center
    return np.column_stack(
        [shifts, Rotation.from_matrix(matrices[:, :3, :3].transpose(0, 2, 1)).as_euler("xyz")]
    )


def write_composite(path: Path, matrix: np.ndarray) -> None:
    """Write an affine as a composite ITK transform in HDF5, as antsRegistration does."""
    import ants

    path.parent.mkdir(parents=True, exist_ok=True)
    itk = LPS @ matrix @ LPS
    affine = ants.create_ants_transform(
        transform_type="AffineTransform",
        precision="double",
        matrix=itk[:3, :3],
        translation=itk[:3, 3],
    )
    ants.write_transform(ants.compose_ants_transforms([affine]), str(path))


def _json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii").rpartition("_")[0]


class FmriprepMaker:
    """Writer of one folder of derivatives.

    Every method overwrites its earlier files, so that a test can damage a single file.
    """

    def __init__(self, root: Path, version: str = "24.1.1") -> None:
        self.root = root
        major, minor = version.split(".")[:2]
        self.version = int(major), int(minor)
        generator = {"Name": "fMRIPrep", "Version": version}
        _json(
            root / "dataset_description.json",
            {
                "Name": "fMRIPrep - fMRI PREProcessing workflow",
                "BIDSVersion": "1.4.0",
                "DatasetType": "derivative",
                **(
                    {"PipelineDescription": generator}
                    if self.version < (20, 2)
                    else {"GeneratedBy": [generator]}
                ),
            },
        )

    def _folder(self, source: Path, kind: str) -> Path:
        labels = dict(part.split("-", 1) for part in source.name.split("_") if "-" in part)
        parts = [f"sub-{labels['sub']}"] + ([f"ses-{labels['ses']}"] if "ses" in labels else [])
        folder = self.root.joinpath(*parts, kind)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _put(self, data: np.ndarray, like: Any, path: Path, dtype: str = "float32") -> None:
        nb.Nifti1Image(data.astype(dtype), like.affine).to_filename(path)
        _json(
            path.with_name(path.name.removesuffix(".nii.gz") + ".json"), {"SkullStripped": False}
        )

    def anat(
        self,
        t1w: Path,
        *,
        to_std: np.ndarray | None = None,
        space: str = SPACE,
        maps: Sequence[np.ndarray] = (),
    ) -> None:
        """Write the anatomy of a T1w image: brain mask, tissues, and transforms to a template.

        `to_std` takes a T1w point to its template point; `maps` are the brain mask and the
        probabilities of GM, WM and CSF.
        """
        folder, stem, image = self._folder(t1w, "anat"), _stem(t1w), nb.load(t1w)
        data = np.asarray(image.dataobj, np.float32)
        if not maps:
            brain = np.zeros(data.shape, bool)
            brain[tuple(slice(n // 6, n - n // 6) for n in data.shape)] = True
            third = np.arange(data.shape[0])[:, None, None] % 3
            maps = (brain, *(brain & (third == k) for k in range(3)))
        self._put(data, image, folder / f"{stem}_desc-preproc_T1w.nii.gz")
        self._put(np.asarray(maps[0]), image, folder / f"{stem}_desc-brain_mask.nii.gz", "uint8")
        for tissue, values in zip(("GM", "WM", "CSF"), maps[1:], strict=True):
            self._put(np.asarray(values), image, folder / f"{stem}_label-{tissue}_probseg.nii.gz")
        labels = np.where(maps[0], 1 + np.argmax(np.stack(maps[1:]), axis=0), 0)
        self._put(labels, image, folder / f"{stem}_dseg.nii.gz", "uint8")
        self._put(data, image, folder / f"{stem}_space-{space}_desc-preproc_T1w.nii.gz")
        matrix = np.eye(4) if to_std is None else to_std
        write_composite(
            folder / f"{stem}_from-T1w_to-{space}_mode-image_xfm.h5", np.linalg.inv(matrix)
        )
        write_composite(folder / f"{stem}_from-{space}_to-T1w_mode-image_xfm.h5", matrix)
        write_linear(folder / f"{stem}_from-T1w_to-fsnative_mode-image_xfm.txt", np.eye(4))

    def surfaces(self, t1w: Path, *, to_std: np.ndarray | None = None) -> None:
        """Write white and pial surfaces and registration spheres: fsaverage in the space of a T1w
        image.

        `to_std` takes a T1w point to its template point.
        """
        from nilearn.datasets import fetch_surf_fsaverage
        from nilearn.surface import load_surf_mesh
        from nilearn.surface.surface import mesh_to_gifti

        fsaverage, stem = (
            fetch_surf_fsaverage("fsaverage5"),
            self._folder(t1w, "anat") / _stem(t1w),
        )
        back = np.linalg.inv(np.eye(4) if to_std is None else to_std)
        space = "_space-fsaverage" if self.version >= (25, 0) else ""
        older = self.version < (23, 2)
        for side, name in (("L", "left"), ("R", "right")):
            for surface in ("white", "pial"):
                mesh = load_surf_mesh(fsaverage[f"{surface}_{name}"])
                points = nb.affines.apply_affine(back, mesh.coordinates).astype("float32")
                label = "smoothwm" if older and surface == "white" else surface
                mesh_to_gifti(points, mesh.faces, Path(f"{stem}_hemi-{side}_{label}.surf.gii"))
            if not older:
                mesh_to_gifti(
                    *load_surf_mesh(fsaverage[f"sphere_{name}"]),
                    Path(f"{stem}_hemi-{side}{space}_desc-reg_sphere.surf.gii"),
                )

    def run(
        self,
        bold: Path,
        *,
        motion: np.ndarray | None = None,
        coreg: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        n_dummy: int = 0,
        func: bool = True,
        name: str = "",
    ) -> Path:
        """Write minimal and full derivatives of a run with the names of the version; return the
        stem.

        `motion` takes points of the reference to points of each volume, `coreg` takes T1w points
        to points of the reference. `func` stands for ``--output-spaces func``; `name` is the stem
        if it differs from the stem of the series.
        """
        folder, image = self._folder(bold, "func"), nb.load(bold)
        data, stem = (
            np.asarray(image.dataobj, np.float32),
            self._folder(bold, "func") / (name or _stem(bold)),
        )
        motion = np.tile(np.eye(4), (data.shape[3], 1, 1)) if motion is None else motion
        mean, version = data[..., n_dummy:].mean(3), self.version
        coreg = np.eye(4) if coreg is None else coreg
        inside = mean > 0.4 * np.percentile(mean, 98) if mask is None else mask
        space, reference = ("_space-run", "run") if version >= (26, 0) else ("", "boldref")
        if func or version >= (24, 0):
            self._put(inside, image, Path(f"{stem}{space}_desc-brain_mask.nii.gz"), "uint8")
        self._put(mean, image, Path(f"{stem}_space-T1w_boldref.nii.gz"))
        if version >= (23, 2):
            newest = ("space-orig_desc-hmc", "space-run")
            for kind in newest if space else ("desc-hmc", "desc-coreg"):
                self._put(mean, image, Path(f"{stem}_{kind}_boldref.nii.gz"))
            write_linear(
                Path(f"{stem}_from-orig_to-{reference}_mode-image_desc-hmc_xfm.txt"), motion
            )
            write_linear(
                Path(f"{stem}_from-{reference}_to-T1w_mode-image_desc-coreg_xfm.txt"), coreg
            )
        else:
            if func or version >= (22, 1):
                self._put(mean, image, Path(f"{stem}_boldref.nii.gz"))
            if version >= (22, 1):
                write_linear(Path(f"{stem}_from-scanner_to-boldref_mode-image_xfm.txt"), motion)
            if version >= (20, 2):
                write_linear(Path(f"{stem}_from-scanner_to-T1w_mode-image_xfm.txt"), coreg)
                write_linear(
                    Path(f"{stem}_from-T1w_to-scanner_mode-image_xfm.txt"), np.linalg.inv(coreg)
                )
        kind = "regressors" if version < (20, 2) else "timeseries"
        self.confounds(
            Path(f"{stem}_desc-confounds_{kind}.tsv"), fsl_parameters(motion, mean, image), n_dummy
        )
        assert folder.is_dir()
        return stem

    @staticmethod
    def confounds(path: Path, six: np.ndarray, n_dummy: int) -> None:
        """Write a table with the columns of fMRIPrep, also unused ones; `six` has the motion
        parameters.
        """
        rows, rng = len(six), np.random.default_rng(4)
        table: dict[str, list[str]] = {}

        def put(name: str, values: np.ndarray) -> None:
            table[name] = ["n/a" if not np.isfinite(v) else repr(float(v)) for v in values]

        for name in ("global_signal", "csf", "white_matter"):
            put(name, 500 + rng.normal(size=rows))
        for name in ("std_dvars", "dvars", "framewise_displacement", "rmsd"):
            put(name, np.r_[np.nan, rng.random(rows - 1)])
        for prefix, count in (
            ("t_comp_cor", 3),
            ("a_comp_cor", 8),
            ("w_comp_cor", 2),
            ("cosine", 2),
        ):
            for k in range(count):
                put(
                    f"{prefix}{'_' * prefix.endswith('cor')}{k:02d}",
                    np.r_[np.zeros(n_dummy), rng.normal(size=rows)][:rows],
                )
        for k in range(n_dummy):
            put(f"non_steady_state_outlier{k:02d}", (np.arange(rows) == k).astype(float))
        for k, name in enumerate(("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")):
            put(name, six[:, k])
            put(f"{name}_derivative1", np.r_[np.nan, np.diff(six[:, k])])
            put(f"{name}_power2", six[:, k] ** 2)
        put("motion_outlier00", (np.arange(rows) == rows // 2).astype(float))
        lines = ["\t".join(table), *("\t".join(row) for row in zip(*table.values(), strict=True))]
        path.write_text("\n".join(lines) + "\n")
        masks = {
            f"a_comp_cor_{k:02d}": {"Mask": "combined", "Method": "aCompCor"} for k in range(8)
        }
        _json(path.with_suffix(".json"), masks)

    def field(
        self,
        bold: Path,
        hertz: np.ndarray,
        affine: np.ndarray,
        *,
        to_field: np.ndarray | None = None,
        name: str = "auto00000",
    ) -> None:
        """Write a field map (Hz); `to_field` takes points of the reference to points of the field
        map.
        """
        folder, subject = self._folder(bold, "fmap"), bold.name.split("_")[0]
        image = nb.Nifti1Image(hertz.astype("float32"), affine)
        session = next(
            (f"_{part}" for part in bold.name.split("_") if part.startswith("ses-")), ""
        )
        stem = folder / f"{subject}{session}_fmapid-{name}"
        image.to_filename(f"{stem}_desc-preproc_fieldmap.nii.gz")
        shutil.copyfile(f"{stem}_desc-preproc_fieldmap.nii.gz", f"{stem}_desc-epi_fieldmap.nii.gz")
        _json(
            Path(f"{stem}_desc-preproc_fieldmap.json"), {"Units": "Hz", "B0FieldIdentifier": name}
        )
        reference = "run" if self.version >= (26, 0) else "boldref"
        func = (
            self._folder(bold, "func")
            / f"{_stem(bold)}_from-{reference}_to-{name}_mode-image_desc-fmap_xfm.txt"
        )
        write_linear(func, np.linalg.inv(np.eye(4) if to_field is None else to_field))


def prepared(
    data: BidsMaker, label: str = "01", session: str = "", version: str = "24.1.1", **run: Any
) -> FmriprepMaker:
    """Write complete derivatives of a participant to the folder ``prep`` next to the data set."""
    maker = FmriprepMaker(data.root.parent / "prep", version)
    stem = f"sub-{label}" + (f"_ses-{session}" if session else "")
    maker.anat(data.path(f"{stem}_T1w.nii.gz", "anat"))
    maker.run(data.path(f"{stem}_task-tap_bold.nii.gz", "func"), **run)
    return maker


def use(data: BidsMaker, *options: str) -> list[str]:
    """Return the options of a call with the folder of `prepared`."""
    return ["-d", f"fmriprep={data.root.parent / 'prep'}", *options]


def break_link(path: Path) -> None:
    """Replace a file by a broken link, as DataLad does for a file not downloaded."""
    path.unlink()
    path.symlink_to("../../.git/annex/objects/aa/bb/MD5E-s9--00/MD5E-s9--00")


def of_phantom(
    bids: Path, root: Path, *, label: str = "01", with_field: bool = False
) -> FmriprepMaker:
    """Write derivatives of a participant of the phantom from its known transforms."""
    from scipy import ndimage

    from bids_sr.preproc.templates import load_template
    from bids_sr.spatial.itk_files import read_itk
    from bids_sr.spatial.resampling import sample_volume

    truth = (
        bids / "derivatives" / "ground-truth" / f"sub-{label}" / "func" / f"sub-{label}_task-tap"
    )
    bold = bids / f"sub-{label}" / "func" / f"sub-{label}_task-tap_bold.nii.gz"
    t1w = bids / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
    to_t1w = read_itk(Path(f"{truth}_from-T1w_to-boldref_mode-image_desc-truth_xfm.txt"))[
        0
    ]  # the head of the phantom is aligned with the template
    image, template = nb.load(t1w), load_template("MNI152NLin2009aSym")

    def resample(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
        to_boldref = np.linalg.inv(to_t1w)
        return sample_volume(
            data.astype(np.float32),
            affine,
            image.shape,
            image.affine,
            to_boldref,
            order=1,
            zero_outside=True,
        )

    brain = resample(template.mask.data, template.mask.affine) > 0.5
    gray, white = (
        np.clip(resample(tissue.data, tissue.affine), 0, 1) * brain for tissue in template.tissues
    )
    maker = FmriprepMaker(root)
    maker.surfaces(t1w, to_std=np.linalg.inv(to_t1w))
    maker.anat(
        t1w,
        to_std=np.linalg.inv(to_t1w),
        maps=(brain, gray, white, brain * np.clip(1 - gray - white, 0, 1)),
    )
    reference = json.loads(
        Path(f"{truth}_from-orig_to-boldref_mode-image_desc-truth_xfm.json").read_text()
    )
    maker.run(
        bold,
        motion=read_itk(Path(f"{truth}_from-orig_to-boldref_mode-image_desc-truth_xfm.txt")),
        coreg=read_itk(Path(f"{truth}_from-boldref_to-T1w_mode-image_desc-truth_xfm.txt"))[0],
        n_dummy=reference["NumberOfNonSteadyVolumes"],
    )
    if with_field:
        field_image = nb.load(f"{truth}_desc-distortion_fieldmap.nii.gz")
        sidecar = json.loads(Path(str(bold).replace(".nii.gz", ".json")).read_text())
        moved, step = np.asarray(field_image.dataobj, float), float(field_image.affine[1, 1])
        at = np.stack(np.meshgrid(*map(np.arange, moved.shape), indexing="ij")).astype(float)
        # mm, shift of the signal along +y, opposite to the displacement of its source
        shift = np.zeros(moved.shape)
        for _ in range(20):
            sources = np.stack([at[0], at[1] + shift / step, at[2]])
            shift = -ndimage.map_coordinates(moved, sources, order=1, mode="nearest")
        voxel = abs(float(nb.load(bold).affine[1, 1]))
        maker.field(bold, shift / voxel / sidecar["TotalReadoutTime"], field_image.affine)
    return maker
