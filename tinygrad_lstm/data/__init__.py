"""Sequences and batches."""
