"""Temporal filters that leave more of the response to events than the filter of the settings."""

from collections.abc import Callable, Collection, Iterator, Mapping

from bids_sr.config import Settings
from bids_sr.glm.type_information import LEAST_OBSERVED_SHARE

_PERIOD_RATIO = 1.25  # of the longest periods that two successive filters pass


def suggest_filters(
    weak_types: Collection[str],
    measure_shares: Callable[[Settings], Mapping[str, float]],
    settings: Settings,
    *,
    n_volumes: int,
    tr: float,
) -> dict[str, str]:
    """Return the filter that keeps enough of the response, as a sentence by trial type.

    It is the strongest filter that keeps at least half of the share that the mildest filter would
    keep, for all types that a filter can keep. Other types have no entry.

    `weak_types` are types with a small share of the response left by the filter of the settings.
    `measure_shares` returns the share of the response that other settings leave, by type; types
    without an entry are not in the model. The run has `n_volumes`, and `tr` is in s.
    """
    filters = [
        (description, measure_shares(milder_settings))
        for milder_settings, description in _iterate_filters(settings, n_volumes * tr, tr)
    ]
    largest_shares = {
        name: max((shares.get(name, 0.0) for _, shares in filters), default=0.0)
        for name in weak_types
    }
    targets = {
        name: max(LEAST_OBSERVED_SHARE, share / 2)
        for name, share in largest_shares.items()
        if share >= LEAST_OBSERVED_SHARE
    }
    for description, shares in filters:
        if targets and all(shares.get(name, 0.0) >= target for name, target in targets.items()):
            return dict.fromkeys(targets, f"To keep it, use {description}.")
    return {}


def _iterate_filters(
    settings: Settings, duration: float, tr: float
) -> Iterator[tuple[Settings, str]]:
    """Yield settings with filters that are milder than the given ones, the strongest first.

    The text describes the filter, and names the option that selects it.

    `duration` is the length of the run (s), and `tr` the repetition time (s). A straight line
    follows the last high-pass filter. Pass bands are extended to slower periods, then to faster
    periods.
    """
    activation = settings.activation
    if activation.band_pass:
        lowest, highest = activation.band_pass
        slower_bands = [(low, highest) for low in _iterate_cutoffs(lowest, duration)]
        faster_bands = [(lowest, high) for high in _iterate_upper_cutoffs(highest, tr)]
        for low, high in slower_bands + faster_bands:
            yield (
                settings.with_values(activation={"band_pass": (low, high)}),
                f"a pass band with periods of {1 / high:.2g} to {1 / low:.0f} s"
                f" (--band-pass {low:g} {high:g})",
            )
    elif activation.legendre_order:
        for order in range(activation.legendre_order - 1, 0, -1):
            drift = f"legendre:{order}"
            yield (
                settings.with_values(activation={"drift": drift}),
                f"polynomials up to order {order} (--set activation.drift={drift})",
            )
    elif activation.high_pass:
        for cutoff in _iterate_cutoffs(activation.high_pass, duration):
            yield (
                settings.with_values(activation={"high_pass": cutoff}),
                f"a high-pass cutoff of {1 / cutoff:.0f} s"
                f" (--set activation.high_pass={cutoff:g})",
            )
        yield (
            settings.with_values(activation={"high_pass": None}),
            "a straight line instead of the high-pass filter (--set activation.high_pass=none)",
        )


def _iterate_cutoffs(cutoff: float, duration: float) -> Iterator[float]:
    """Yield lower cutoffs (Hz) of two digits, as long as they remove a cosine from a run.

    `cutoff` is in Hz and `duration` in s.
    """
    while (cutoff := float(f"{cutoff / _PERIOD_RATIO:.2g}")) >= 0.5 / duration:
        yield cutoff


def _iterate_upper_cutoffs(cutoff: float, tr: float) -> Iterator[float]:
    """Yield higher cutoffs (Hz) of two digits, up to the highest frequency of a run.

    `cutoff` is in Hz, and `tr` the repetition time (s).
    """
    while (cutoff := float(f"{cutoff * _PERIOD_RATIO:.2g}")) <= 0.5 / tr:
        yield cutoff
