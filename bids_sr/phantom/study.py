"""What a phantom is asked for; the fields are the options of ``bids-sr-phantom``."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from bids_sr.config.section import Checked, option
from bids_sr.frozen import frozen

if TYPE_CHECKING:
    from bids_sr.phantom.presets import Preset

_FIRST_ECHO_MS, _ECHO_SPACING_MS = 13.0, 16.0
# before, k-space is not read out; after, tissue has no signal left
_EARLIEST_MS, _LATEST_MS = 5.0, 150.0


def _echo_times(text: str) -> tuple[float, ...]:
    """Echo times (ms) from their number or a list.

    >>> _echo_times("3"), _echo_times("14,30.5")
    ((13.0, 29.0, 45.0), (14.0, 30.5))
    """
    if text.isdecimal():
        return tuple(_FIRST_ECHO_MS + _ECHO_SPACING_MS * k for k in range(int(text)))
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        message = (
            f"{text!r} is neither a number of echoes (3) nor a list of echo times in ms (14,30,46)"
        )
        raise argparse.ArgumentTypeError(message) from None


@frozen
class Study(Checked):
    """What to simulate; raises `UsageError` for what cannot be."""

    preset: Literal["tiny", "demo", "paper"] = option(
        "demo",
        "--preset",
        "tiny: seconds, for tests; demo: a minute; paper: 64x64x30x900 at TR 0.5 s, T1w"
        " 184x256x256, some minutes",
    )
    subjects: int = option(1, "--subjects N", "number of participants", least=1)
    pairs: int = option(
        1,
        "--pairs N",
        "number of T2*w pairs per participant, with different poses and noise; 2 or more are"
        " named run-1, run-2, …",
        least=1,
    )
    seed: int = option(0, "--seed N", "random seed; the same seed gives the same files", least=0)
    scene: Literal["ribbon", "veins", "free"] = option(
        "ribbon",
        "--scene",
        "activity along the gray matter (ribbon), displaced toward draining veins (veins), or"
        " regardless of anatomical borders (free)",
    )
    null: bool = option(False, help="no activity in response to the task")
    task: Literal["tap", "rest"] = option(
        "tap",
        "--task",
        "tap: blocks of finger tapping; rest: no events, but networks (motor, defaultMode,"
        " visual) with independent slow fluctuations",
    )
    volumes: int = option(
        0, "--volumes N", "number of BOLD volumes (default: that in the preset)", least=0
    )
    anat: bool = option(
        False,
        "--anat",
        "also T2w and FLAIR, and T1w, T2w and FLAIR at a low resolution, for bids-sr --sr-target"
        " anat",
    )
    calibration: int = option(
        0,
        "--calibration N",
        "also a short BOLD run at the high resolution, acq-highres_bold, of N volumes"
        " (default: none; 20 if N is omitted)",
        nargs="?",
        const=20,
        least=0,
    )
    echoes: tuple[float, ...] = option(
        (),
        "--echoes N|TIMES",
        "a multi-echo BOLD run (_echo-1_bold, …): number of echoes (the first at 13 ms, then one"
        " every 16 ms), or echo times in ms, such as 14,30,46",
        type=_echo_times,
        nargs=None,
        action="store",
    )

    @property
    def protocol(self) -> "Preset":
        """The preset, with as many volumes as were asked for."""
        from bids_sr.phantom.presets import PRESETS

        preset = PRESETS[self.preset]
        return replace(preset, volumes=self.volumes) if self.volumes else preset

    def _check(self) -> None:
        if self.volumes:
            least = self.protocol.least_volumes
            why = f"a run of {self.preset} has at least {least} volumes"
            self._need(self.volumes >= least, "volumes", why)
        why = "a calibration has at least 2 volumes (20 by itself)"
        self._need(self.calibration != 1, "calibration", why)
        if not self.echoes:
            return
        why = "a multi-echo run has at least 2 echoes; omit --echoes for a single echo"
        self._need(len(self.echoes) > 1, "echoes", why)
        rising = list(self.echoes) == sorted(set(self.echoes))
        self._need(rising, "echoes", "the echo times are not in ascending order")
        why = f"echo times lie between {_EARLIEST_MS:g} and {_LATEST_MS:g} ms"
        within = self.echoes[0] >= _EARLIEST_MS and self.echoes[-1] <= _LATEST_MS
        self._need(within, "echoes", why)
