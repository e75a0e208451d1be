"""How a recorded model runs on a sequence that comes in piece by piece."""
