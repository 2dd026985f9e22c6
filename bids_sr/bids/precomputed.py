"""What another program has already made of a participant, as frozen values: files, and what is not among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Derivatives:
    """One folder of derivatives.

    Attributes
    ----------
    root : absolute path
    name : what it is called in BIDS URIs (``bids:NAME:…``)
    program, version : what made it, as its description says
    """

    root: Path
    name: str
    program: str
    version: str

    @property
    def words(self) -> str:
        """Program and version (``fMRIPrep 24.1.1``)."""
        return f"{self.program} {self.version}".strip()

    def uri(self, path: Path) -> str:
        """BIDS URI of a file in the folder."""
        return f"bids:{self.name}:{path.relative_to(self.root).as_posix()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenAnat:
    """The anatomy of one participant; None and empty where there is no such file.

    Attributes
    ----------
    origin : folder that it comes from
    preproc, mask : T1w image without bias, and its brain, on one grid
    dseg : tissues on that grid (1 GM, 2 WM, 3 CSF)
    tpms : probabilities of GM, WM and CSF on it, or none of them
    spaces : name of a template to (file that brings the T1w image there, file that brings the template back)
    """

    origin: Derivatives
    preproc: Path
    mask: Path
    dseg: Path | None = None
    tpms: tuple[Path, ...] = ()
    spaces: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)

    def files(self, space: str) -> dict[str, Path]:
        """Files that stand for outputs of the anatomical stage, by the name of the output."""
        found = {"t1w_preproc": self.preproc, "t1w_mask": self.mask}
        if self.tpms:
            found |= dict(zip(("gm", "wm", "csf"), self.tpms, strict=True))
            found |= {} if self.dseg is None else {"t1w_dseg": self.dseg}
        if space in self.spaces:
            found["t1w2std_xfm"], found["std2t1w_xfm"] = self.spaces[space]
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenField:
    """A field map and its place in the run's reference.

    Attributes
    ----------
    name : identifier of the field
    fieldmap : the field (Hz) on a grid of its own
    xfm : ITK text that brings the reference of the run onto the field map
    phase_encoding : direction of the BOLD run as BIDS has it
    readout : its total readout time (s)
    """

    name: str
    fieldmap: Path
    xfm: Path
    phase_encoding: str
    readout: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenRun:
    """One BOLD run; None where there is no such file.

    Attributes
    ----------
    origin : folder that it comes from
    hmc : ITK text, one affine a volume, brings the volume onto the reference
    mask : brain on the grid of the reference
    coreg : ITK text, brings the reference onto the T1w image of `GivenAnat`
    confounds : table, one row a volume
    n_dummy : volumes at the start that the table marks as not steady; None without a table
    field : of the susceptibility correction
    """

    origin: Derivatives
    hmc: Path
    mask: Path | None = None
    coreg: Path | None = None
    confounds: Path | None = None
    n_dummy: int | None = None
    field: GivenField | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Files that are used, by the name of what they stand for."""
        found = {"hmc_xfms": self.hmc, "bold_mask": self.mask, "boldref2t1w_xfm": self.coreg}
        found["confounds_tsv"] = self.confounds
        if self.field is not None:
            found |= {"fieldmap": self.field.fieldmap, "boldref2fmap_xfm": self.field.xfm}
        return {name: path for name, path in found.items() if path is not None}
