"""Confounds of a BOLD run: head motion, global signals, aCompCor, volumes that are not steady."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from bids_sr.io.array_types import Array, Float, Mask
from bids_sr.io.nifti import SeriesReader

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS_MM = 50.0
N_COMPONENTS = 5
CUTOFF_S = 128.0
_ROWS = 4  # rows of a slice worked on at once: a few MB over 900 volumes
_FEW = 20  # voxels: a tissue mask with fewer is taken at a lower probability


def framewise_displacement(params: Array, radius_mm: float = HEAD_RADIUS_MM) -> Float:
    """Framewise displacement (mm), first value NaN: sum of absolute changes of the parameters (T, 6; mm, rad).

    Rotations become displacements on a sphere of 50 mm. Source: power2012, framewise displacement.
    """
    change = np.abs(np.diff(np.asarray(params, dtype=np.float64), axis=0))
    change[:, 3:] *= radius_mm
    return np.concatenate([[np.nan], change.sum(axis=1)])


def derivative(values: Array) -> Float:
    """Backward difference, first value NaN."""
    values = np.asarray(values, dtype=np.float64)
    return np.concatenate([[np.nan], np.diff(values)])


_LOOKED_AT = 50  # volumes that may hold the transient at the start


def count_nonsteady(signal: Sequence[float] | Array) -> int:
    """Number of volumes at the start that are brighter than the rest: not yet in steady state.

    Median and median absolute deviation come from the second half of (up to 50) means of volumes, where the transient
    is over. A volume is counted while its modified z score (Iglewicz and Hoaglin) is above 3.5 and its excess above 1
    %, so that a slow drift or a quiet signal makes no dummies; the first that is not ends the count.
    """
    values = np.asarray(signal, dtype=np.float64)[:_LOOKED_AT]
    if len(values) < 6:
        return 0
    late = values[len(values) // 2 :]
    center = float(np.median(late))
    spread = float(np.median(np.abs(late - center))) / 0.6745
    outlying = (values - center > 3.5 * spread) & (values - center > 0.01 * abs(center))
    outlying[len(values) // 2 :] = False
    return int(np.argmin(outlying)) if not outlying.all() else len(values)


def nonsteady_at_start(path: Path) -> int:
    """Volumes of a series as acquired that are not in steady state, from its first volumes alone."""
    with SeriesReader(path) as reader:
        return count_nonsteady([float(volume.mean()) for volume in reader.volumes(stop=_LOOKED_AT)])


def drift_basis(n: int, tr: float) -> Float:
    """Constant, cosines with periods above `CUTOFF_S` and a ramp, (n, K) orthonormal; cosines alone leave its ends."""
    count = min(max(int(np.floor(2 * n * tr / CUTOFF_S)) + 1, 1), n)
    cosines = np.cos(np.pi * (np.arange(n)[:, None] + 0.5) * np.arange(count) / n)
    ramp = np.arange(n)[:, None] - (n - 1) / 2
    return np.asarray(np.linalg.qr(np.hstack([cosines, ramp])[:, :n])[0])


def first_autocorrelation(series: Array) -> Float:
    """Lag-one autocorrelation (N,) of the rows (N, T), mean removed; 0 for a constant row."""
    centered = series - series.mean(axis=1, keepdims=True)
    power = (centered**2).sum(axis=1)
    return np.asarray((centered[:, 1:] * centered[:, :-1]).sum(axis=1) / np.where(power > 0, power, 1.0))


def robust_sd(series: Array) -> Float:
    """Standard deviation (N,) of the rows (N, T) from the quartiles."""
    high, low = np.percentile(series, [75, 25], axis=1)
    return np.asarray((high - low) / 1.3489795)


def dvars(volumes: Iterable[Array], mask: Mask) -> Float:
    """Root mean square over the mask of each volume's change (signal units), first value NaN. Source: power2012."""
    out: list[float] = []
    before: Array | None = None
    for volume in volumes:
        now = volume[mask].astype(np.float64)
        out.append(np.nan if before is None else float(np.sqrt(((now - before) ** 2).mean())))
        before = now
    return np.array(out)


def expected_change(slabs: Iterable[Array]) -> float:
    """Mean over voxels of sqrt(2 (1 - ar1)) sd, the change that a stationary series has by itself, from slabs (N, T).

    Source: nichols2017, standardized DVARS: robust standard deviation, AR(1).
    """
    total, count = 0.0, 0
    for series in slabs:
        total += float((np.sqrt(2 * (1 - first_autocorrelation(series))) * robust_sd(series)).sum())
        count += len(series)
    return total / count if count else np.nan


def tissue_masks(tpms: Sequence[Array], mask: Mask) -> dict[str, Mask]:
    """Masks of cerebrospinal fluid, white matter and their core for aCompCor, inside the brain `mask`.

    From probabilities of gray matter, white matter and fluid. The core holds no voxel that touches gray matter. On
    low-resolution grids few voxels are pure: where a mask has less than 20 voxels the probability asked for is lowered
    in steps, and the core may touch gray matter.
    """
    gm, wm, csf = (np.asarray(p, dtype=np.float64) for p in tpms)

    def pure(probability: Array, where: Mask) -> Mask:
        found = np.zeros_like(where)
        for least in (0.95, 0.9, 0.8, 0.7, 0.6, 0.5):
            found = (probability >= least) & where
            if found.sum() >= _FEW:
                break
        return found

    apart = mask & ~ndimage.binary_dilation(gm > 0.5)
    core = pure(np.maximum(wm, csf), apart)
    if core.sum() < _FEW:
        core = pure(wm + csf, mask)
    return {"csf": pure(csf, mask), "white_matter": pure(wm, mask), "acompcor": core}


def principal_components(slabs: Iterable[Array], basis: Float, n_components: int) -> tuple[Float, Float, Float]:
    """Leading temporal components of many voxels, scaled to unit variance, without holding them all.

    Parameters
    ----------
    slabs : (N, T) series of voxels, in parts
    basis : (T, K) orthonormal, removed first (constant, slow cosines, ramp)
    n_components : at most this many; fewer where the voxels have less rank

    Returns
    -------
    (components (T, C), unit length, largest entry positive; singular values (C,); share of variance (C,))

    Source: behzadi2007, anatomical CompCor.
    """
    gram = np.zeros((len(basis), len(basis)))
    for series in slabs:
        left = series - (series @ basis) @ basis.T
        norm = np.linalg.norm(left, axis=1, keepdims=True)
        # what float32 rounding leaves of a constant voxel is no fluctuation
        steady = norm[:, 0] > 1e-6 * np.maximum(np.linalg.norm(series, axis=1), 1e-30)
        left = left[steady] / norm[steady]
        gram += left.T @ left
    values, vectors = np.linalg.eigh(gram)
    keep = np.argsort(values)[::-1][:n_components]
    keep = keep[values[keep] > 1e-9 * max(float(values.max()), 1e-300)]
    vectors = vectors[:, keep]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.where(vectors[largest, np.arange(len(keep))] < 0, -1.0, 1.0)
    total = float(np.trace(gram)) or 1.0
    return vectors, np.sqrt(np.maximum(values[keep], 0)), values[keep] / total


def _slabs(reader: SeriesReader, mask: Mask, first: int) -> Iterable[Array]:
    """(N, T - first) float64 series of the mask's voxels, a few rows of a slice at a time."""
    for z in range(reader.shape[2]):
        if not mask[:, :, z].any():
            continue
        slab = reader.slab(z, z + 1)[:, :, 0, first:]
        for y in range(0, slab.shape[1], _ROWS):
            inside = mask[:, y : y + _ROWS, z]
            if inside.any():
                yield slab[:, y : y + _ROWS][inside].astype(np.float64)


def _means(reader: SeriesReader, masks: dict[str, Mask]) -> tuple[dict[str, Float], Float]:
    """Mean signal of each mask, none of them empty, and DVARS in the first of them, in one pass."""
    out: dict[str, list[float]] = {name: [] for name in masks}

    def volumes() -> Iterable[Array]:
        for volume in reader.volumes():
            for name, mask in masks.items():
                out[name].append(float(volume[mask].mean(dtype=np.float64)))
            yield volume

    change = dvars(volumes(), next(iter(masks.values())))
    return {name: np.array(values) for name, values in out.items()}, change


def motion_table(params: Array, residual: Array) -> pd.DataFrame:
    """The six parameters (T, 6; mm, rad) and the residual of the estimate (T,) as a table."""
    table = pd.DataFrame(np.asarray(params), columns=list(MOTION))
    return table.assign(residual=np.asarray(residual))


def motion_columns(motion: pd.DataFrame) -> dict[str, Float]:
    """The six parameters, their backward differences and framewise displacement, by column name."""
    out: dict[str, Float] = {}
    for name in MOTION:
        values = motion[name].to_numpy(dtype=np.float64)
        out[name], out[f"{name}_derivative1"] = values, derivative(values)
    out["framewise_displacement"] = framewise_displacement(np.stack([out[n] for n in MOTION], axis=1))
    return out


def gather(
    reader: SeriesReader, mask: Mask, motion: pd.DataFrame, *, tpms: Sequence[Array] | None = None, n_dummy: int = 0
) -> tuple[pd.DataFrame, dict[str, dict[str, object]]]:
    """Confounds table of a motion-corrected series and the description of its columns.

    Parameters
    ----------
    reader : motion-corrected series (uncompressed)
    mask : brain, on its grid
    motion : one row a volume with the columns MOTION (mm, rad)
    tpms : gray matter, white matter, cerebrospinal fluid on the grid; None leaves tissue signals and aCompCor out
    n_dummy : volumes at the start that are not steady

    Returns
    -------
    (table, one row a volume, NaN where a column is not defined; descriptions by column)

    Raises
    ------
    ValueError : rows and volumes differ in number, or the mask is empty
    """
    volumes = reader.shape[3]
    if len(motion) != volumes or mask.shape != reader.shape[:3] or not mask.any():
        raise ValueError(
            f"{reader.path}: {volumes} volumes on {reader.shape[:3]} with {len(motion)} rows of motion and a mask of "
            f"{int(mask.sum())} voxels on {mask.shape}"
        )
    tissues = tissue_masks(tpms, mask) if tpms is not None else {}
    core = tissues.pop("acompcor", np.zeros_like(mask))
    means, change = _means(reader, {"global_signal": mask, **{k: m for k, m in tissues.items() if m.any()}})
    columns: dict[str, Float] = {**means, "dvars": change}
    columns["std_dvars"] = change / expected_change(_slabs(reader, mask, n_dummy))
    columns |= motion_columns(motion)
    described = describe(columns)
    if core.any() and volumes - n_dummy > 2:
        basis = drift_basis(volumes - n_dummy, reader.tr)
        found, singular, share = principal_components(_slabs(reader, core, n_dummy), basis, N_COMPONENTS)
        for k in range(found.shape[1]):
            name = f"a_comp_cor_{k:02d}"
            columns[name] = np.concatenate([np.zeros(n_dummy), found[:, k]])
            described[name] = {
                "Description": f"Component {k} of anatomical CompCor in the core of white matter and cerebrospinal "
                f"fluid ({int(core.sum())} voxels), after removal of drifts slower than {CUTOFF_S:g} s; 0 in volumes "
                "that are not steady",
                "Units": "arbitrary",
                "SingularValue": float(singular[k]),
                "VarianceExplained": float(share[k]),
            }
    table = pd.DataFrame(columns)
    _mark_nonsteady(table, described, n_dummy)
    return table, described


def _mark_nonsteady(table: pd.DataFrame, described: dict[str, dict[str, object]], n_dummy: int) -> None:
    """Add a column for each volume that is not in steady state, and its description."""
    for k in range(n_dummy):
        name = f"non_steady_state_outlier{k:02d}"
        table[name] = (np.arange(len(table)) == k).astype(np.float64)
        described[name] = {"Description": f"1 in volume {k}, which is not in steady state", "Units": "arbitrary"}


def describe(columns: Iterable[str]) -> dict[str, dict[str, object]]:
    """Description and unit of the columns that do not depend on the data."""
    axes = {"x": "left to right", "y": "posterior to anterior", "z": "inferior to superior"}
    signal = "signal units of the scanner"
    fixed = {
        "global_signal": ("Mean signal in the brain mask", signal),
        "csf": ("Mean signal in cerebrospinal fluid", signal),
        "white_matter": ("Mean signal in white matter", signal),
        "dvars": ("Root mean square over the brain mask of the change from the volume before", signal),
        "std_dvars": ("dvars over what a stationary AR(1) series of the same variance would have", "arbitrary"),
        "framewise_displacement": (
            f"Sum of absolute changes of the six motion parameters, rotations on a sphere of {HEAD_RADIUS_MM:g} mm",
            "mm",
        ),
    }
    for axis, way in axes.items():
        fixed[f"trans_{axis}"] = (f"Translation of the head's center against boldref, {way} (RAS+)", "mm")
        fixed[f"rot_{axis}"] = (
            f"Component of the rotation vector about the {way} axis through the head's center, right-handed",
            "rad",
        )
        for kind, unit in (("trans", "mm"), ("rot", "rad")):
            what = f"Change of {kind}_{axis} from the volume before"
            fixed[f"{kind}_{axis}_derivative1"] = (what, f"{unit} per volume")
    return {name: {"Description": fixed[name][0], "Units": fixed[name][1]} for name in columns}


SIGNALS = ("global_signal", "csf", "white_matter", "dvars", "std_dvars")


def take_over(path: Path, *, n_dummy: int, origin: str) -> tuple[pd.DataFrame, dict[str, dict[str, object]]]:
    """Confounds that fMRIPrep has made: the columns that are known here, under the names they have there.

    Its table has a hundred columns and more, of which a linear model of a short run could bear only a few: those of
    `gather` are kept, and as many components of aCompCor. Returns what `gather` returns; ValueError where a column of
    head motion is missing.

    Parameters
    ----------
    path : the table; the JSON beside it tells of which mask each component of aCompCor is
    origin : program and version, for the descriptions
    """
    theirs = pd.read_csv(path, sep="\t", na_values="n/a")
    missing = [name for name in MOTION if name not in theirs]
    if missing:
        raise ValueError(f"{path}: the table has no column {', '.join(missing)}")
    known = [*SIGNALS, *(each for name in MOTION for each in (name, f"{name}_derivative1")), "framewise_displacement"]
    names = [name for name in known if name in theirs]
    components = _components(list(theirs.columns), path.with_suffix(".json"))
    table = theirs[[*names, *components]].astype(np.float64)
    described = describe(names)
    for name in MOTION:
        described[name]["Description"] = f"Head motion: {name.replace('_', ' along ', 1)} of {origin}"
        if name.startswith("rot"):
            described[name]["Description"] = f"Head motion: rotation about {name[-1]} of {origin}"
    for name in components:
        about = f"Component of anatomical CompCor, {name} of {origin}, made after removal of slow cosines"
        described[name] = {"Description": about, "Units": "arbitrary"}
    _mark_nonsteady(table, described, n_dummy)
    for name in described:
        described[name]["Origin"] = origin
    return table, described


def _components(columns: list[str], sidecar: Path) -> list[str]:
    """The first components of the mask of white matter and cerebrospinal fluid together."""
    found = [name for name in columns if re.fullmatch(r"a_comp_cor_\d+", name)]
    found.sort(key=lambda name: int(name.rpartition("_")[2]))  # fMRIPrep 20 counts CSF, white matter, combined: 192
    try:
        about = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = {}
    masks = {name: about[name].get("Mask", "combined") for name in found if isinstance(about.get(name), dict)}
    combined = [name for name in found if masks.get(name, "combined") == "combined"]
    return (combined or found)[:N_COMPONENTS]
