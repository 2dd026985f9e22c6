"""Test the resource usage of a step as measured by benchmarks/_monitored.py."""

import mmap
from pathlib import Path

import pytest
from _monitored import Meter


@pytest.mark.timeout(60)
def test_the_meter_measures_added_memory_and_processor_time() -> None:
    meter = Meter()
    # an array could reuse pages that earlier tests freed and malloc kept resident
    with mmap.mmap(-1, 100_000_000) as pages:
        for page in range(0, len(pages), mmap.PAGESIZE):
            pages[page] = 1
        total = sum(k * k for k in range(400_000))
        usage = meter.read()
        assert usage.grown_gb == pytest.approx(0.1, rel=0.2)
        assert 0 < usage.cpu_seconds < usage.seconds + 1
        assert usage.peak_gb >= usage.left_gb >= 0.1
        assert total > 0


def test_the_meter_measures_bytes_read_and_written(tmp_path: Path) -> None:
    meter, file = Meter(), tmp_path / "file"
    file.write_bytes(bytes(20_000_000))
    file.read_bytes()
    usage = meter.read()
    assert usage.written_gb == pytest.approx(0.02, rel=0.05)
    assert usage.read_gb == pytest.approx(0.02, rel=0.05)
