"""A short text to train on, and options of a model that is trained in a moment."""

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 9
TINY = ["--hidden", "6", "--seq-len", "8", "--batch", "4"]
