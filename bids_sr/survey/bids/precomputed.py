"""Data model of the derivatives that another program computed for a participant or a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from bids_sr.io.frozen import frozen

# name of a replaced output → its description for users
_DESCRIPTIONS = {
    "hmc_xfms": "head motion",
    "bold_mask": "brain mask",
    "boldref2t1w_xfm": "registration to T1w",
    "confounds_tsv": "confounds",
    "fieldmap": "field map",
}


@frozen
class DerivativeFolder:
    """Derivatives directory, with the program that generated it according to its description.

    `version` is the version of that program, "" if unknown.
    """

    root: Path
    name: str
    program: str
    version: str

    @property
    def text(self) -> str:
        """Program and version (``fMRIPrep 24.1.1``)."""
        return f"{self.program} {self.version}".strip()

    def uri(self, path: Path) -> str:
        """Return the BIDS URI of a file in the directory (``bids:fmriprep:sub-01/anat/…``)."""
        return f"bids:{self.name}:{path.relative_to(self.root).as_posix()}"


@frozen
class PrecomputedAnat:
    """Anatomical derivatives of a participant; missing files are None or empty.

    `preproc` is the bias-corrected T1w image, whose grid is shared by the brain `mask`, `dseg` and
    `tpms`. `dseg` is a tissue segmentation (1 GM, 2 WM, 3 CSF), and `tpms` are probability maps of
    GM, WM and CSF. `spaces` are, by template, the transform from T1w to the template and the
    transform from the template to T1w. `surfaces` are left and right surface by kind: ``white``,
    ``pial`` and ``sphere`` (registered to fsaverage).
    """

    origin: DerivativeFolder
    preproc: Path
    mask: Path
    dseg: Path | None = None
    tpms: tuple[Path, ...] = ()
    spaces: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    surfaces: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)

    def files(self, space: str) -> dict[str, Path]:
        """Return the files that replace outputs of anatomical processing, by name of the output.

        `space` is the template whose transforms are included, if available.
        """
        paths = {"t1w_preproc": self.preproc, "t1w_mask": self.mask}
        if self.tpms:
            paths |= dict(zip(("gm", "wm", "csf"), self.tpms, strict=True))
            if self.dseg is not None:
                paths["t1w_dseg"] = self.dseg
        if space in self.spaces:
            paths["t1w2std_xfm"], paths["std2t1w_xfm"] = self.spaces[space]
        return paths


@frozen
class PrecomputedField:
    """Field map, with its registration to the boldref of a run.

    The field map is in Hz, on its own grid. `xfm` is an ITK text file with the transform from the
    boldref to the field map. `phase_encoding` and `readout` are PhaseEncodingDirection and
    TotalReadoutTime (s) of the BOLD run.
    """

    name: str
    fieldmap: Path
    xfm: Path
    phase_encoding: str
    readout: float


@frozen
class PrecomputedRun:
    """Derivatives of a BOLD run; missing files are None.

    `hmc` is an ITK text file with one affine per volume, from the volume to the boldref. If None,
    head motion is taken from the six motion parameters in `confounds`. `mask` is a brain mask on
    the grid of the boldref, and `coreg` the transform from the boldref to the T1w image. `n_dummy`
    is the number of initial volumes marked as non-steady-state in the confounds table. `field` is
    the field map that the run was corrected with.
    """

    origin: DerivativeFolder
    hmc: Path | None
    mask: Path | None = None
    coreg: Path | None = None
    confounds: Path | None = None
    n_dummy: int | None = None
    field: PrecomputedField | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Existing files, by the name of the output that they replace."""
        paths = {
            "hmc_xfms": self.hmc,
            "bold_mask": self.mask,
            "boldref2t1w_xfm": self.coreg,
            "confounds_tsv": self.confounds,
        }
        if self.field is not None:
            paths |= {"fieldmap": self.field.fieldmap, "boldref2fmap_xfm": self.field.xfm}
        return {name: path for name, path in paths.items() if path is not None}


def reused_text(run: PrecomputedRun) -> str:
    """List the reused derivatives of a run as text.

    An example is ``head motion, brain mask of fMRIPrep 24.1.1``.
    """
    descriptions = [text for name, text in _DESCRIPTIONS.items() if name in run.files]
    if run.hmc is None:
        descriptions.insert(0, "head motion (from the motion parameters in the confounds file)")
    return f"{', '.join(descriptions)} of {run.origin.text}"
