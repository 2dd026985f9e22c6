"""The series of a run: as acquired, interpolated, super-resolved, measured and compared."""

from collections.abc import Mapping, Sequence

from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import (
    Confounds,
    Effects,
    Facts,
    File,
    Image,
    Mask,
    Regressors,
    Rows,
    Series,
    SpaceGrid,
    Table,
)
from bids_sr.workflows.wanted import Wanted


@frozen
class VarianceModel:
    """Where a run fluctuates: estimated variances with their test one level down."""

    model_file: File
    card_file: Facts
    log_file: Table
    weight: Image
    tested: Facts


@frozen
class MadeSeries:
    """A series of a run, with what is known of how it was made; None for what it does not have.

    Parameters
    ----------
    name : str
        Name of the series.
    series : Series
        Its volumes, head motion undone.
    mask : Mask
        Brain on its grid.
    wanted : Wanted | None
        What was asked for; None for the acquired, measured and compared series.
    model_file, card_file, log_file : File, Facts, Table
        Model that was applied, its card, and the log of a training on volumes of the run.
    variance : VarianceModel | None
        Estimate of where the run fluctuates, if the method has one.
    holdout, precision_rows : Rows
        Metrics on a held-out pair, and of the check of half precision.
    regressors : Regressors | None
        Time series of the seeds in this series; None: those of the run.
    compared_facts : Facts | None
        How a series of another program lies to the run.
    """

    name: str
    series: Series
    mask: Mask
    wanted: Wanted | None = None
    model_file: File | None = None
    card_file: Facts | None = None
    log_file: Table | None = None
    variance: VarianceModel | None = None
    holdout: Rows | None = None
    precision_rows: Rows | None = None
    error_draws: Series | None = None
    acquired_draws: Series | None = None
    regressors: Regressors | None = None
    compared_facts: Facts | None = None


@frozen
class RunSeries:
    """All series of a run, and what they are mapped with.

    Parameters
    ----------
    raw : MadeSeries
        Acquired series, head motion undone, on its own grid.
    fine : Mapping[str, MadeSeries]
        Series on the high-resolution grid by name, in the order of computation: stored ones, the
        measured one, those of other programs, and those that are only evaluated.
    tested : Mapping[str, Facts]
        Tests one level down by series, with that of the control, of which no series may be made.
    regressors : Regressors
        Events, or time series of seeds or components.
    confounds : Confounds
        Confounds of the run, one row a volume.
    time_columns, censoring : Table, Facts
        Temporal model of a run that has one.
    grids : Sequence[SpaceGrid]
        Grids in other spaces.
    other_effects : Effects | None
        Effects of another run of the task, with which compared series are held.
    """

    raw: MadeSeries
    fine: Mapping[str, MadeSeries]
    tested: Mapping[str, Facts]
    regressors: Regressors
    confounds: Confounds
    time_columns: Table | None = None
    censoring: Facts | None = None
    grids: Sequence[SpaceGrid] = ()
    other_effects: Effects | None = None
