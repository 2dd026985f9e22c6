"""Voxels of the echoes of a run: copies of other echoes, and signal that grows with echo time.

The signal of tissue decays with echo time. If it grows in most of the brain, files or sidecars of
two echoes were exchanged. Successive echoes are compared in pairs, because a single fit to all
echoes does not reveal exchanged neighbors. Where two echoes contain only noise, they differ by
chance, so only differences that exceed their standard error count.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np

from bids_sr.io.notices import Notice
from bids_sr.io.orientation import storage_order
from bids_sr.preproc.copied_series import NoiseRecord, find_copies
from bids_sr.survey.bids.echoes import SINGLE_ECHO
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.notices import problem

_N_VOLUMES = 20  # volumes that are compared, evenly distributed over the run
_MAX_RISING_SHARE = 0.5  # of the brain voxels; noise causes few rises
_MIN_RISE = 2.0  # difference between two echoes in a voxel, relative to its standard error
_MIN_COPY_CORRELATION = 0.9  # of the noise of two echoes, which share the pulsation of vessels
_MIN_VOXELS = 50  # fewer voxels are not compared


def check_echoes(run: BoldRun, records: Mapping[Path, NoiseRecord]) -> Iterator[Notice]:
    """Reject a run if an echo is a copy of another echo, or if the signal grows with echo time.

    All echoes must be valid and have the same shape, apart from their storage order. `records`
    contain the noise of the series by file.
    """
    paths = [path for path, _ in run.echoes]
    copies = [
        (paths[first], paths[second])
        for first, second, correlation in find_copies([records[path] for path in paths])
        if correlation > _MIN_COPY_CORRELATION
    ]
    for path, copied_path in copies:
        yield problem(
            copied_path,
            "the echoes cannot be combined because the noise of this echo is equal to the noise of"
            f" {path.name}, so one of the two files is a copy",
            f"Replace the copy with the series of this echo, or {SINGLE_ECHO}.",
        )
    if copies or not run.echoes:
        return
    for share, ((path, te_ms), (next_path, next_te_ms)) in zip(
        _measure_rising_shares(paths), pairwise(run.echoes), strict=False
    ):
        if share <= _MAX_RISING_SHARE:
            continue
        yield problem(
            next_path,
            "the echoes cannot be combined because the signal must decrease with echo time, but"
            f" is higher at {next_te_ms:g} ms than at {te_ms:g} ms ({path.name}) in {share:.0%} of"
            " the brain. The files of these echoes or their EchoTime may be exchanged",
            "Find out the echo time of each file, and rename the files or correct EchoTime,"
            f" or {SINGLE_ECHO}.",
        )


def _measure_rising_shares(paths: Sequence[Path]) -> list[float]:
    """Return the share of brain voxels with more signal than in the preceding echo (echoes - 1).

    `paths` are in ascending order of echo time. The differences are means over some volumes,
    relative to their standard errors. Empty if the mean of all echoes contains no brain.
    """
    from bids_sr.io.nifti import SeriesReader
    from bids_sr.preproc.multi_echo import limit_unsteady
    from bids_sr.spatial.masks import MaskError, brain_mask

    with ExitStack() as stack:
        readers = [
            stack.enter_context(SeriesReader(path, allow_nan=True, stays_open=True))
            for path in paths
        ]
        first = readers[0]
        orders = [storage_order(reader.affine, first.affine) for reader in readers]
        n_volumes = first.shape[3]
        start = limit_unsteady(n_volumes, first.tr)
        numbers = np.unique(np.linspace(start, n_volumes - 1, _N_VOLUMES).astype(int))
        mean = np.zeros(first.shape[:3])
        difference_sums = np.zeros((len(readers) - 1, *first.shape[:3]))
        square_sums = np.zeros_like(difference_sums)
        for number in numbers.tolist():
            volumes = [
                order.turn(reader.volume(number).astype(np.float64))
                for reader, order in zip(readers, orders, strict=True)
            ]
            differences = np.diff(volumes, axis=0)
            mean += np.mean(volumes, axis=0) / len(numbers)
            difference_sums += differences
            square_sums += np.square(differences)
    try:
        inside = brain_mask(mean, first.affine)
    except MaskError:
        return []
    if len(numbers) < 2 or np.count_nonzero(inside) < _MIN_VOXELS:
        return []
    difference_means = difference_sums[:, inside] / len(numbers)
    variances = square_sums[:, inside] / len(numbers) - np.square(difference_means)
    errors = np.sqrt(np.maximum(variances, 0) / (len(numbers) - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        rises = np.nan_to_num(difference_means / errors)  # 0 if an echo is constant
    return (rises > _MIN_RISE).mean(axis=1).tolist()
