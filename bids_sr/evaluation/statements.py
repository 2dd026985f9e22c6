"""Table of all statements of a verdict, one per state of the evidence.

Headline, limitations, JSON and page of a run are made from these statements. Callers fill in
names and formatted values. Statements that start with a lowercase letter are clauses of other
statements.
"""

from enum import StrEnum, unique

_MEASURED_IN_ACTIVE, _MEASURED_IN_BRAIN = "44 to 56", "11 to 42"
"""Lowest and highest measured explained variance (%) of contrasts whose detail is explained in the
test, in active voxels and the brain of runs of people (benchmarks/results/tested_detail.md).
"""


@unique
class Statement(StrEnum):
    """Statements by state, with the names of their values in braces."""

    # warnings
    MOTION = (
        "{subject}: mean framewise displacement (FD) {mean} mm, above {limit} mm in {share} of"
        " the volumes"
    )
    DO_NOT_USE = "Do not use the {series} maps."
    STOPPED = "{series}: {reason}."
    LOST = (
        "The activation of the acquired run is lost in {series}: downsampled to the acquired"
        " voxels, the effect in active voxels has {kept} (contrast {contrast})."
    )

    # result of a run
    EXPLAINS = "{series} explains {value} of the detail of {contrast} {place}{decided}."
    BY_TEST = "decided by the test"
    EXPLAINED_IN_TEST = (
        "In the test, {series} explains {value} of the detail of {contrast} {place};"
        " unmeasured at {size}."
    )
    INTERPRETABLE = "Its detail may be interpreted {contrasts}."
    CONTRADICTED = "Detail was contradicted {contrasts}."
    NONE_INTERPRETABLE = (
        "No detail of {series} may be interpreted{contrast}{reason}: use the {maps} maps."
    )
    SAFE_MAP = "smoothed by {width} mm: shape and place, differences, group level"
    UNSMOOTHED_MAP = (
        "signs; right in every measured run of people, wrong in compact spots that also fluctuate"
        " without the task"
    )
    SAFE_MASK = "significant (FDR .05), signs not checked:"
    UNSMOOTHED_MASK = "at most 5 % wrong signs expected; not a threshold of t:"
    NOTHING_APPLIED = "{series} {were} not applied (zero filled): use the B-spline maps."
    NOTHING_COMPARED = "No super-resolution method was run: all series are interpolations."

    # result of a contrast over runs
    CHANGED = "{contrast}: {regions}."
    WIDENED = " (intervals widened for the search over {n} labels)"
    NO_LABEL_CHANGED = (
        "{contrast}: no label changed (q of {n} labels: smallest {q}). In one region named before,"
        " a change of {named} % (median over labels) would have been found in 4 of 5; in a search"
        " over all labels, about {searched} %. A change in a part of a label may be missed."
    )
    FOUND_CHANGE = "A change of {named} % would have been found in 4 of 5."
    CHANGED_IN_MAP = (
        "In the map, {n} voxels are significant (FDR .05), most in {place} ({direction})."
    )
    CHANGE_WITHOUT_REGIONS = "{contrast}: no region was measured. Name one (--roi)."

    # result of a group
    GROUP_EXPLAINS = (
        "{series} explains {value} of the detail of {contrast} in {place} (median of"
        " {participants}), {comparison}."
    )
    GROUP_MORE = (
        "{difference} more than the strongest baseline of each participant"
        " (more in {n_above} of {n}, {p})"
    )
    GROUP_NOT_ABOVE_ZERO = (
        "more than the strongest baseline of each participant, but not detectably above 0 %"
    )
    GROUP_NOT_MORE = (
        "not detectably more than the strongest baseline of each participant ({difference}, {p})"
    )
    GROUP_TOO_FEW = "which are too few participants for a comparison with the baselines"
    GROUP_CHANGE = (
        "{contrast}: in the mean of {n} participants, {volume} significant (FDR .05, {smoothing})."
    )
    GROUP_NO_MAP = "{contrast}: fewer than three participants have a map."
    GROUP_TESTED = (
        "In the test, {series} explains {value} of the detail of {contrast} in active voxels"
        " (median of {participants}); unknown at the final resolution."
    )
    GROUP_NOT_RUN = "{series}, whose detail is compared in the group, was not run."
    GROUP_NOT_COMPARED = "The detail of {series} was not compared with a reference: {reason}."
    GROUP_BASELINES = (
        "The strongest baseline of a participant explains most among all baselines, denoising"
        " controls and simple arithmetic. Because noise inflates the largest of several values,"
        " the comparison is biased against the method and cannot show a loss."
    )
    GROUP_WITHOUT_VALUE = "Participants without a value: {participants}."

    # results of a task, for a paper
    PAPER_METHOD = "{subject}, effects were super-resolved{sizes} with {series} (bids-sr)."
    PAPER_NOT_APPLIED = "{subject}, no super-resolution method was applied."
    PAPER_UNAPPLIED = "In {n} of {total} runs, no method was applied."
    PAPER_SKIPPED = "{series} {were} not applied, because the self-test did not support it."
    PAPER_REFERENCE = "The reference was {reference}."
    PAPER_TEST = (
        "There was no high-resolution reference, so that the accuracy at {final} is unknown. The"
        " method was tested at half the resolution: data were reduced to {reduced}, super-resolved"
        " to {acquired}, and compared with the acquired effects in the other half of the {halves}."
    )
    PAPER_UNTESTED = (
        "There was no high-resolution reference, and {series} was not tested at half the"
        " resolution{n}: the accuracy of its detail is unknown."
    )
    PAPER_NONE = "The detail of no contrast could be interpreted: B-spline maps were used."
    PAPER_EXPLAINED = (
        "{series} explained {value} of the detail of {contrast} in active voxels (|t| > 4 in the"
        " {selecting} run){brain}{n}."
    )
    PAPER_BASELINE = "The strongest baseline, {series}, explained {value} in active voxels."
    PAPER_YES = "The detail could be interpreted {contrasts}."
    PAPER_NO = "The detail was contradicted {contrasts}."
    PAPER_NOT_TESTABLE = "The data did not decide on the detail {contrasts}."
    PAPER_NOT_TESTED = "The detail was neither measured nor tested {contrasts}."
    PAPER_BY_TEST = (
        "Where the measured value has no interval, the test at half the resolution decided ({n} of"
        " {total} answers)."
    )
    PAPER_CHANGES = "{contrast} changed: {regions}."

    # evidence: values and comparisons
    REFERENCE = "The reference is {reference}, and the {map_noun} is {contrast}{smoothing}."
    HALVES = (
        "Each series in one half of {unit} is compared with the reference in the other half,"
        " averaged over all balanced splits, with a correction for noise in the reference."
    )
    DETAIL = "Detail is the part of an effect that is finer than the acquired voxels ({size})."
    EXPLAINED = (
        "100 % explained means that all of the true detail is explained, 0 % is no better than"
        " adding no detail, and below 0 % the detail is wrong."
    )
    CORRELATION = (
        "Values are correlations between the detail of maps. Noise that is"
        " common to both maps counts as agreement."
    )
    INTERVALS = (
        "Values in brackets are 95 % confidence intervals from resampled blocks. The intervals do"
        " not include the uncertainty in the selection of active voxels and in the prior SD map."
    )
    VALUES = "{series}: {values}."
    COMPARISON = "{series} {decision} {comparator}: {value}, {place}.{remark}"
    NOT_COMPARED = "{series} was not compared with {comparator}, {place}."
    STATIC_DETAIL = (
        "Static detail contributes to this difference, which favors a T2* pair computed from"
        " volumes of the same run."
    )

    # evidence: self-test at half the resolution
    SELF_TEST = (
        "In the {test}, {series} {decision} zero filling (reduction in squared error: {value}"
        "{interval})."
    )
    CALIBRATION = "Calibration of {series}: {result}."
    NOT_SELF_TESTED = "{series} was not included in the {test}: {reason}."

    # detail of each contrast
    REASON = "{answer}: {contrasts}, because {reason}."
    NO_GAIN = "hardly any detail is explained"
    FEW_BLOCKS = "{conditions} in the run, and two are required"
    NOT_SPLIT = "the run cannot be split into two halves"
    NOT_DOWNSAMPLED = "the run could not be super-resolved at half the resolution"
    OTHER_METHOD = "contrasts of {series} are not tested at half the resolution"
    SMOOTH_RUN = (
        "the run is smooth (FWHM {fwhm} voxels in plane, at most {limit} can be tested); use the"
        " run before smoothing"
    )
    FEW_VOXELS = (
        "there are only {n} {region} at half the resolution (at least {limit} are required)"
    )
    NOTHING_TO_RECOVER = "the acquired effect has no reproducible detail at half the resolution"
    FEW_SLICES = "the brain lies in fewer than {limit} slices or parts of sufficient size"
    FEW_PARTS = "the {region} lie in fewer than {limit} slices or parts of the brain"
    WIDE_INTERVAL = "the confidence interval ({ends} %) contains 0"
    UNKNOWN_FINENESS = (
        "it is unknown whether the acquired effect fades in the finer half of the tested detail"
        " ({n} slices or parts of active voxels inside the brain{near})"
    )
    NEAR_LIMIT = "the fineness is so near its limit that one block more or less can decide"
    FADES = "the acquired effect fades in the finer half of the tested detail"
    COMPACT = (
        "with a prior that was estimated without the task, less of the detail is explained: the"
        " activity is compact, and right and wrong detail look the same"
    )
    ACTIVE_NOT_RECOVERED = "the detail in active voxels is not recovered"
    NO_REFERENCE_DETAIL = "the reference has too little reproducible detail in these voxels"
    NO_ACTIVE_VOXELS = "no active voxels were defined, and the value is that of the whole brain"
    DISAGREES = "the measured value is not above 0, but the tested value is"
    PRECISION = (
        "In four unsmoothed runs of three participants with a high-resolution reference, the"
        " detail of all 30 recovered contrasts and regions was right: measured explained variance"
        f" {_MEASURED_IN_ACTIVE} % in active voxels and {_MEASURED_IN_BRAIN} % in the whole brain."
    )

    ANSWERS = (
        "✓ Yes: in active voxels ({active}) or in the whole brain, the detail, as a pattern over"
        " several voxels, is better than no detail. Read single voxels in the mask. ✗ No: there is"
        " evidence that hardly any detail is explained, or that the effect has no fine detail."
        " ? Not testable: the data do not decide."
    )
    VEINS_IN_MASK = (
        "Of the {n} outlined voxels, {large} have acquired effects above {limit}, which is typical"
        " of veins."
    )
    WITHOUT_LARGE = (
        "Without the {n} of {n_active} active voxels with an acquired effect above {limit},"
        " {value} of the detail of {contrast} is explained ({whole} with them)."
    )

    MEASURED_VALUES = (
        "● Measured: the reference is {reference}. Without an interval relative to the reference,"
        " the test decides."
    )
    TESTED_VALUES = (
        "○ Tested: {test}. The value at the final resolution is unknown, or has no interval."
    )
    SINGLE_RUN_TEST = (
        "the run is reduced to half its resolution, super-resolved{sizes}, and compared with the"
        " acquired effects in the other half of the blocks"
    )
    ACROSS_RUNS_TEST = (
        "runs are reduced to half their resolution, super-resolved{sizes}, and compared with the"
        " acquired effects of the other half of the runs (in differences: of the blocks)"
    )
    SINGLE_SPLIT = (
        "Conditions with two blocks have a single split into halves ({conditions}). Tested"
        " intervals of their contrasts do not include the variation between these blocks."
    )
    TWO_RUNS = (
        "With two runs, there is a single split into halves, and tested intervals do not include"
        " the variation between runs."
    )
    SHARP_RUN = (
        "The acquired images are sharp enough for the test (FWHM of the noise {fwhm} voxels in"
        " plane, at most {limit})."
    )
    UNTESTED_CONDITIONS = (
        "Conditions with fewer than two blocks cannot be tested. They are part of the maps, but"
        " not of the numbers."
    )
    MASKS = (
        "Masks of {contrast}: of {n_significant} significant voxels (FDR .05), {wrong} are"
        " expected to have the wrong sign; of the {n_sign_reliable} sign reliable voxels, at most"
        " 5 % of the increases and 5 % of the decreases. The sign is that of this run; weak"
        " effects can differ in another run."
    )
    NO_SIGN_RELIABLE = "{contrast} has no sign reliable voxels, because {reason}."
    NOT_COVERED = (
        "the 95 % intervals of the effect contained the acquired effect in only {share} of the"
        " voxels in the self-test"
    )
    NOT_RECOVERED_IN_TEST = "the test does not confirm its detail"

    # limitations
    NOT_ACCURACY = (
        "The self-test only determines whether a method is applied. Its score is the reduction in"
        " squared error (including thermal noise) relative to zero filling, which does not measure"
        " the accuracy of an activation map."
    )
    CALIBRATED = (
        "The estimate was calibrated with a high-resolution run. The alignment of this run was"
        " tested at the acquired resolution, by predicting the highest acquired spatial"
        " frequencies. The self-test does not detect a calibration run that is shifted by one"
        " voxel."
    )
    BLIND_SPOT = (
        "The test rejects compact activity in places that do not fluctuate without the task,"
        " because right and wrong detail look the same there. Compact patches that also fluctuate"
        " without the task may be accepted, although their added detail is wrong; in the safe map,"
        " it does little harm. So may activity without detail finer than the acquired voxels."
    )
    THERMAL_NOISE = (
        "Thermal noise is {noise} of the signal, more than in all runs with measured accuracy (at"
        " most {limit}). The accuracy measured in these runs therefore does not apply, and the"
        " self-test may accept a map with wrong detail."
    )
    NO_REFERENCE = (
        "This run has no high-resolution reference. To measure accuracy, specify a reference with"
        " --truth DIR, or use --retrospective, which downsamples the run and uses the run itself"
        " as the reference."
    )
    NO_INTERVALS = "Differences without a confidence interval are inconclusive."
    UNDEFINED = (
        "In the region '{region}', the explained variance of the measured series is n/a, because"
        " noise leaves too little reproducible detail in this series (correlation between its two"
        " halves below .5). The values of the other series are not affected and may be higher."
    )
    VEINS = "Detail in BOLD maps reflects draining veins as well as neuronal activity."
    NO_DENOISED = "The denoised B-spline series were not compared with the known activation."
    NO_MARGIN = (
        "Equivalence cannot be claimed because no equivalence margin was specified, and a margin"
        " cannot be derived without a measured series."
    )
    SRGAN = "The published training recipe for srgan was never run to completion."
    NO_IMAGE_REFERENCE = (
        "Image quality relative to bspline and inject was not assessed. This comparison requires"
        " both series and measured volumes (--truth, --retrospective) or a second T2*w"
        " pair of the session (run-2)."
    )
    MAPS_WITHOUT_ERROR = "Interpolated maps and maps from networks {no_error}"
    CHECKS_FAILED = "These quality checks failed: {checks}."
    ONE_RUN = (
        "These results are from one run of one participant. Test at the group level whether they"
        " generalize."
    )

    @property
    def short(self) -> str:
        """Reason in at most six words; "" if it has no short form."""
        return _SHORT.get(self.name, "")


_SHORT = {
    "FEW_BLOCKS": "few blocks",
    "NOT_SPLIT": "run cannot be halved",
    "NOT_DOWNSAMPLED": "run cannot be halved in resolution",
    "OTHER_METHOD": "only sbl is tested",
    "SMOOTH_RUN": "run is smooth",
    "FEW_VOXELS": "few active voxels",
    "NOTHING_TO_RECOVER": "no reproducible detail",
    "FEW_SLICES": "few slices",
    "FEW_PARTS": "few slices",
    "WIDE_INTERVAL": "interval contains 0",
    "UNKNOWN_FINENESS": "fineness too imprecise",
    "FADES": "effect has no fine detail",
    "COMPACT": "compact activity",
    "ACTIVE_NOT_RECOVERED": "not recovered in active voxels",
    "NO_REFERENCE_DETAIL": "reference has no detail here",
    "NO_ACTIVE_VOXELS": "no active voxels",
    "DISAGREES": "measured and tested values disagree",
    "NO_GAIN": "hardly any explained",
}
"""Short reasons by the name of their statement."""
