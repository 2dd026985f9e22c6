"""Verdicts on series of other programs, of simulated effects whose truth is known: each kind gets
its own.
"""

from functools import partial

import numpy as np
import pytest
from shortnames import against_of, measure_of, named_row

from bids_sr.evaluation.advice import _PYTHON, PROGRAM
from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.compared_verdict import compared_verdict
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.references import another_run, known_activation, measured_halves
from bids_sr.glm.block_effects import Effects, load_effects, save_effects
from bids_sr.glm.blocks import TaskBlock, _assign_halves
from bids_sr.glm.smoothing import smooth
from bids_sr.series import same_name
from bids_sr.spatial.nyquist import beyond_nyquist

SHAPE, FACTOR, ZOOMS = (40, 40, 6), (2.0, 2.0, 1.0), (2.0, 2.0, 3.0)
AFFINE = np.diag([*ZOOMS, 1.0])
MASK = np.zeros(SHAPE, dtype=bool)
MASK[3:37, 3:37] = True
BLOCKS = tuple(
    _assign_halves([TaskBlock(condition="a", events=((20.0 * k, 10.0),)) for k in range(16)])
)
CONTRASTS = {"a": {"a": 1.0}}
WIDTHS = {"denoised": 0.0, "smoothed": 5.0, "invented": 0.0, "finer": 0.0, "leaky": 0.0}
FACTS = {"frame": "as acquired", "shift": ""}


def within(maps):
    return maps - beyond_nyquist(maps, FACTOR)


def effects_of(series, betas, **more):
    return Effects(
        series=series,
        affine=AFFINE,
        mask=MASK,
        betas=betas.astype(np.float32),
        mean=np.full(SHAPE, 500, dtype=np.float32),
        blocks=BLOCKS,
        covariance=np.eye(16),
        leak=np.zeros((16, 17)),
        **more,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Truth, and files of effects: acquired, five series of other programs, measured, and another
    run.
    """
    folder, rng = tmp_path_factory.mktemp("effects"), np.random.default_rng(0)
    active = smooth(rng.standard_normal(SHAPE), ZOOMS, 8.0)
    true = np.where(active > np.quantile(active, 0.8), 6.0, 0.0) + 1.2 * rng.standard_normal(
        SHAPE
    ) * (active > 0)
    noise = np.stack([within(20 * rng.standard_normal(SHAPE)) for _ in BLOCKS], -1)
    acquired = within(true)[..., None] + noise
    detail = beyond_nyquist(true, FACTOR)[..., None]
    made = {
        "bspline": acquired,
        "zerofill": acquired,
        "denoised": within(true)[..., None] + 0.5 * noise,
        "smoothed": np.stack(
            [smooth(each, ZOOMS, 5.0) for each in np.moveaxis(acquired, -1, 0)], -1
        ),
        "invented": acquired + beyond_nyquist(1.2 * rng.standard_normal(SHAPE), FACTOR)[..., None],
        "finer": acquired + detail,
        # the mean over all blocks in each of them: its noise is that of both halves
        "leaky": np.repeat(acquired.mean(-1, keepdims=True), len(BLOCKS), -1),
    }
    files = {
        name: save_effects(effects_of(name, each), folder / f"{name}.npz")
        for name, each in made.items()
    }
    variance = {"smooth_variance": np.full(SHAPE, 0.3, dtype=np.float32)}
    own = np.stack([beyond_nyquist(2 * rng.standard_normal(SHAPE), FACTOR) for _ in BLOCKS], -1)
    measured = true[..., None] + noise + own
    other = true[..., None] + np.stack([6 * rng.standard_normal(SHAPE) for _ in BLOCKS], -1)
    measured_file = save_effects(
        effects_of("measured", measured, **variance), folder / "measured.npz"
    )
    other_file = save_effects(
        effects_of("zerofill", within(other), **variance), folder / "other.npz"
    )
    return true, files, measured_file, other_file


def rows_of(run, reference):
    """Rows of the evaluation against one kind of reference."""
    true, files, measured, other = run
    make = {
        "known": partial(known_activation, known={"a": (true.astype(np.float32), AFFINE)}),
        "other": partial(another_run, other=load_effects(other)),
    }.get(reference, measured_halves)
    among = {
        "measured": {**files, "measured": measured},
        "other": {n: f for n, f in files.items() if n != "bspline"},
    }
    run = RunEffects(
        files=among.get(reference, files),
        contrasts=CONTRASTS,
        mask=MASK,
        affine=AFFINE,
        roi=MASK,
        factor=FACTOR,
        n_boot=200,
        same_widths=WIDTHS,
    )
    return agreement_rows(run, make)


@pytest.fixture(scope="module", params=["known", "measured", "other", "halves"])
def judged(run, request):
    """Verdict of every series against one kind of reference."""
    rows = rows_of(run, request.param)
    found = {
        name: compared_verdict(name, rows, fwhm_mm=width, facts=FACTS, advice=PROGRAM)
        for name, width in WIDTHS.items()
    }
    return request.param, found


MORE, NOT_MORE = "more accurate", "not more accurate"
EXPECTED = {
    "known": {
        "denoised": "more accurate",
        "smoothed": "not more accurate",
        "invented": "less accurate",
        "finer": "more accurate",
    },
    "measured": {
        "denoised": "not more accurate",
        "smoothed": "not more accurate",
        "invented": "less accurate",
        "finer": "more accurate",
    },
    "other": {
        "denoised": "more accurate",
        "smoothed": "not more accurate",
        "invented": "not more accurate",
        "finer": "not more accurate",
    },
    "halves": dict.fromkeys(WIDTHS, "not assessed"),
}


def test_each_kind_gets_its_verdict(judged):
    reference, found = judged
    assert {name: found[name].status for name in EXPECTED[reference]} == EXPECTED[reference]


def test_the_words_name_band_reference_and_control(judged):
    reference, found = judged
    if reference == "known":
        assert "also at the same resolution" not in found["denoised"].text, (
            "its resolution is the acquired one"
        )
        assert "closer to the reference than the acquired series" in found["denoised"].text
        assert "contains no true detail" in found["denoised"].text
        assert (
            "not more accurate than the acquired series smoothed to the same resolution"
            in found["smoothed"].text
        )
        assert (
            "over the acquired series smoothed to about its resolution (5.0 mm)"
            in found["smoothed"].text
        )
        assert "the added detail is wrong" in found["invented"].text
        assert "contains true detail that the acquired series lacks" in found["finer"].text
    if reference == "measured":
        assert "this gain is not counted" in found["denoised"].text
        assert "scan the task twice" in found["denoised"].text
    if reference == "other":
        assert "The reference is another acquired run of the task" in found["finer"].text
        assert (
            "Above the acquired Nyquist frequency, accuracy was not assessed"
            in found["finer"].text
        )
        assert "specify the measurement with --truth DIR" in found["finer"].text
    if reference == "halves":
        assert (
            "Below the acquired Nyquist frequency, accuracy was not assessed"
            in found["denoised"].text
        )


def test_what_a_denoiser_has_seen_in_both_halves_is_no_gain(run):
    """Noise of the other half in each half: a measured series of the same scan shares it, known
    activation does not.
    """
    found = {
        reference: compared_verdict(
            "leaky", rows_of(run, reference), fwhm_mm=0, facts=FACTS, advice=PROGRAM
        )
        for reference in ("measured", "known")
    }
    by_band = {
        reference: {each.kind: each for each in one.claims} for reference, one in found.items()
    }
    assert by_band["measured"]["within"].decision == "better"
    assert found["measured"].status == "not more accurate", (
        "it explains more of what shares its noise"
    )
    gain = by_band["known"]["within"].comparisons[0].row
    assert gain.minus == "zerofill"
    assert gain.lower <= 0 <= gain.upper or abs(gain.value) < 0.02


def test_the_control_at_the_same_resolution_stands_in_the_table(run):
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
    ) not in rows, "it is no control of another series"
    assert (same_name("smoothed"), "truth", "truth_ev_within") in rows


def test_a_shift_is_said_and_python_has_its_own_advice(run):
    facts = {"frame": "as acquired", "shift": "+0.14 voxels along x"}
    found = compared_verdict(
        "denoised", rows_of(run, "halves"), fwhm_mm=0, facts=facts, advice=_PYTHON
    )
    assert "shifted by +0.14 voxels along x" in found.text
    assert "other_run" in found.text
    assert "--" not in found.text


def test_differences_that_are_sure_and_small_count_as_none():
    def row(measure, value, low, high, against="truth"):
        return named_row(
            "x",
            measure,
            value,
            lower=low,
            upper=high,
            against=against,
            contrast="a",
            region="active",
        )

    rows = [
        row("truth_ev_within", 0.5, 0.4, 0.6),
        row("gain_truth_ev_within", 0.011, 0.01, 0.012, "zerofill"),
        row("truth_ev_beyond", 0.03, 0.02, 0.04),
        row("gain_truth_ev_beyond", 0.03, 0.025, 0.035, "zerofill"),
    ]
    found = compared_verdict("x", rows, fwhm_mm=0, facts=FACTS, advice=PROGRAM)
    assert {each.kind: each.decision for each in found.claims} == {
        "within": "same",
        "beyond": "better",
    }
    assert found.status == "more accurate"
    told = {measure_of(row): row.value for row in found.rows}
    assert told == {"compared_fwhm": 0, "compared_within": 0, "compared_beyond": 1}
    assert found.to_json()["decisions"] == {"within": "same", "beyond": "better"}


def rows_by_hand(**values):
    """Level and difference to the acquired series, as (value, lower, upper), by measure and
    region.
    """
    rows = []
    for name, (level, gain) in values.items():
        band, region = name.split("_")
        for measure, one, against in (
            (f"truth_ev_{band}", level, "truth"),
            (f"gain_truth_ev_{band}", gain, "zerofill"),
            (f"gain_truth_ev_{band}", gain, "xSame"),
        ):
            value, lower, upper = one
            rows.append(
                named_row(
                    "x",
                    measure,
                    value,
                    lower=lower,
                    upper=upper,
                    against=against,
                    contrast="a",
                    region=region,
                )
            )
    return rows


def test_a_sure_difference_below_the_margin_is_none_even_if_its_interval_is_wide():
    level = (0.5, 0.4, 0.6)
    found = compared_verdict(
        "x",
        rows_by_hand(within_active=(level, (0.019, 0.005, 0.033))),
        fwhm_mm=0,
        facts=FACTS,
        advice=PROGRAM,
    )
    assert found.claims[0].decision == "same"
    asked = compared_verdict(
        "x",
        rows_by_hand(within_active=(level, (0.019, 0.005, 0.033))),
        fwhm_mm=0,
        facts=FACTS,
        advice=PROGRAM,
        margin=0.001,
    )
    assert asked.claims[0].decision == "better"


def test_what_active_voxels_say_and_the_brain_denies_is_not_decided():
    level = (0.5, 0.4, 0.6)
    rows = rows_by_hand(
        within_active=(level, (0.2, 0.1, 0.3)), within_brain=(level, (-0.2, -0.3, -0.1))
    )
    told = compared_verdict("x", rows, fwhm_mm=0, facts=FACTS, advice=PROGRAM)
    assert (told.claims[0].decision, told.status) == ("unclear", "not more accurate")
    assert (
        "more accurate in truly active voxels, but over the whole brain its noise or wrong detail"
        " outweighs this gain" in told.text
    )
    assert "−0.20 [−0.30, −0.10] over the acquired series in the brain" in told.text
    rows = rows_by_hand(
        within_active=(level, (0.01, -0.1, 0.12)), within_brain=(level, (0.2, 0.1, 0.3))
    )
    found, lacking = compared_verdict("x", rows, fwhm_mm=0, facts=FACTS, advice=PROGRAM).claims
    assert lacking.holds is None
    assert (found.decision, found.region) == ("better", "brain")


def test_noise_of_the_other_run_costs_a_series_nothing(run):
    """Explained variance of its effect is that of the known activation, which has no noise."""
    found = {}
    for reference, measure in (("known", "truth_ev_within"), ("other", "other_ev_within")):
        for row in rows_of(run, reference):
            if (measure_of(row), row.region) == (measure, "brain"):
                found[reference, row.series] = row.value
    for name in ("denoised", "smoothed", "zerofill"):
        true = found["known", name]
        assert found["other", name] == pytest.approx(true, abs=0.04 * max(1, abs(true))), name
