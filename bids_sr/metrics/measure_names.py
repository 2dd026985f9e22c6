"""Names of measures, taken apart: what a table, a figure or a verdict has to know of one is asked here."""

from typing import NamedTuple

BANDS = ("signal", "percent", "beyond", "within")


class MeasureParts(NamedTuple):
    """What the name of a measure tells."""

    is_gain: bool  # a difference to the series in `against`
    family: str  # split, self, truth, pair, flag, ...
    figure: str  # ev, r, psnr, ...; of a flag its name
    band: str  # of `BANDS`; empty where the figure is not of one

    @property
    def level(self) -> str:
        """The name of the measure itself, of which this may be the difference."""
        return "_".join(filter(None, (self.family, self.figure, self.band)))


def parts_of(name: str) -> MeasureParts:
    """The name of a measure, taken apart; nothing else reads names.

    Examples
    --------
    >>> parts_of("gain_split_ev_beyond")
    MeasureParts(is_gain=True, family='split', figure='ev', band='beyond')
    >>> parts_of("flag_roi_misplaced")
    MeasureParts(is_gain=False, family='flag', figure='roi_misplaced', band='')
    """
    plain = name.removeprefix("gain_").replace("pair_gain_", "pair_")
    family, _, figure = plain.partition("_")
    rest, _, band = figure.rpartition("_")
    figure, band = (rest, band) if band in BANDS else (figure, "")
    return MeasureParts(plain != name, family, figure, band)
