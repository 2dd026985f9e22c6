"""Table of all statements of a verdict, one per state of the evidence.

Headline, limitations, JSON and page of a run, and verdicts on series of other programs, are
made from these statements. Callers fill in names and formatted values. Statements that start
with a lowercase letter are clauses of other statements.
"""

from enum import StrEnum, unique

_BETTER_DETAIL = "detail beyond the acquired resolution better than {comparators} ({place})."
_MEASURED_IN_ACTIVE, _MEASURED_IN_BRAIN = "48 to 65", "11 to 42"
"""Lowest and highest measured explained variance (%) of contrasts whose detail is recovered in the
test, in active voxels and the brain of runs of people (benchmarks/results/tested_detail.md).
"""


@unique
class Statement(StrEnum):
    """Statements by state, with the names of their values in braces."""

    # before the headline
    MOTION = (
        "{subject}: mean framewise displacement (FD) {mean} mm, above {limit} mm in {share} of"
        " the volumes"
    )
    ZERO_FILLED = (
        "{series} {were} not applied (zero filled). Such series are identical to zerofill and are"
        " not compared."
    )

    # headline: no method, or a method that must not be used
    NOTHING_APPLIED = "No method was applied to this run. Use the acquired or the B-spline maps."
    NOTHING_COMPARED = (
        "No super-resolution method was run. All series are interpolations of the acquired series."
    )
    DO_NOT_USE = "Do not use the {series} maps."
    LOST = (
        "The activation of the acquired run is lost in {series}: downsampled to the acquired"
        " voxels, the effect in active voxels has {kept} (contrast {contrast})."
    )

    # headline: detail compared with a reference
    GAIN = "{series} recovers " + _BETTER_DETAIL
    NO_GAIN = "No method recovers " + _BETTER_DETAIL
    WRONG_DETAIL = (
        "{series} adds wrong detail ({place}): its explained variance is below 0{values}."
    )
    NO_TRUE_DETAIL = (
        "{series} was not found to recover true detail ({place}): its explained variance does not"
        " differ from 0{values}."
    )
    NOT_MORE_DETAIL = (
        "{series} was not found to recover more true detail than {baselines}{values}."
    )
    IMAGE_GAIN = (
        "Single volumes reconstructed by {series} are closer to the reference than those of"
        " bspline and inject."
    )

    # headline: detail of each contrast
    RECOVERED = "{series} recovers detail of {contrasts} in active voxels{names}{brain}."
    NOT_RECOVERED = "{series} detail {state}: {contrasts}{names}{reason}."
    NOTHING_FINER = "Interpret nothing finer than {size}{place}."
    NOT_MEASURED = "Accuracy was not measured in this run."
    NO_DETAIL = (
        "Accuracy could not be measured because the high-resolution reference has no reproducible"
        " detail: in at least one region, its two halves are not detectably correlated above the"
        " acquired Nyquist frequency."
    )
    NOT_TESTED = "The {series} maps were neither measured nor tested."
    AS_INTERPOLATED = "Treat the {series} maps as interpolated maps."

    # evidence: values and comparisons
    REFERENCE = "The reference is {reference}, and the {map_noun} is {contrast}{smoothing}."
    HALVES = (
        "Each series in one half of {unit} is compared with the reference in the other half,"
        " averaged over all balanced splits, with a correction for noise in the reference."
    )
    DETAIL = (
        "Detail is the part of the effect that is finer than the acquired voxels (above the"
        " acquired Nyquist frequency)."
    )
    EXPLAINED = (
        "An explained variance of 1 (100 %) means that all of the true detail is recovered, 0"
        " that none is, and a value below 0 that the detail is wrong."
    )
    CORRELATION = (
        "Values are correlations between maps above the acquired Nyquist frequency. Noise that is"
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

    # evidence: negative controls
    SPECIFIC = "Part of the gain from {series} is specific to this participant's own data."
    NOT_SPECIFIC = (
        "The gain from {series} was not found to depend on {causes}: the gain of {controls} is the"
        " same."
    )
    DEPENDS_ON = "This part of the gain depends on {cause}."
    CONTROLS_MISSING = "Negative controls that were not run: {controls}."

    # evidence: self-test at half the resolution
    SELF_TEST = (
        "In the {test}, {series} {decision} zero filling (reduction in squared error: {value}"
        "{interval})."
    )
    CALIBRATION = "Calibration of {series}: {result}."
    NOT_SELF_TESTED = "{series} was not included in the {test}: {reason}."

    # detail of each contrast, in tables
    DETAIL_IN_BRAIN = "Detail in the whole brain"
    DETAIL_IN_ACTIVE = "Detail in active voxels, not elsewhere"
    DETAIL_IN_ACTIVE_ONLY_TESTED = "Detail in active voxels; elsewhere not testable"
    NO_DETAIL_FINER = "Nothing finer than {size}: {state}{place}"
    REASON = "{state}: {contrasts}, because {reason}."
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
    NEEDED_BLOCKS = (
        "{contrast}: about {needed} blocks per condition instead of {present} would give a power"
        " of {power} %, if {percent} % of the detail are explained."
    )
    ENOUGH_BLOCKS = (
        "{contrast}: the run has enough blocks ({present} per condition, about {needed} give a"
        " power of {power} %) if {percent} % of the detail are explained."
    )
    NO_BLOCK_NUMBER = "{contrast}: no number of blocks can be stated, because {reason}."
    CONTRARY_EVIDENCE = "the test found evidence against recovered detail"
    MANY_BLOCKS = "more than {ratio} times as many blocks would be required"
    NOTHING_TO_RECOVER = "the acquired effect has no reproducible detail at half the resolution"
    FEW_SLICES = "the brain lies in fewer than {limit} slices or parts of sufficient size"
    FEW_PARTS = "the {region} lie in fewer than {limit} slices or parts of the brain"
    WIDE_INTERVAL = "the confidence interval ({ends} %) contains 0"
    IMPRECISE_LIMIT = (
        "the detail at the highest acquired spatial frequencies is not precise enough"
    )
    UNKNOWN_FINENESS = (
        "it is unknown whether the acquired effect fades at high spatial frequencies"
    )
    FADES = "the acquired effect fades toward the acquired Nyquist frequency"
    NOT_AT_LIMIT = "the detail at the highest acquired spatial frequencies is not recovered"
    NO_REFERENCE_DETAIL = "the reference has too little reproducible detail in these voxels"
    NO_ACTIVE_VOXELS = "no active voxels were defined, and the value is that of the whole brain"
    UNCONFIRMED = "the measured value has no confidence interval, and {test}"
    PRECISION = (
        "In other participants, the measured explained variance of recovered contrasts was"
        f" {_MEASURED_IN_ACTIVE} % in active voxels and {_MEASURED_IN_BRAIN} % in the whole brain"
        " (unsmoothed runs with a high-resolution reference)."
    )
    SCOPE = (
        "Results refer to unsmoothed maps, and to patterns over several voxels. Interpret the"
        " sign of the effect in single voxels only in the mask of sign reliable voxels."
    )
    SIGN_RELIABLE = (
        "Sign reliable voxels are significant voxels (FDR .05), selected such that at most 5 % of"
        " them are expected to have the wrong sign. Their selection relies on the predicted error"
        " of the detail, so they exist only if the detail of the contrast is recovered. If the"
        " detail is not supported, the run gives no evidence for this prediction, and no voxel is"
        " sign reliable. If the detail is not testable, the prediction was not tested, and sign"
        " reliable voxels are not determined."
    )
    SIZE_KNOWN = (
        "Size known voxels are sign reliable voxels whose 95 % interval of the effect (± 1.96 SD,"
        " including the reconstruction error) does not contain 0. Because of this selection, their"
        " effects are too large on average. Only sign reliable voxels are considered, because in"
        " the whole brain, most voxels with such an interval could be due to chance."
    )

    MEASURED_VALUES = (
        "Measured values: explained variance of the reference's detail, with 95 % interval."
    )
    TESTED_VALUES = (
        "Tested values: {test} (explained variance with 95 % interval). They are not values of the"
        " final detail."
    )
    SINGLE_RUN_TEST = "detail that is explained when the run is halved{sizes}"
    ACROSS_RUNS_TEST = (
        "detail that is explained when the runs are halved{sizes} and the super-resolved effect of"
        " one half of the runs is compared with the acquired effect of the other half"
    )
    NOT_BEST = (
        "Recovered means better than adding no detail; other series may be as accurate (see"
        " below)."
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
    ALL_CONDITIONS = (
        "The maps of {contrasts} contain all conditions. Conditions with fewer than two blocks"
        " cannot be tested, so the results apply to the other conditions in these maps."
    )
    NO_SIGN_RELIABLE = "{contrast} has no sign reliable voxels, because {reason}."
    NOT_COVERED = (
        "the 95 % intervals of the effect contained the acquired effect in only {share} of the"
        " voxels in the self-test"
    )
    NOT_RECOVERED_IN_TEST = "in the test without the reference, its detail is {state}"
    WRONG_SIGNS = (
        "Of all significant voxels of {contrast}{smoothing}, {share} are expected to have the"
        " wrong sign."
    )
    WRONG_IN_BRAIN = (
        "Detail added by {series} is wrong (explained variance below 0) in the whole brain in {n}"
        " of {total} contrasts{names}"
    )

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
        "The test cannot detect activity that has no detail finer than the acquired voxels. The"
        " detail of such activity may be called recovered, although all of it is wrong."
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
    ONLY_DETAIL = (
        "The verdict concerns only detail beyond the acquired resolution. Over all spatial"
        " frequencies, denoising may be more accurate."
    )
    SRGAN = "The published training recipe for srgan was never run to completion."
    NO_IMAGE_REFERENCE = (
        "Image quality relative to bspline and inject was not assessed. This comparison requires"
        " both series and measured volumes (--truth, --retrospective) or a second T2*w"
        " pair of the session (run-2)."
    )
    NO_CONTROLS = (
        "No negative controls were run for {series}, so it is unknown whether the gain is specific"
        " to this participant. To run negative controls, use --null-checks."
    )
    MAPS_WITHOUT_ERROR = "Interpolated maps and maps from networks {no_error}"
    CHECKS_FAILED = "These quality checks failed: {checks}."
    ONE_RUN = (
        "These results are from one run of one participant. Test at the group level whether they"
        " generalize."
    )

    # series of other programs: headline
    COMPARED_BETTER = "{series} is more accurate than the acquired series."
    COMPARED_NOT_BETTER = "{series} was not found to be more accurate than the acquired series."
    COMPARED_WORSE = "{series} is less accurate than the acquired series."
    COMPARED_MIXED = (
        "{series} is more accurate than the acquired series in one frequency band and less"
        " accurate in the other."
    )
    COMPARED_NOT_ASSESSED = "The accuracy of {series} was not assessed."

    # series of other programs: one frequency band
    BAND = "{band}, {finding}: {values}. The reference is {reference}."
    WITHIN = "the series {decision} the acquired series"
    TRUE_DETAIL = "the series contains true detail that the acquired series lacks"
    WRONG_ADDED_DETAIL = "the added detail is wrong"
    NO_TRUE_ADDED_DETAIL = "the series contains no true detail"
    NO_DETECTED_DETAIL = "no true detail was detected"
    NO_ADDED_DETAIL = "the series adds no detail"
    CONTRARY = (
        "the series {decision} the acquired series in {region}, but the opposite is true over the"
        " whole brain"
    )
    LIKE_SMOOTHING = (
        "the series is not more accurate than the acquired series smoothed to the same resolution"
    )
    ONLY_SIZE = (
        "the series is closer to the reference only in amplitude, which is also true of a"
        " scaled-down copy of a noisy series"
    )
    NOTHING_EXPLAINED = (
        "the series is closer to the reference than the acquired series, but its explained"
        " variance does not differ from 0"
    )
    NO_SMOOTHNESS = (
        "accuracy was not assessed because the smoothness of the series, which determines the"
        " control at the same resolution, could not be estimated"
    )
    NOT_COUNTED = (
        "{finding} (this gain is not counted because the measured series is from the same scan and"
        " has the same noise, which a program that processes the whole run can transfer between"
        " halves of the blocks)"
    )
    ON_ACQUIRED_GRID = (
        "The series has no detail above the acquired Nyquist frequency because it is on the"
        " acquired grid."
    )
    WITHIN_REQUIRES = (
        "Accuracy below the acquired Nyquist frequency is not assessed without a second run of the"
        " same task: scan the task twice and keep both runs, with their events, in the dataset."
    )
    BEYOND_REQUIRES = (
        "Accuracy above the acquired Nyquist frequency is not assessed without a high-resolution"
        " reference: measure the run at the high resolution, downsample it for the program, and"
        " specify the measurement with --truth DIR."
    )
    SHIFTED = "The series is shifted by {shift} of the acquired grid."
    EXCLUDED = (
        "{excluded} of {total} brain voxels ({share} %) were excluded from the evaluation because"
        " they have no signal in this series or in the acquired series."
    )
