"""Test verdicts on series of other programs with simulated effects of known truth."""

from functools import partial

import numpy as np
import pytest
from data.short_names import against_of, measure_of, named_row

from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.compared_series.verdict import decide_compared_verdict
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.references import (
    make_half_reference,
    make_known_reference,
    make_other_run_reference,
)
from bids_sr.evaluation.statements import Statement
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.blocks import TaskBlock
from bids_sr.io.series import same_name
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.smoothing import smooth

SHAPE, FACTOR, ZOOMS = (40, 40, 6), (2.0, 2.0, 1.0), (2.0, 2.0, 3.0)
AFFINE = np.diag([*ZOOMS, 1.0])
MASK = np.zeros(SHAPE, dtype=bool)
MASK[3:37, 3:37] = True
BLOCKS = tuple(TaskBlock(condition="a", events=((20.0 * k, 10.0),), half=k % 2) for k in range(16))
CONTRASTS = {"a": {"a": 1.0}}
WIDTHS = {"denoised": 0.0, "smoothed": 5.0, "invented": 0.0, "finer": 0.0, "leaky": 0.0}
FACTS = {"frame": "as acquired", "shift": ""}


def within(maps):
    return maps - beyond_nyquist(maps, FACTOR)


def effects_of(series, betas, **options):
    return Effects(
        series=series,
        affine=AFFINE,
        mask=MASK,
        betas=betas.astype(np.float32),
        mean=np.full(SHAPE, 500, dtype=np.float32),
        blocks=BLOCKS,
        covariance=np.eye(16),
        leak=np.zeros((16, 17)),
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Write the truth and effects of acquired, measured and second run, and of five series of
    other programs.
    """
    folder, rng = tmp_path_factory.mktemp("effects"), np.random.default_rng(0)
    active = smooth(rng.standard_normal(SHAPE), ZOOMS, 8.0)
    true = np.where(active > np.quantile(active, 0.8), 6.0, 0.0) + 1.2 * rng.standard_normal(
        SHAPE
    ) * (active > 0)
    noise = np.stack([within(20 * rng.standard_normal(SHAPE)) for _ in BLOCKS], -1)
    acquired = within(true)[..., None] + noise
    detail = beyond_nyquist(true, FACTOR)[..., None]
    betas_by_series = {
        "bspline": acquired,
        "zerofill": acquired,
        "denoised": within(true)[..., None] + 0.5 * noise,
        "smoothed": np.stack(
            [smooth(betas, ZOOMS, 5.0) for betas in np.moveaxis(acquired, -1, 0)], -1
        ),
        "invented": acquired + beyond_nyquist(1.2 * rng.standard_normal(SHAPE), FACTOR)[..., None],
        "finer": acquired + detail,
        # the mean over all blocks, repeated: contains noise of both halves
        "leaky": np.repeat(acquired.mean(-1, keepdims=True), len(BLOCKS), -1),
    }
    files = {
        name: effects_of(name, betas).save(folder / name)
        for name, betas in betas_by_series.items()
    }
    variance = {"smooth_variance": np.full(SHAPE, 0.3, dtype=np.float32)}
    measured_detail = np.stack(
        [beyond_nyquist(2 * rng.standard_normal(SHAPE), FACTOR) for _ in BLOCKS], -1
    )
    measured = true[..., None] + noise + measured_detail
    other_run = true[..., None] + np.stack([6 * rng.standard_normal(SHAPE) for _ in BLOCKS], -1)
    measured_file = effects_of("measured", measured, **variance).save(folder / "measured")
    other_file = effects_of("zerofill", within(other_run), **variance).save(folder / "other")
    return true, files, measured_file, other_file


def rows_of(run, reference):
    """Return rows of the evaluation against one kind of reference."""
    true, files, measured, other_file = run
    make_reference = {
        "known": partial(make_known_reference, known={"a": (true.astype(np.float32), AFFINE)}),
        "other": partial(make_other_run_reference, other_effects=Effects.load(other_file)),
    }.get(reference, make_half_reference)
    files_by_reference = {
        "measured": {**files, "measured": measured},
        "other": {n: f for n, f in files.items() if n != "bspline"},
    }
    run = RunEffects(
        files=files_by_reference.get(reference, files),
        contrasts=CONTRASTS,
        mask=MASK,
        affine=AFFINE,
        roi=MASK,
        factor=FACTOR,
        n_boot=200,
        same_widths=WIDTHS,
    )
    return agreement_rows(run, make_reference)


@pytest.fixture(scope="module", params=["known", "measured", "other", "halves"])
def judged(run, request):
    """Return verdicts of all series against one kind of reference."""
    rows = rows_of(run, request.param)
    verdicts = {
        name: decide_compared_verdict(name, rows, fwhm_mm=width, facts=FACTS)
        for name, width in WIDTHS.items()
    }
    return request.param, verdicts


MORE, NOT_MORE = "more accurate", "not more accurate"
LESS = "less accurate"
SERIES = ("denoised", "smoothed", "invented", "finer")
EXPECTED = {
    "known": dict(zip(SERIES, (MORE, NOT_MORE, LESS, MORE), strict=True)),
    "measured": dict(zip(SERIES, (NOT_MORE, NOT_MORE, LESS, MORE), strict=True)),
    "other": dict(zip(SERIES, (MORE, NOT_MORE, NOT_MORE, NOT_MORE), strict=True)),
    "halves": dict.fromkeys(WIDTHS, "not assessed"),
}
STATEMENTS = {
    "known": {
        "denoised": Statement.NO_TRUE_ADDED_DETAIL,
        "smoothed": Statement.LIKE_SMOOTHING,
        "invented": Statement.WRONG_ADDED_DETAIL,
        "finer": Statement.TRUE_DETAIL,
    },
    "measured": {"denoised": Statement.WITHIN_REQUIRES},
    "other": {"finer": Statement.BEYOND_REQUIRES},
    "halves": {"denoised": Statement.COMPARED_NOT_ASSESSED},
}
"""Verdicts and statements, by reference and series."""


def test_denoised_smoothed_invented_and_true_detail_have_their_verdicts(judged):
    reference, verdicts = judged
    assert {name: verdicts[name].status for name in EXPECTED[reference]} == EXPECTED[reference]
    for name, statement in STATEMENTS[reference].items():
        verdict = verdicts[name]
        states = [sentence.state for sentence in verdict.sentences]
        assert statement in states or statement in verdict.text
    if reference == "known":
        assert "(5.0 mm)" in verdicts["smoothed"].text


def test_noise_shared_with_the_measured_series_is_not_counted_as_gain(run):
    """Every half contains noise of the other half; a measured series of the same scan shares this
    noise, known activation does not.
    """
    verdicts = {
        reference: decide_compared_verdict(
            "leaky", rows_of(run, reference), fwhm_mm=0, facts=FACTS
        )
        for reference in ("measured", "known")
    }
    by_band = {
        reference: {claim.kind: claim for claim in verdict.claims}
        for reference, verdict in verdicts.items()
    }
    assert by_band["measured"]["within"].decision == "better"
    assert verdicts["measured"].status == "not more accurate", "shared noise must not count"
    gain = by_band["known"]["within"].comparisons[0].row
    assert gain.minus == "zerofill"
    assert gain.lower <= 0 <= gain.upper or abs(gain.value) < 0.02


def test_the_control_at_the_same_resolution_is_in_the_table(run):
    rows = {
        (row.series, against_of(row), measure_of(row)): row
        for row in rows_of(run, "known")
        if row.region == "brain"
    }
    assert ("smoothed", same_name("smoothed"), "gain_truth_ev_within") in rows
    assert (
        "finer",
        same_name("smoothed"),
        "gain_truth_ev_within",
    ) not in rows, "a control belongs to its series only"
    assert (same_name("smoothed"), "truth", "truth_ev_within") in rows


def test_a_shift_is_reported(run):
    facts = {"frame": "as acquired", "shift": "+0.14 voxels along x"}
    verdict = decide_compared_verdict("denoised", rows_of(run, "halves"), fwhm_mm=0, facts=facts)
    assert facts["shift"] in verdict.text


def rows_by_hand(**values):
    """Return rows of level and difference to the acquired series, as (value, lower, upper), by
    measure and region.
    """
    rows = []
    for name, (level, gain) in values.items():
        band, region = name.split("_")
        for measure, value_and_interval, against in (
            (f"truth_ev_{band}", level, "truth"),
            (f"gain_truth_ev_{band}", gain, "zerofill"),
            (f"gain_truth_ev_{band}", gain, "xSame"),
        ):
            value, lower, upper = value_and_interval
            options = {"against": against, "contrast": "a", "region": region}
            rows.append(named_row("x", measure, value, lower=lower, upper=upper, **options))
    return rows


def test_a_significant_difference_below_the_margin_counts_as_equal():
    level = (0.5, 0.4, 0.6)
    rows = rows_by_hand(
        within_active=(level, (0.019, 0.005, 0.033)),
        beyond_active=((0.03, 0.02, 0.04), (0.03, 0.025, 0.035)),
    )
    verdict = decide_compared_verdict("x", rows, fwhm_mm=0, facts=FACTS)
    assert verdict.status == MORE
    assert verdict.to_json()["decisions"] == {"within": "same", "beyond": "better"}
    values = {measure_of(row): row.value for row in verdict.rows}
    assert values == {"compared_fwhm": 0, "compared_within": 0, "compared_beyond": 1}
    with_margin = decide_compared_verdict("x", rows, fwhm_mm=0, facts=FACTS, margin=0.001)
    assert {claim.decision for claim in with_margin.claims} == {"better"}


def test_contradicting_regions_are_unclear():
    level = (0.5, 0.4, 0.6)
    rows = rows_by_hand(
        within_active=(level, (0.2, 0.1, 0.3)), within_brain=(level, (-0.2, -0.3, -0.1))
    )
    verdict = decide_compared_verdict("x", rows, fwhm_mm=0, facts=FACTS)
    assert (verdict.claims[0].decision, verdict.status) == ("unclear", "not more accurate")
    assert "−20 [−30, −10] percentage points" in verdict.text
    rows = rows_by_hand(
        within_active=(level, (0.01, -0.1, 0.12)), within_brain=(level, (0.2, 0.1, 0.3))
    )
    (brain_claim,) = decide_compared_verdict("x", rows, fwhm_mm=0, facts=FACTS).claims
    assert (brain_claim.decision, brain_claim.row.region) == ("better", "brain")


def test_explained_variance_is_unbiased_by_noise_of_the_other_run(run):
    """Explained variance equals the value against known activation, which has no noise."""
    values = {}
    for reference, measure in (("known", "truth_ev_within"), ("other", "other_ev_within")):
        for row in rows_of(run, reference):
            if (measure_of(row), row.region) == (measure, "brain"):
                values[reference, row.series] = row.value
    for name in ("denoised", "smoothed", "zerofill"):
        true = values["known", name]
        assert values["other", name] == pytest.approx(true, abs=0.04 * max(1, abs(true))), name
