"""Measure from outside whether the program keeps ``--mem`` and ``--nprocs``."""

from pathlib import Path

import pytest

GIVEN_GB, PROCESSORS = 1.7, 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_limits_of_memory_and_processors_are_kept(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from _monitored import monitored
    from _resources import watch

    table = tmp_path / "resources.tsv"
    options = f"--smoothing 0 --set run.sloppy=true --nprocs {PROCESSORS} --mem {GIVEN_GB}"
    command = [str(tiny), str(tmp_path / "out"), "participant", "-w", str(tmp_path / "work")]
    command += options.split()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "8")
    run = watch(monitored(table, command), interval_s=0.3)
    assert run.code == 0, run.output
    assert f"of {PROCESSORS} processors can be used" in run.output
    assert 0.5 < run.peak_gib * 2**30 / 1e9 < GIVEN_GB
    heads, *rows = (line.split("\t") for line in table.read_text().splitlines())
    for row in rows:
        cells = dict(zip(heads, row, strict=True))
        cpu_seconds, seconds = float(cells["cpu_seconds"]), float(cells["seconds"])
        assert cpu_seconds < 1.15 * seconds + 0.3, (
            f"{cells['node']} took {cpu_seconds:.1f} processor seconds in {seconds:.1f} s"
        )
