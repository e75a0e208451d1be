"""Whole models from files, as modules. This package stands above `models`, whose layers it builds."""
