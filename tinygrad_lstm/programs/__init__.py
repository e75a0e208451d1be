"""A whole model, run and recorded as a program of calls that holds for inputs of every length."""
