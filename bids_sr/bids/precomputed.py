"""Data model of results that another program made of a participant or a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from bids_sr.frozen import frozen


@frozen
class Derivatives:
    """One folder of derivatives, and what made it, as its description says.

    `version`: version of that program; empty where it is not told.
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
        """BIDS URI of a file in the folder.

        Address such as ``bids:fmriprep:sub-01/anat/…``.
        """
        return f"bids:{self.name}:{path.relative_to(self.root).as_posix()}"


@frozen
class PrecomputedAnat:
    """The anatomy of one participant; None and empty where there is no such file.

    `preproc`: T1w image without bias, on whose grid are the brain in `mask`, `dseg` (1 GM, 2 WM,
    3 CSF) and `tpms`, the probabilities of GM, WM and CSF. `spaces`: name of a template to (file
    that brings the T1w image there, file that brings the template back). `surfaces`: left and
    right ``white``, ``pial`` and ``sphere``, the one registered to fsaverage.
    """

    origin: Derivatives
    preproc: Path
    mask: Path
    dseg: Path | None = None
    tpms: tuple[Path, ...] = ()
    spaces: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    surfaces: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)

    def files(self, space: str) -> dict[str, Path]:
        """Return files that stand for outputs of the anatomical stage, by the name of the output.

        `space`: name of the template whose transforms are wanted, where they are there.
        """
        paths = {"t1w_preproc": self.preproc, "t1w_mask": self.mask}
        if self.tpms:
            paths |= dict(zip(("gm", "wm", "csf"), self.tpms, strict=True))
            paths |= {} if self.dseg is None else {"t1w_dseg": self.dseg}
        if space in self.spaces:
            paths["t1w2std_xfm"], paths["std2t1w_xfm"] = self.spaces[space]
        return paths


@frozen
class PrecomputedField:
    """A field map and its place in the run's reference.

    `fieldmap`: in Hz, on a grid of its own. `xfm`: ITK text that brings the reference of the run
    onto the field map. `phase_encoding`, `readout`: of the BOLD run, as BIDS has it, and in s.
    """

    name: str
    fieldmap: Path
    xfm: Path
    phase_encoding: str
    readout: float


@frozen
class PrecomputedRun:
    """One BOLD run; None where there is no such file.

    `hmc` is ITK text, one affine a volume, and brings the volume onto the reference; without it
    the six parameters in `confounds` tell the motion. `mask` is on the grid of the reference,
    `coreg` brings the reference onto the T1w image, `n_dummy` volumes are marked as not steady.
    """

    origin: Derivatives
    hmc: Path | None
    mask: Path | None = None
    coreg: Path | None = None
    confounds: Path | None = None
    n_dummy: int | None = None
    field: PrecomputedField | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Return files that are used, by the name of what they stand for."""
        paths = {"hmc_xfms": self.hmc, "bold_mask": self.mask, "boldref2t1w_xfm": self.coreg}
        paths["confounds_tsv"] = self.confounds
        if self.field is not None:
            paths |= {"fieldmap": self.field.fieldmap, "boldref2fmap_xfm": self.field.xfm}
        return {name: path for name, path in paths.items() if path is not None}


def taken_text(run: PrecomputedRun) -> str:
    """What of a run is taken over, in words.

    Words such as ``head motion, brain mask of fMRIPrep 24.1.1``.
    """
    files = run.files
    words = {
        "hmc_xfms": "head motion",
        "bold_mask": "brain mask",
        "boldref2t1w_xfm": "registration to T1w",
    }
    words |= {"confounds_tsv": "confounds", "fieldmap": "field map"}
    taken = [word for name, word in words.items() if name in files]
    if run.hmc is None:
        taken.insert(0, "head motion (from the motion parameters in the confounds file)")
    return f"{', '.join(taken)} of {run.origin.text}"
