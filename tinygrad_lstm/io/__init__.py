"""Files: weights and checkpoints."""
