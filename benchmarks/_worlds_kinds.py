"""Kinds of simulated activity: known activity that is added to the fluctuations of a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from _worlds_people import Array, Person, count_foci
from scipy import ndimage

from bids_sr.glm.regressors import Events
from bids_sr.spatial.nyquist import beyond_nyquist

FACTOR = (2.0, 2.0, 1.0)
_CHANGE = 0.03  # signal change of the strongest activity, relative to the mean of the brain
KNOWN, NEW, NYQUIST, DRAWN = "13 kinds", "new kinds", "end near Nyquist", "drawn sizes"
PLACED = "places that fluctuate"
"""Groups of kinds: of earlier rules, of other nature, with a known end of their spectrum, compact
activity whose sizes are drawn, and activity in places that fluctuate or respond late.
"""
_PATCH_MM = 7.0, 20.0  # diameter of patches
_OWN_SD = 0.1, 2.5  # own fluctuations of patches relative to the median SD of a voxel
_LAG_S = 3.0, 5.0
_OWN_MEMORY = 2.0  # volumes, standard deviation of the Gaussian that smooths own fluctuations


@dataclass(frozen=True)
class World:
    """Kind of simulated activity.

    `activity` returns the distribution of activity (X, Y, Z), without unit. `fluctuations` returns
    the series to which activity is added (X, Y, Z, T); None for the fluctuations of the person.
    `other_activity` is the distribution in the second half of the blocks; None if all blocks have
    the same activity. `cutoff` is the lowest spatial frequency without activity, relative to the
    Nyquist frequency of the acquired run; None if the spectrum is not limited. If a patch
    `fluctuates`, a slow fluctuation of its own is added. If the response is `late`, it has a
    random lag.
    """

    group: str
    text: str
    activity: Callable[[Person, np.random.Generator], Array]
    fluctuations: Callable[[Person, np.random.Generator], Array] | None = None
    other_activity: Callable[[Person, np.random.Generator], Array] | None = None
    cutoff: float | None = None
    fluctuates: bool = False
    late: bool = False


@dataclass(frozen=True)
class Simulation:
    """Run with known activity.

    `series` is the run (X, Y, Z, T). `activities` are distributions in signal units (X, Y, Z), and
    `responses` the time series of each (T,). `own_sd` is the SD of own fluctuations in patches,
    relative to the median SD of a voxel, and `lag` the delay of the response (s).
    """

    series: Array
    activities: Sequence[Array]
    responses: Sequence[Array]
    own_sd: float = 0.0
    lag: float = 0.0


def simulate_run(person: Person, world: World, seed: Sequence[int]) -> Simulation:
    """Add the activity of a kind to the run of a person."""
    rng = np.random.default_rng(seed)
    functions = [world.activity] + ([world.other_activity] if world.other_activity else [])
    activities = [np.where(person.mask, function(person, rng), 0) for function in functions]
    highest = _CHANGE * person.mean[person.mask].mean()
    strongest = np.quantile(np.abs(np.stack(activities)[:, person.mask]), 0.99)
    activities = [
        np.clip(activity * highest / strongest, -2 * highest, 2 * highest)
        for activity in activities
    ]
    if world.cutoff is not None:
        activities = [_limit_spectrum(activity, world.cutoff) for activity in activities]
    lag = float(rng.uniform(*_LAG_S)) if world.late else 0.0
    responses = (
        [person.compute_response(delay_events(person.events, lag))]
        if len(activities) == 1
        else [person.compute_response(events) for events in _split_events(person)]
    )
    series = world.fluctuations(person, rng) if world.fluctuations else person.series
    own_sd = 0.0
    if world.fluctuates:
        least, most = np.log(_OWN_SD)
        own_sd = float(np.exp(rng.uniform(least, most)))
        patches = np.abs(activities[0]) / highest
        series = series + _fluctuate(person, rng, patches, own_sd)
    series = person.mean[..., None] + series
    for activity, response in zip(activities, responses, strict=True):
        series = series + activity[..., None] * response
    return Simulation(series.astype(np.float32), activities, responses, own_sd, lag)


def delay_events(events: Events, seconds: float) -> Events:
    """Return events with later onsets."""
    return Events(events.table.assign(onset=events.table["onset"] + seconds))


def _fluctuate(person: Person, rng: np.random.Generator, patches: Array, own_sd: float) -> Array:
    """Return a slow fluctuation of each connected patch (X, Y, Z, T); `patches` are 0 to 1.

    `own_sd` is the SD relative to the median SD of a voxel of the brain.
    """
    labels, count = ndimage.label(patches > 0)
    noise = rng.standard_normal((count + 1, person.series.shape[3]))
    slow = ndimage.gaussian_filter1d(noise, _OWN_MEMORY, axis=1)
    slow /= slow.std(axis=1, keepdims=True)
    scale = own_sd * float(np.median(person.sd[person.mask]))
    return np.asarray(scale * patches[..., None] * slow[labels], dtype=np.float32)


def _limit_spectrum(activity: Array, cutoff: float) -> Array:
    """Remove spatial frequencies in plane from `cutoff` times the acquired Nyquist frequency."""
    x, y, z = FACTOR
    return np.asarray(activity - beyond_nyquist(activity, (x / cutoff, y / cutoff, z)))


def _split_events(person: Person) -> list[Events]:
    """Return the events of the blocks of both halves."""
    table = person.events.table.sort_values("onset")
    starts = sorted(
        (span[0], block.half) for block in person.design.blocks for span in block.events
    )
    indices = np.searchsorted([start for start, _ in starts], table["onset"], side="right") - 1
    halves = np.array([half for _, half in starts])[indices]
    return [Events(table[halves == half]) for half in (0, 1)]


def _make_noise(person: Person, rng: np.random.Generator) -> Array:
    """Return thermal noise, and in the brain smooth fields of 9 mm that vary slowly."""
    count, shape = person.series.shape[3], person.series.shape
    sd = float(person.series[person.mask].std())
    slow = ndimage.gaussian_filter1d(
        np.stack([person.field(rng, 9.0) for _ in range(count)], axis=-1), 2.0, axis=-1
    )
    series = 0.4 * sd * rng.standard_normal(shape) + 2.0 * sd * slow
    return np.where(person.mask[..., None], series, 0.4 * sd * rng.standard_normal(shape))


def _add_shared_noise(
    person: Person, rng: np.random.Generator, *, memory: float, strength: float
) -> Array:
    """Add patterns of 6 mm that are the same in all slices of a volume."""
    plane = replace(person, mask=person.mask.any(axis=2, keepdims=True))
    return _add_patterns(person, lambda: plane.field(rng, 6.0), memory=memory, strength=strength)


def _add_patterns(
    person: Person,
    draw_pattern: Callable[[], Array],
    *,
    memory: float,
    strength: float,
) -> Array:
    """Add patterns with an autocorrelation of first order to the fluctuations.

    `memory` is the correlation of successive volumes, and `strength` the standard deviation of the
    patterns relative to the fluctuations.
    """
    sd = strength * float(person.series[person.mask].std())
    series, pattern = person.series.copy(), draw_pattern()
    for volume in range(series.shape[3]):
        series[..., volume] += (sd * pattern).astype(np.float32)
        pattern = memory * pattern + (1 - memory**2) ** 0.5 * draw_pattern()
    return series


def _draw_size(
    person: Person,
    rng: np.random.Generator,
    place: Callable[[np.random.Generator, float, int], Array],
) -> Array:
    """Return foci of a random size, by a function of generator, size (mm) and number."""
    size = person.size(rng)
    return place(rng, size, count_foci(size))


def _draw_patches(person: Person, rng: np.random.Generator) -> Array:
    """Return balls of a random diameter at random places, 0 to 1."""
    diameter = person.size(rng, *_PATCH_MM)
    return person.hats(rng, diameter, count_foci(diameter))


def _draw_signs(patches: Array, rng: np.random.Generator) -> Array:
    """Change the sign of every second connected patch, at random."""
    labels, count = ndimage.label(patches > 0)
    return np.asarray(patches * rng.permutation(np.resize([1.0, -1.0], count + 1))[labels])


WORLDS = {
    "fluctuations": World(
        KNOWN,
        "as finely distributed as the fluctuations: their SD times a smooth area",
        lambda p, rng: p.sd * p.area(rng),
    ),
    "mixed": World(
        KNOWN,
        "SD of the fluctuations times a texture of 6 mm",
        lambda p, rng: p.sd * p.field(rng, 6.0) * p.area(rng),
    ),
    "vessels": World(
        KNOWN,
        "in voxels that fluctuate most: third power of the SD times a smooth area",
        lambda p, rng: p.sd**3 * p.area(rng),
    ),
    "smooth": World(
        KNOWN, "smoother than the fluctuations: areas of 40 mm", lambda p, rng: p.area(rng)
    ),
    "foci of 4 mm": World(KNOWN, "foci of 4 mm FWHM", lambda p, rng: p.blobs(rng, 4.0, 120)),
    "foci of 8 mm": World(KNOWN, "foci of 8 mm FWHM", lambda p, rng: p.blobs(rng, 8.0)),
    "foci of 12 mm": World(KNOWN, "foci of 12 mm FWHM", lambda p, rng: p.blobs(rng, 12.0)),
    "texture of 3 mm": World(
        KNOWN,
        "texture of single voxels in an area",
        lambda p, rng: p.field(rng, 0.0) * p.area(rng),
    ),
    "texture of 6 mm": World(
        KNOWN, "texture of 6 mm in an area", lambda p, rng: p.field(rng, 6.0) * p.area(rng)
    ),
    "texture of 9 mm": World(
        KNOWN, "texture of 9 mm in an area", lambda p, rng: p.field(rng, 9.0) * p.area(rng)
    ),
    "mirrored": World(
        KNOWN,
        "SD of the fluctuations of the other hemisphere times a smooth area",
        lambda p, rng: p.sd[::-1] * p.area(rng),
    ),
    "quiet": World(
        KNOWN,
        "in voxels that fluctuate least: inverse of the SD times a smooth area",
        lambda p, rng: (
            np.where(p.sd > 0, 1 / np.maximum(p.sd, np.median(p.sd[p.mask]) / 3), 0) * p.area(rng)
        ),
    ),
    "white noise": World(
        KNOWN,
        "smooth areas; fluctuations replaced by thermal noise and smooth fields of 9 mm",
        lambda p, rng: p.area(rng),
        fluctuations=_make_noise,
    ),
    "stripes": World(
        NEW,
        "stripes with a period of 8 mm in an area",
        lambda p, rng: p.stripes(rng, 8.0) * p.area(rng),
    ),
    "parcels": World(
        NEW,
        "equal activity within each of the parcels of the brain, 15 mm wide on average",
        lambda p, rng: p.parcels(rng, 15.0),
    ),
    "power law": World(
        NEW,
        "spectral density that falls with the third power of the frequency, in the whole brain",
        lambda p, rng: p.power_law(rng, 3.0),
    ),
    "hats of 6 mm": World(
        NEW, "balls of 6 mm with equal activity", lambda p, rng: p.hats(rng, 6.0, 120)
    ),
    "hats of 12 mm": World(
        NEW, "balls of 12 mm with equal activity", lambda p, rng: p.hats(rng, 12.0, 40)
    ),
    "shared noise": World(
        NEW,
        "foci of 8 mm FWHM; noise with a pattern of 6 mm that all slices share is added",
        lambda p, rng: p.blobs(rng, 8.0),
        fluctuations=partial(_add_shared_noise, memory=0.5, strength=0.5),
    ),
    "halves": World(
        NEW,
        "foci of 8 mm FWHM, at other places in every second block; known is the mean activity of"
        " all blocks",
        lambda p, rng: p.blobs(rng, 8.0),
        other_activity=lambda p, rng: p.blobs(rng, 8.0),
    ),
    "correlated noise": World(
        NEW,
        "SD of the fluctuations times a smooth area; smooth noise of 9 mm with a correlation of .8"
        " between volumes is added, so that the run is too smooth for the test",
        lambda p, rng: p.sd * p.area(rng),
        fluctuations=lambda p, rng: _add_patterns(
            p, lambda: p.field(rng, 9.0), memory=0.8, strength=1.0
        ),
    ),
    "slow shared noise": World(
        NEW,
        "SD of the fluctuations of the other hemisphere times a smooth area; noise with a pattern"
        " of 6 mm that all slices share and with a correlation of .95 between volumes is added",
        lambda p, rng: p.sd[::-1] * p.area(rng),
        fluctuations=partial(_add_shared_noise, memory=0.95, strength=0.7),
    ),
    "slow noise": World(
        NEW,
        "SD of the fluctuations times a smooth area; smooth noise of 6 mm with a correlation of"
        " .95 between volumes is added",
        lambda p, rng: p.sd * p.area(rng),
        fluctuations=lambda p, rng: _add_patterns(
            p, lambda: p.field(rng, 6.0), memory=0.95, strength=0.7
        ),
    ),
    "smoothed SD": World(
        NEW,
        "of a larger scale than the fluctuations: their SD, smoothed with 8 mm FWHM, times a"
        " smooth area",
        lambda p, rng: p.smooth(p.sd, 8.0) * p.area(rng),
    ),
    "sharpened SD": World(
        NEW,
        "of a smaller scale than the fluctuations: difference of their SD from the SD that is"
        " smoothed with 8 mm FWHM, times a smooth area",
        lambda p, rng: (p.sd - p.smooth(p.sd, 8.0)) * p.area(rng),
    ),
    "balls": World(
        DRAWN, "balls of 4 to 20 mm with equal activity", lambda p, rng: _draw_size(p, rng, p.hats)
    ),
    "foci": World(DRAWN, "foci of 4 to 20 mm FWHM", lambda p, rng: _draw_size(p, rng, p.blobs)),
    "shells": World(
        DRAWN, "hollow balls of 8 to 20 mm, 3 to 6 mm thick", lambda p, rng: p.shells(rng)
    ),
    "plateaus": World(DRAWN, "boxes with sides of 4 to 20 mm", lambda p, rng: p.plateaus(rng)),
    "sheets": World(
        DRAWN, "folded sheets, 4 to 20 mm thick, in an area", lambda p, rng: p.sheets(rng)
    ),
    "rim": World(DRAWN, "outer 3 to 12 mm of the brain in plane", lambda p, rng: p.rim(rng)),
    "own fluctuations": World(
        PLACED,
        "balls of 7 to 20 mm that also fluctuate slowly without the task, each by itself, with .1"
        " to 2.5 times the median SD of a voxel",
        _draw_patches,
        fluctuates=True,
    ),
    "own fluctuations of both signs": World(
        PLACED,
        "the same, with positive and negative activity",
        lambda p, rng: _draw_signs(_draw_patches(p, rng), rng),
        fluctuates=True,
    ),
    "maxima": World(
        PLACED,
        "balls of 7 to 20 mm on the strongest maxima of the SD of the fluctuations",
        lambda p, rng: p.hats_on_maxima(rng, p.size(rng, *_PATCH_MM)),
    ),
    "late": World(PLACED, "balls of 7 to 20 mm with a lag of 3 to 5 s", _draw_patches, late=True),
    "both signs": World(
        PLACED,
        "SD of the fluctuations times a smooth field of 40 mm of both signs",
        lambda p, rng: p.sd * p.field(rng, 40.0),
    ),
} | {
    f"ends at {cutoff:.1f}": World(
        NYQUIST,
        f"as the kind fluctuations, but no spatial frequencies from {cutoff:.1f} times the Nyquist"
        " frequency of the acquired run",
        lambda p, rng: p.sd * p.area(rng),
        cutoff=cutoff,
    )
    for cutoff in (0.9, 1.0, 1.1)
}
"""Kinds of simulated activity by name."""
