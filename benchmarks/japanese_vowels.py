"""The accuracy of `SequenceClassifier` on Japanese vowels, which sktime's package has: nine speakers, 12 features.

    pip install -e . sktime
    python benchmarks/japanese_vowels.py               # ten seeds in one direction, and ten in both: some minutes

270 sequences of 7 to 26 steps to learn from, and 370 of 7 to 29 steps to test with. All parameters are the defaults.
"""

from __future__ import annotations

import statistics

import numpy as np
from sktime.datasets import load_japanese_vowels

from tinygrad_lstm.estimators import SequenceClassifier

SEEDS = 10


def part(split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The sequences (T, 12) and speakers of the training or the test part."""
    frames, speakers = load_japanese_vowels(split=split, return_type="df-list")
    return [frame.to_numpy(np.float32) for frame in frames], np.asarray(speakers)


def main() -> None:
    (X, y), (test_X, test_y) = part("train"), part("test")
    for bidirectional in (False, True):
        scores = []
        for seed in range(SEEDS):
            classifier = SequenceClassifier(bidirectional=bidirectional, random_state=seed).fit(X, y)
            scores.append(classifier.score(test_X, test_y))
        print(
            f"{'both directions' if bidirectional else 'one direction':15} {SEEDS} seeds: mean accuracy "
            f"{statistics.mean(scores):.4f}, from {min(scores):.4f} to {max(scores):.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
