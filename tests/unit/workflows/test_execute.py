"""What surrounds the schedulers, whichever runs the steps."""

import time

from nipype.pipeline.plugins import base

from bids_sr.execution.execute import _steady_time


def test_schedulers_count_time_by_a_clock_that_nobody_sets() -> None:
    """nipype sleeps until a time of the day: for a day, where the clock is put back by one
    meanwhile.
    """
    before = base.time
    with _steady_time():
        assert base.time is time.monotonic
    assert base.time is before
