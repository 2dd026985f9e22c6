"""The network that ships to begin `srgan` with: benchmarks/warm_start_model.py WORK [OUT].

WORK is that of `warm_start.py`, whose `learn` (--heads 11 --steps 2000) has left learned.safetensors and learned.json
there beside the heads. OUT, boilerplate/models by default, gets srgan_start, weights and card. Training starts from it
with `bids-sr --warm-start`. It is no model to apply: untrained on the pair its maps are worse than B-spline's
(results/warm_start_truth.md).
"""

import argparse
import hashlib
import json
from pathlib import Path

from _methods_run import shortened
from _warm_heads import MATRICES, kept_pairs
from phantom_models import MODELS, save_within
from safetensors.torch import load_file
from warm_start import FAST, FIRST_SEED, KEPT_BACK, METHOD

from bids_sr.sr.data.training_pair import TrainingPair
from bids_sr.sr.models.card import card_entries
from bids_sr.sr.training.job import Training

NAME = "srgan_start"
LIMIT = 2_000_000  # bytes


def checksum_of(pairs: dict[int, list[TrainingPair]]) -> str:
    """One checksum of all images that were learned from or looked at."""
    text = json.dumps([pair.checksums() for each in pairs.values() for pair in each], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def card_of(work: Path) -> dict[str, object]:
    """What the network was made from, how, and what it reached; voxels are those of the first head."""
    about = json.loads((work / "learned.json").read_text())
    learned, last = about["heads"], FIRST_SEED + about["heads"] + KEPT_BACK - 1
    pairs = kept_pairs(range(FIRST_SEED, last + 1), work / "heads")
    matrices = " and ".join(map(str, MATRICES))
    recipe = shortened(FAST, about["steps"])
    card = card_entries(Training(method=METHOD, changed=recipe), recipe, pairs[min(pairs)][0].described())
    command = f"benchmarks/warm_start.py learn --heads {learned + KEPT_BACK} --steps {about['steps']}"
    return card | {
        "name": NAME,
        "trained_with": (
            f"simulated heads of seeds {FIRST_SEED} to {FIRST_SEED + learned - 1}, each with a coarse matrix of "
            f"{matrices}; those of {last - KEPT_BACK + 1} to {last} chose among the looks ({command})"
        ),
        "heads": {
            "seeds": list(range(FIRST_SEED, FIRST_SEED + learned)),
            "seeds_that_chose": list(range(last - KEPT_BACK + 1, last + 1)),
            "matrices": list(MATRICES),
            "psnr_that_chose": max(psnr for _, psnr in about["curve"]),
        },
        "data_sha256": {"pairs": checksum_of(pairs)},
        "intended_for": "beginning a training on a subject's own pair (--warm-start), not for use as it is",
        "parameters": about["parameters"],
        "reproducible": True,
        "seed": 0,
        "threads": 1,
        "device": "cpu",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=MODELS)
    given = parser.parse_args()
    save_within(LIMIT, given.out / NAME, load_file(given.work / "learned.safetensors"), card_of(given.work))


if __name__ == "__main__":
    main()
