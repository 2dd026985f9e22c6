"""Trial types whose responses a model cannot separate, and what it cannot separate them from.

Responses at the same moments cannot be separated from each other. If the events of several types
follow each other without a pause, their responses add up to a constant: each difference of two
types can be estimated, but their responses cannot be separated from the mean of the run.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from bids_sr.glm.design import Design
from bids_sr.glm.type_information import LARGEST_INFLATION, TypeInformation
from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen

Partner = Literal["types", "mean", "drift", "confounds"]
"""Columns of a model: other trial types, mean of the run, slow drift, and all further columns."""

_LARGEST_EIGENVALUE = 1 / LARGEST_INFLATION  # of inseparable mixtures of unit regressors
# energy of an inseparable mixture before all columns are removed; mixtures of types that are only
# inseparable from the mean or from drift have far more
_LARGEST_ENERGY = 5 * _LARGEST_EIGENVALUE
_MIN_LOADING = 0.2  # entry of a unit vector; types with smaller entries are not involved


@frozen
class InseparableTypes:
    """Trial types, and the columns of the model that they cannot be separated from.

    A single type with the partner ``types`` is nearly a mixture of many other types.
    """

    types: tuple[str, ...]
    partner: Partner


def find_inseparable_types(
    design: Design, information: TypeInformation
) -> tuple[InseparableTypes, ...]:
    """Return the groups of trial types of a design whose responses cannot be separated.

    Columns are added to the model step by step: mean, drift, and confounds. The partner of a group
    is the last column that was added before the group became inseparable.

    `information` belongs to the design.
    """
    regressors = design.matrix[:, : len(design.conditions)]
    lengths = information.lengths
    # a regressor that is removed completely has no length left
    scales = np.where(lengths > 0, lengths, np.linalg.norm(regressors, axis=0))
    scaled_regressors = regressors / scales
    mixtures = information.eigenvectors[:, information.eigenvalues < _LARGEST_EIGENVALUE]
    groups = list[InseparableTypes]()
    for partner, columns in _add_columns(design):
        if not mixtures.size:
            break
        fit = columns @ np.linalg.lstsq(columns, scaled_regressors, rcond=None)[0]
        _, sizes, directions = np.linalg.svd((scaled_regressors - fit) @ mixtures)
        energies = np.zeros(mixtures.shape[1])
        energies[: len(sizes)] = sizes**2
        is_small = (energies < _LARGEST_ENERGY) | (partner == "confounds")
        groups += [
            InseparableTypes(types=types, partner=partner)
            for types in _list_groups(mixtures @ directions[is_small].T, design.conditions)
        ]
        mixtures = mixtures @ directions[~is_small].T
    return tuple(groups)


def _add_columns(design: Design) -> Iterator[tuple[Partner, Float]]:
    """Yield each partner with all columns (rows, columns) of the partners up to it.

    The first columns are derivatives of the responses to all types.
    """
    n_derivatives = len(design.derivatives)
    names = np.array(design.columns[len(design.conditions) :])
    columns = design.matrix[:, len(design.conditions) :]
    is_derivative = np.arange(len(names)) < n_derivatives
    is_confound = ~is_derivative & np.isin(names, design.nuisance_columns)
    yield "types", columns[:, is_derivative]
    yield "mean", columns[:, is_derivative | (names == "constant")]
    yield "drift", columns[:, ~is_confound]
    yield "confounds", columns


def _list_groups(mixtures: Float, conditions: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the types that are mixed with each other; types of separate mixtures are apart.

    `mixtures` are orthonormal weights of the conditions (conditions, mixtures).
    """
    projection = mixtures @ mixtures.T
    remaining = {
        int(index) for index in np.flatnonzero(np.sqrt(np.diag(projection)) > _MIN_LOADING)
    }
    while remaining:
        group, reached = set[int](), {min(remaining)}
        while reached:
            group |= reached
            reached = {
                index
                for index in remaining - group
                if (np.abs(projection[index, sorted(group)]) > _MIN_LOADING**2).any()
            }
        remaining -= group
        yield tuple(conditions[index] for index in sorted(group))
