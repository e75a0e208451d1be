"""Derivatives of plain functions over plain arrays."""
