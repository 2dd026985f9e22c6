"""Specification of a simulated study; the fields are the options of ``bids-sr-phantom``."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from bids_sr.config.section import OptionSection, option
from bids_sr.config.tedana import INSTALL_TEDANA, is_tedana_installed
from bids_sr.io.frozen import frozen

if TYPE_CHECKING:
    from bids_sr.phantom.presets import Preset

_FIRST_ECHO_MS, _ECHO_SPACING_MS = 13.0, 16.0
# ms, range of echo times: k-space is not read out before, and tissue has no signal after
_MIN_ECHO_MS, _MAX_ECHO_MS = 5.0, 150.0
_MAX_LESIONS = 200  # per participant


def _parse_echo_times(text: str) -> tuple[float, ...]:
    """Return echo times (ms) from their number or from a list.

    >>> _parse_echo_times("3"), _parse_echo_times("14,30.5")
    ((13.0, 29.0, 45.0), (14.0, 30.5))
    """
    if text.isdecimal():
        return tuple(_FIRST_ECHO_MS + _ECHO_SPACING_MS * index for index in range(int(text)))
    try:
        return tuple(float(value) for value in text.split(","))
    except ValueError:
        message = (
            f"{text!r} is neither a number of echoes (such as 3) nor a list of echo times in"
            " ms (such as 14,30,46)"
        )
        raise argparse.ArgumentTypeError(message) from None


@frozen
class Study(OptionSection):
    """Study to simulate; `UsageError` is raised if the options are not valid."""

    preset: Literal["tiny", "demo", "paper"] = option(
        "demo",
        "--preset",
        "protocol of the scans: tiny (takes seconds), demo (takes a minute), or paper (900"
        " BOLD volumes of 64x64x30 voxels at a TR of 0.5 s and a T1w image of 184x256x256"
        " voxels; takes several minutes)",
    )
    subjects: int = option(1, "--subjects N", "number of simulated participants", least=1)
    pairs: int = option(
        1,
        "--pairs N",
        "number of T2*w pairs per participant, with different head positions and noise, named"
        " run-1, run-2, … if several",
        least=1,
    )
    seed: int = option(
        0, "--seed N", "random seed; the same seed generates identical files", least=0
    )
    scene: Literal["ribbon", "veins", "free", "overlap"] = option(
        "ribbon",
        "--scene",
        "location of the activation: along the gray matter (ribbon), displaced toward"
        " draining veins (veins), independent of anatomical borders (free), or in alternating"
        " patches of thumb and little finger within one area (overlap)",
    )
    null: bool = option(False, help="do not add activation in response to the task")
    task: Literal["tap", "rest"] = option(
        "tap",
        "--task",
        "blocks of finger tapping (tap), or resting state with slow fluctuations of"
        " independent networks (rest)",
    )
    volumes: int = option(
        0,
        "--volumes N",
        "number of BOLD volumes (default: as in the preset)",
        least=0,
    )
    anat: bool = option(
        False,
        "--anat",
        "also simulate T2w and FLAIR scans, and low-resolution T1w, T2w and FLAIR scans, for"
        " bids-sr --sr-target anat",
    )
    lesions: int = option(
        0,
        "--lesions N",
        "with --anat: add N (20 if omitted) white-matter hyperintensities per participant,"
        " with their mask and a map of possible locations in derivatives/ground-truth"
        " (default: none)",
        nargs="?",
        const=20,
        least=0,
    )
    calibration: int = option(
        0,
        "--calibration N",
        "also simulate a high-resolution BOLD run of N (20 if omitted) volumes"
        " (acq-highres_bold) (default: none)",
        nargs="?",
        const=20,
        least=0,
    )
    echoes: tuple[float, ...] = option(
        (),
        "--echoes N|TIMES",
        "simulate a multi-echo BOLD run (_echo-1_bold, …): number of echoes (at 13 ms, and"
        " then every 16 ms), or echo times in ms, such as 14,30,46",
        type=_parse_echo_times,
        nargs=None,
        action="store",
    )

    @property
    def protocol(self) -> "Preset":
        """Preset with the requested number of volumes."""
        from bids_sr.phantom.presets import PRESETS

        preset = PRESETS[self.preset]
        return replace(preset, volumes=self.volumes) if self.volumes else preset

    def _check(self) -> None:
        if self.volumes:
            minimum = self.protocol.min_volumes
            reason = f"a run of the preset {self.preset} must have at least {minimum} volumes"
            self._need(self.volumes >= minimum, "volumes", reason)
        reason = f"at most {_MAX_LESIONS} lesions can be simulated"
        self._need(self.lesions <= _MAX_LESIONS, "lesions", reason)
        reason = "lesions are part of the structural scans. Add --anat"
        self._need(self.anat or not self.lesions, "lesions", reason)
        reason = "a calibration run must have at least 2 volumes (default: 20)"
        self._need(self.calibration != 1, "calibration", reason)
        if not self.echoes:
            return
        reason = "a multi-echo run must have at least 2 echoes. For a single echo, omit --echoes"
        self._need(len(self.echoes) > 1, "echoes", reason)
        reason = f"simulating several echoes requires tedana. {INSTALL_TEDANA}"
        self._need(is_tedana_installed(), "echoes", reason)
        is_ascending = list(self.echoes) == sorted(set(self.echoes))
        self._need(is_ascending, "echoes", "the echo times must be in ascending order")
        reason = f"echo times must be between {_MIN_ECHO_MS:g} and {_MAX_ECHO_MS:g} ms"
        is_in_range = self.echoes[0] >= _MIN_ECHO_MS and self.echoes[-1] <= _MAX_ECHO_MS
        self._need(is_in_range, "echoes", reason)
