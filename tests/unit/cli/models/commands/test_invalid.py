"""Invalid calls of ``bids-sr-models`` exit with code 2, name the cause, and write nothing."""

from pathlib import Path

import numpy as np
import pytest
from data.scans import AFFINE, save_pair, save_untrained, scan

from bids_sr.cli.models.commands.main import main
from bids_sr.io.nifti import load_image, save_image


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, files) -> dict[str, str]:
    """Return files by the words that stand for them in a call."""
    folder = tmp_path_factory.mktemp("invalid")
    image, affine = load_image(files.low)
    high, low = save_pair(folder, "sub-01", "T1w")
    references = [high]
    for number in (2, 3):
        references.append(folder / f"sub-0{number}_acq-high_T1w.nii.gz")
        save_image(scan(number), AFFINE, references[-1])
    save_image(image[:, :, :1], affine, folder / "slice_T1w.nii")
    save_image(image, affine, folder / "plain.nii")
    save_image(np.ones((8, 8, 3), np.float32), affine, folder / "flat_T1w.nii")
    moved = AFFINE.copy()
    moved[0, 3] += 1.5
    save_image(scan(), moved, folder / "moved_T2starw.nii")
    (folder / "text.nii").write_text("no image")
    (folder / "pickle.pth").write_bytes(b"\x80\x04.")
    return {
        "HIGH": str(files.high),
        "LOW": str(files.low),
        "BOLD": str(files.bold),
        "T1W": str(high),
        "T1WLOW": str(low),
        "THREE": " ".join(map(str, references)),
        "MODEL": str(files.untrained),
        "TRAINED": str(files.trained),
        "MODEL3D": str(save_untrained(folder / "dip", "dip", contrast="T1w")),
        "FUSED": str(save_untrained(folder / "fused", "unet", channels=2, contrast="T1w+T2w")),
        "SLICE": str(folder / "slice_T1w.nii"),
        "PLAIN": str(folder / "plain.nii"),
        "FLAT": str(folder / "flat_T1w.nii"),
        "MOVED": str(folder / "moved_T2starw.nii"),
        "TEXT": str(folder / "text.nii"),
        "PICKLE": str(folder / "pickle.pth"),
    }


CALLS = [
    # call, and a part of the message
    ("", "COMMAND"),
    ("aply", "'apply'"),
    ("list --modle", "--modle"),
    ("list tvv", "'tv'"),
    ("list PICKLE", "pickle.pth"),
    ("rate kit", "--make"),
    ("rate kit sheet.tsv --make kit", "--make"),
    ("rate kit sheet.tsv --series native", "--series"),
    ("rate kit --make kit -o scores.tsv", "--out"),
    ("train resnet3 new --fine HIGH", "resnet3d"),
    ("train sbl new --coarse BOLD", "--sr-method sbl"),
    ("train tv new", "image"),
    ("train cpce new --coarse LOW", "--fine"),
    ("train cpce new --fine HIGH HIGH --coarse LOW", "2 high-resolution"),
    ("train cpce new --fine SLICE", "one slice"),
    ("train resnet3d new --fine LOW", "48 x 48"),
    ("train cpce new --fine LOW", "fast recipes of srgan or unet"),
    ("train srgan new --fine LOW --recipe paper", "--recipe fast"),
    ("train srgan new --fine HIGH --set mse=0", "VGG-19"),
    ("train cpce new --fine HIGH --set perceptual=1", "--vgg-weights"),
    ("train unet new --fine HIGH --set mae=0 ssim=0", "mae"),
    ("train unet new --fine HIGH --set filter=8", "filters?"),
    ("train unet new --fine HIGH --set filters=1", "from 4 to 256"),
    ("train unet new --fine HIGH --set tv.tv=1", "tv.tv=1"),
    ("train unet new --fine HIGH --set filters", "FIELD=VALUE"),
    ("train unet new --fine HIGH --set patch=64", "64 x 64"),
    ("train unet new --fine HIGH --train-last 3", "--from"),
    ("train unet new --fine HIGH --keep-critic", "--keep-critic"),
    ("train unet new --fine HIGH --from MODEL", "srgan"),
    ("train unet new --fine HIGH --from TRAINED", "--set filters=4"),
    ("train unet new --fine HIGH SLICE", "--sr-target anat"),
    ("train cpce new --fine HIGH --coarse LOW --factor 3", "2 x 2 x 1"),
    ("train tv new --fine HIGH --factor 2 2", "--factor"),
    ("train tv new --fine HIGH --factor 0.5", "--factor"),
    ("train tv new --fine HIGH --factor 9", "--factor"),
    ("apply srgan LOW o.nii", "srgan"),
    ("apply zerofil LOW o.nii", "'zerofill'"),
    ("apply inject LOW o.nii", "--sr-method inject"),
    ("apply MODEL3D SLICE o.nii", "one slice"),
    ("apply FUSED LOW o.nii", "2 contrasts"),
    ("apply MODEL LOW o.nii --factor 3", "3.0"),
    ("apply MODEL LOW o.nii --factor 2 2 2", "slice by slice"),
    ("apply linear LOW o.nii --patch 16", "linear"),
    ("apply MODEL LOW o.nii --patch 7", "8 voxels"),
    ("apply MODEL LOW o.nii --patch 16 --overlap 16", "--overlap 16"),
    ("apply MODEL LOW o.nii --overlap 4", "--overlap"),
    ("apply MODEL LOW o.nii --patch 0 --overlap 4", "--overlap"),
    ("apply MODEL HIGH o.nii", "--allow resolution"),
    ("apply MODEL HIGH o.nii --allow contrast", "3 x 3 x 4 mm"),
    ("apply MODEL LOW o.nii --contrast T1w", "T1w"),
    ("apply MODEL PLAIN o.nii", "--contrast"),
    ("apply MODEL LOW o.nii --threads 0", "--threads"),
    ("apply linear LOW LOW", "LOW"),
    ("apply linear TEXT o.nii", "text.nii"),
    ("apply linear nowhere.nii o.nii", "nowhere.nii"),
    ("apply linear LOW o.png", ".nii.gz"),
    ("apply linear FLAT o.nii", "flat_T1w.nii"),
    ("apply linear LOW o.nii --mask HIGH", "mask"),
    ("evaluate MOVED --image LOW", "moved_T2starw.nii"),
    ("evaluate HIGH", "--degradation"),
    ("evaluate HIGH --image LOW --degradation kspace", "--degradation"),
    ("evaluate THREE --image T1WLOW", "--image: 1"),
    ("evaluate THREE --degradation block --group a", "--group: 1"),
    ("evaluate THREE --degradation block --group a a b", "--group b"),
    ("evaluate THREE --degradation block --group a a a", "two groups"),
    ("evaluate T1W --degradation block --group a -o t.tsv", "--group a"),
    ("evaluate T1W T1WLOW --degradation block --group a b", "two groups"),
    ("evaluate T1W T1W --degradation block", "T1W"),
    ("evaluate T1W --image T1WLOW --figures png", "--out"),
    ("evaluate THREE --degradation block --made T1W", "--made: 1"),
    ("evaluate T1W --image T1WLOW --made T1WLOW", "T1WLOW"),
]


@pytest.mark.parametrize(("line", "part"), CALLS)
def test_invalid_calls_exit_with_code_2_and_write_nothing(
    line: str,
    part: str,
    words: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = [file for word in line.split() for file in words.get(word, word).split()]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert words.get(part, part) in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())
