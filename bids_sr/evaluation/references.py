"""References of the effects of a run.

These are measured halves, known activation, another run, and the measured map.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bids_sr.evaluation.agreement import ComparedVoxels, Reference, Way, gain_pairs, resampled
from bids_sr.evaluation.effects_of_run import RunEffects, on_grid
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.reference_maps import MEASURED_MAP, REFERENCE, TRUE_T, known_truths
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.io.arrays import Float, Float32, Mask
from bids_sr.io.volume import Volume
from bids_sr.series import MEASURED, OTHER_RUN

_KNOWN = "truth"
_ACTIVE_T = (3.0, 4.0, 5.0, 6.0)


def measured_halves(run: RunEffects) -> Reference | None:
    """Compare halves of the blocks with the measured other halves; None without measured series.

    Each half is held against the other one's measured effects, both ways.

    Active voxels are those of the acquired run, and those of the measured half that is not the
    target. The acquired map has the blocks of both halves, but only the noise within its own band.
    """
    if MEASURED not in run.files:
        return None
    measured = run.first()
    ways: dict[str, tuple[Way, Way]] = {}
    active: list[ComparedVoxels] = []
    for contrast, weights in run.contrasts.items():
        halves = measured.halves(weights)
        if halves is None:
            continue
        a, b = resampled(measured.blocks, halves, run.n_boot, run.seed, contrast)
        ways[contrast] = (
            Way(contrast=contrast, source=a, target=b, twin=a),
            Way(contrast=contrast, source=b, target=a, twin=b),
        )
        for way, half in zip(ways[contrast], halves, strict=True):
            active += _active(measured, half, run.mask, way, _ACTIVE_T)
    return Reference(
        name=MEASURED,
        targets=_targets(run, measured, run.bands),
        regions=[*_everywhere(run, ways), *_acquired(run, ways), *active],
        units=_units(measured, run.contrasts),
        has_controls=True,
    )


def measured_map(run: RunEffects) -> Reference | None:
    """Compare whole-run effects with measured ones beyond the acquired Nyquist limit.

    Both are of the same blocks.

    Both have the same blocks and may share their noise: the correlation alone, without an
    interval, and its difference to that of the B-spline. None without a measured series, or where
    no axis was made finer.
    """
    if MEASURED not in run.files or "beyond" not in run.bands:
        return None
    measured = run.first()
    ways: dict[str, tuple[Way]] = {}
    active: list[ComparedVoxels] = []
    for contrast, weights in run.contrasts.items():
        whole = measured.whole(weights)
        if whole is not None:
            ways[contrast] = (
                Way(contrast=contrast, source=whole[None], target=whole[None], twin=whole[None]),
            )
            active += _active(measured, whole, run.mask, ways[contrast][0], (TRUE_T,))
    return Reference(
        name=MEASURED_MAP,
        targets=_targets(run, measured, ("beyond",)),
        regions=[*_everywhere(run, ways), *_acquired(run, ways), *active],
        units={},
        statistics=("r",),
        itself=MEASURED,
        pairs=lambda names: [
            (name, REFERENCE) for name in names if REFERENCE in names and name != REFERENCE
        ],
    )


def known_activation(
    run: RunEffects, known: Mapping[str, tuple[Float32, Float]]
) -> Reference | None:
    """Return effects of the run against known activation, which shares no noise with any series.

    Blocks of both halves are drawn together, within condition. Beside a measured series
    differences are told of series of other programs alone. None where no contrast is known or
    follows from known ones.

    Parameters
    ----------
    run : RunEffects
        Block effects of all series of the run.
    known : Mapping[str, tuple[Float32, Float]]
        Maps by contrast, each with its voxel-to-RAS-mm matrix, in the frame of the run.

    Returns
    -------
    Reference | None
        Reference with one way of each contrast, or None.
    """
    first = run.first()
    # filters need whole slices; which voxels are active is a matter of the brain
    everywhere = Volume(np.ones_like(run.mask), run.affine)
    whole = known_truths(known, run.contrasts, everywhere)
    active = known_truths(known, run.contrasts, Volume(run.mask, run.affine))
    weights = {name: first.whole(run.contrasts[name]) for name in whole}
    names = [name for name, own in weights.items() if own is not None]
    if not names:
        return None
    ways: dict[str, tuple[Way]] = {}
    for column, name in zip(np.eye(len(names)), names, strict=True):
        own = weights[name]
        assert own is not None
        source = resampled(first.blocks, own[None], run.n_boot, run.seed, name)[0]
        true = np.broadcast_to(column, (len(source), len(names)))
        ways[name] = (Way(contrast=name, source=source, target=true, twin=true),)
    regions = [
        ComparedVoxels(name="active", voxels=voxels[run.mask], ways=ways[name])
        for name in names
        if (voxels := active[name].active) is not None
    ]
    compared = run.same_widths if MEASURED in run.files else None
    # few maps beside many: sums in single precision would lose digits
    effects = np.stack([whole[name].effect for name in names], axis=-1, dtype=np.float64)
    return Reference(
        name=_KNOWN,
        targets=run.banded(effects, run.bands),
        regions=[*_everywhere(run, ways), *regions],
        units=_units(first, run.contrasts),
        pairs=lambda names: [
            pair for pair in gain_pairs(names) if compared is None or pair[0] in compared
        ],
    )


def another_run(run: RunEffects, other: Effects) -> Reference | None:
    """Compare whole-run effects with one half of another run within the acquired band.

    `other`: of the acquired series of a run of the same task, on the grid, with what `smooth_t`
    needs.

    Its noise is its own: what agrees with it is signal. Voxels are those that its other half shows
    to be active, both ways. Effects that differ between the runs, by habituation or position,
    count as error of every series alike. Blocks of both runs are resampled. None where either run
    has too few blocks.
    """
    first = run.first()
    ways: dict[str, list[Way]] = {}
    active: list[ComparedVoxels] = []
    for contrast, weights in run.contrasts.items():
        whole = first.whole(weights)
        halves = other.halves(weights)
        if whole is None or halves is None:
            continue
        source = resampled(first.blocks, whole[None], run.n_boot, run.seed, contrast)[0]
        a, b = resampled(other.blocks, halves, run.n_boot, run.seed + 1, contrast)
        n = min(len(source), len(a))
        for half, twin, target in ((halves[0], a, b), (halves[1], b, a)):
            way = Way(contrast=contrast, source=source[:n], target=target[:n], twin=twin[:n])
            ways.setdefault(contrast, []).append(way)
            active += _active(other, half, run.mask, way, (TRUE_T,))
    if not ways:
        return None
    return Reference(
        name=OTHER_RUN,
        targets=_targets(run, other, ("within",)),
        regions=[*_everywhere(run, ways), *active],
        units=_units(first, run.contrasts),
        statistics=("r", "ev"),
    )


def _targets(run: RunEffects, reference: Effects, bands: Sequence[str]) -> dict[str, Float32]:
    """Maps of the blocks of a reference by band; ValueError where it lies on another grid."""
    return run.banded(on_grid(reference, run.mask.shape, run.affine)[1], bands)


def _everywhere(run: RunEffects, ways: Mapping[str, Sequence[Way]]) -> Iterator[ComparedVoxels]:
    """Brain and region of interest, the same for all contrasts."""
    for name, voxels in run.regions.items():
        yield ComparedVoxels(
            name=name,
            voxels=voxels[run.mask],
            ways=[way for both in ways.values() for way in both],
        )


def _acquired(run: RunEffects, ways: Mapping[str, Sequence[Way]]) -> Iterator[ComparedVoxels]:
    """Voxels that the acquired run shows active, for each contrast that it has a t map of."""
    for contrast, own in ways.items():
        if contrast in run.acquired_t:
            t = np.abs(run.acquired_t[contrast])[run.mask]
            yield ComparedVoxels(name=ACQUIRED_ACTIVE, voxels=t > TRUE_T, ways=own)


def _active(
    effects: Effects, half: Float, mask: Mask, way: Way, limits: Sequence[float]
) -> Iterator[ComparedVoxels]:
    """Voxels with |t| above limits in a sum of blocks; none where the series has no t."""
    if effects.smooth_variance is not None:
        t = np.abs(effects.smooth_t(half))[mask]
        for limit in limits:
            yield ComparedVoxels(name=f"active{round(10 * limit)}", voxels=t > limit, ways=[way])


def _units(effects: Effects, contrasts: Contrasts) -> dict[str, int]:
    """Blocks that count in each contrast."""
    found = {name: effects.halves(weights) for name, weights in contrasts.items()}
    return {
        name: int(np.count_nonzero(halves)) for name, halves in found.items() if halves is not None
    }
