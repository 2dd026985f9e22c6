"""Tests whether runs can be fused across slices, based only on thick slices.

Two conditions must hold for a pair of runs (`combination.slice_fusion` describes the arrays):

1. The median displacement of their slices over active voxels (`median_displacement`), modulo the
   slice thickness, is at least `LEAST_DISPLACEMENT`. The median over the brain would be
   misleading, because a rotation displaces some regions and not others.
2. Each slice of the second run can be predicted from the first run and from the *other* slices of
   the second run (`check_fusion`), by more than `LEAST_GAIN` better than by negative controls. The
   predicted slice must be left out, because an estimate that uses a slice also predicts this slice
   at a wrong assumed position.

`combination.steps.fused_slices` applies both conditions to all pairs of runs. The largest set of
runs that are linked by pairs that fulfill both conditions is fused (`find_linked_runs`).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from bids_sr.combination.slice_fusion import (
    COLUMN_CHUNK,
    THIN_PER_THICK,
    SlicedEffects,
    SliceFusionError,
    check_run_shapes,
    column_model,
    compute_slice_positions,
    interpolate_thin,
    slice_profiles,
    stack_first_run,
)
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, Float, MaskArray, iterate_parts

LEAST_DISPLACEMENT = 0.25
"""Smallest median displacement in active voxels, as a fraction of the slice thickness."""
LEAST_GAIN = 0.05
"""Smallest advantage of the fusion over its controls, as a share of the detail to predict."""
# noise variance of the slices of each run in the test, relative to their prior variance; higher in
# the second run, because only half of its blocks is used
_RELATIVE_NOISE_FIRST, _RELATIVE_NOISE_SECOND = 0.1, 0.3
_MIN_ACTIVE_SHARE = 0.5  # of a thick slice; slices with a larger active part are compared


def neighboring_positions(positions: Array) -> tuple[Float, Float]:
    """Return the first run's slice positions below and above given positions.

    >>> neighboring_positions(np.array([0.5, 2.9, 5.0]))
    (array([0.5, 2.5, 4.5]), array([2.5, 4.5, 6.5]))
    """
    center = (THIN_PER_THICK - 1) / 2
    below: Float = THIN_PER_THICK * np.floor((positions - center) / THIN_PER_THICK) + center
    return below, below + THIN_PER_THICK


def opposite_positions(positions: Array) -> Float:
    """Return positions that are displaced by the same amount in the opposite direction.

    >>> opposite_positions(np.array([0.5, 2.9, 5.0]))
    array([0.5, 2.1, 4. ])
    """
    below, above = neighboring_positions(positions)
    closest = np.where(positions - below < above - positions, below, above)
    opposite: Float = 2 * closest - positions
    return opposite


def median_displacement(positions: Array, active: MaskArray) -> float:
    """Return the median displacement of the slices of a run over active voxels.

    Parameters
    ----------
    positions : Array
        Slice positions of the run (X, Y, m_r), in thin slices of the first run.
    active : MaskArray
        Active voxels in thin slices of the first run (X, Y, n).

    Returns
    -------
    float
        Displacement from the closest slice, modulo the slice thickness, as a fraction of the slice
        thickness, from 0 to 0.5. NaN if there are no active voxels.
    """
    if not active.any():
        return math.nan
    distances = []
    for first_position in compute_slice_positions(active.shape[2] // THIN_PER_THICK):
        nearest = np.abs(positions - first_position).min(axis=2) % THIN_PER_THICK
        distances.append(np.minimum(nearest, THIN_PER_THICK - nearest) / THIN_PER_THICK)
    thin_distances = np.repeat(np.stack(distances, axis=2), THIN_PER_THICK, axis=2)
    return float(np.median(thin_distances[active]))


@frozen
class GateResult:
    """Share of the detail in held-out slices that the fusion and its negative controls predict.

    Only `passed` should be reported, because the shares depend on the displacement and do not
    measure the gain.

    Attributes
    ----------
    fused : float
        Share for both runs.
    first, second : float
        Share for only one of the runs.
    undisplaced : float
        Share for both runs if the slices of the second run are assigned to the neighboring slices
        of the first run: the maximum of an assignment to slices below and to slices above.
    opposite : float
        Share for both runs with the displacement in the wrong direction.
    mirrored : float
        Share for both runs with the prior SD mirrored along the first axis.
    """

    fused: float
    first: float
    second: float
    undisplaced: float
    opposite: float
    mirrored: float

    @property
    def passed(self) -> bool:
        """Whether the fusion predicts more detail than its controls, by more than `LEAST_GAIN`.

        The control with the mirrored prior SD has the right positions, so that it must only not
        predict more than the fusion.
        """
        best_control = max(0.0, self.first, self.second, self.undisplaced, self.opposite)
        return self.fused > best_control + LEAST_GAIN and self.fused >= self.mirrored


_UNTESTED_RESULT = GateResult(
    fused=math.nan,
    first=math.nan,
    second=math.nan,
    undisplaced=math.nan,
    opposite=math.nan,
    mirrored=math.nan,
)


def leave_slices_out(runs: Sequence[SlicedEffects], prior_sd: Array, columns: MaskArray) -> Float:
    """Predict each slice of the last run from all other slices of all runs.

    With the covariance S of all values y, the error of value k is (S^-1 y)_k / (S^-1)_kk.

    Parameters
    ----------
    runs, prior_sd, columns
        See `bids_sr.combination.slice_fusion.fuse_slices`.

    Returns
    -------
    Float
        Predictions (N, P, m_r) for N effects and P columns in the order of `columns`.
    """
    check_run_shapes(runs, prior_sd, columns)
    column_indices = np.flatnonzero(columns)
    n_effects, n_slices = len(runs[-1].effects), runs[-1].effects.shape[3]
    predicted: Float = np.empty((n_effects, len(column_indices), n_slices))
    for part in iterate_parts(len(column_indices), COLUMN_CHUNK):
        values, covariance, _ = column_model(runs, prior_sd, column_indices[part])
        precision = np.linalg.inv(covariance)
        error = (precision @ values) / np.diagonal(precision, axis1=1, axis2=2)[:, :, None]
        predicted[:, part] = (values - error)[:, -n_slices:].transpose(2, 0, 1)
    return predicted


def _average_over_slices(profiles: Array, thin: Array) -> Float:
    """Average thin slices (P, n) over the profiles (P, m_r, n) of thick slices, to (P, m_r)."""
    thick: Float = (profiles @ thin[:, :, None])[:, :, 0]
    return thick


def _regress_out(spline: Array, values: Array) -> Float:
    """Regress a spline out of values; both are (S,)."""
    detail: Float = values - spline * (values @ spline) / (spline @ spline)
    return detail


@frozen
class _HeldOutDetail:
    """Detail of the second run in S slices that are mostly active.

    Attributes
    ----------
    columns : MaskArray
        P columns with active voxels (X, Y).
    is_active : MaskArray
        Which slices of these columns are mostly active (P, m_r).
    spline : Array
        Values of the spline of the first run in the active slices (S,).
    detail : Array
        Held-out values of the second run without the spline (S,).
    """

    columns: MaskArray
    is_active: MaskArray
    spline: Array
    detail: Array

    def predict_share(
        self, first_run: SlicedEffects, second_run: SlicedEffects, prior_sd: Array
    ) -> float:
        """Return the share of the detail that two runs predict with a prior SD."""
        predicted = leave_slices_out([first_run, second_run], prior_sd, self.columns)[0]
        error = self.detail - _regress_out(self.spline, predicted[self.is_active])
        return float(1 - (error @ error) / (self.detail @ self.detail))


def check_fusion(
    effect: Array,
    halves: tuple[Array, Array],
    positions: Array,
    prior_sd: Array,
    columns: MaskArray,
    active: MaskArray,
) -> GateResult:
    """Test the fusion of two runs on held-out slices of the second run.

    Each slice of the second run is predicted from the first run and from the other slices in half
    of the second run's blocks, and compared with its value in the other half of the blocks. Only
    detail is compared: the spline of the first run is regressed out of prediction and value, so
    that a different effect amplitude in the second run does not influence the result.

    Parameters
    ----------
    effect : Array
        Effect in the thick slices of the first run (X, Y, m).
    halves : tuple[Array, Array]
        Effect in each half of the blocks of the second run, at the columns of the first run
        (X, Y, m_r).
    positions : Array
        Positions of the slices of the second run (X, Y, m_r).
    prior_sd : Array
        Prior SD of the effect in thin slices (X, Y, n).
    columns : MaskArray
        Columns near the brain (X, Y).
    active : MaskArray
        Active voxels in thin slices of the first run (X, Y, n).

    Returns
    -------
    GateResult
        Shares of predicted detail. They are NaN, and the test does not pass, if no slice of the
        second run is mostly active.

    Raises
    ------
    bids_sr.combination.slice_fusion.SliceFusionError
        The shapes of the arrays do not match.
    """
    predicting_half, held_out_half = halves
    first_run = replace(stack_first_run(effect[None]), relative_noise=_RELATIVE_NOISE_FIRST)
    second_run = SlicedEffects(
        effects=predicting_half[None], positions=positions, relative_noise=_RELATIVE_NOISE_SECOND
    )
    check_run_shapes([first_run, second_run], prior_sd, columns)
    if prior_sd.shape[2] != THIN_PER_THICK * effect.shape[2]:
        raise SliceFusionError(
            f"the prior SD has the shape {tuple(prior_sd.shape)}, expected"
            f" {THIN_PER_THICK * effect.shape[2]} thin slices"
        )
    # columns are estimated separately, so those without active voxels are not needed
    columns = columns & active.any(axis=2)
    profiles = slice_profiles(positions[columns], prior_sd.shape[2])
    active_share = _average_over_slices(profiles, active[columns].astype(np.float64))
    is_active = active_share > _MIN_ACTIVE_SHARE
    spline = _average_over_slices(profiles, interpolate_thin(effect[columns]))[is_active]
    if not spline @ spline > 0:
        return _UNTESTED_RESULT
    held_out = _HeldOutDetail(
        columns=columns,
        is_active=is_active,
        spline=spline,
        detail=_regress_out(spline, held_out_half[columns][is_active]),
    )
    below, above = (
        replace(second_run, positions=neighbors) for neighbors in neighboring_positions(positions)
    )
    opposite = replace(second_run, positions=opposite_positions(positions))
    return GateResult(
        fused=held_out.predict_share(first_run, second_run, prior_sd),
        first=held_out.predict_share(first_run, second_run.remove_influence(), prior_sd),
        second=held_out.predict_share(first_run.remove_influence(), second_run, prior_sd),
        undisplaced=max(
            held_out.predict_share(first_run, below, prior_sd),
            held_out.predict_share(first_run, above, prior_sd),
        ),
        opposite=held_out.predict_share(first_run, opposite, prior_sd),
        mirrored=held_out.predict_share(first_run, second_run, prior_sd[::-1]),
    )


def find_linked_runs(n_runs: int, passed: Collection[tuple[int, int]]) -> list[int]:
    """Return the largest set of runs that are linked by pairs that passed.

    A run with the same slice positions as another run is not displaced from this run, but both can
    be displaced from a third run.

    Parameters
    ----------
    n_runs : int
        Number of runs.
    passed : Collection[tuple[int, int]]
        Pairs of runs that can be fused, counted from 0.

    Returns
    -------
    list[int]
        Indices of the runs in ascending order; [] if nothing can be fused. Of several largest
        sets, the set with the first run is returned.

    Examples
    --------
    >>> find_linked_runs(4, {(0, 1), (1, 2)})
    [0, 1, 2]
    >>> find_linked_runs(4, {(2, 3)})
    [2, 3]
    """
    links = np.zeros((n_runs, n_runs), dtype=bool)
    for run, other_run in passed:
        links[run, other_run] = True
    n_sets, set_indices = connected_components(csr_array(links), directed=False)
    linked_sets = [np.flatnonzero(set_indices == index).tolist() for index in range(n_sets)]
    largest: list[int] = max(linked_sets, key=len, default=[])
    return largest if len(largest) > 1 else []
