"""A step of a sequence, run once and recorded: its program, the derivative of this program, and when each part runs."""
