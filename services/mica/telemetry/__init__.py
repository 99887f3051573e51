"""Telemetry: what slices use, as it happens and summed up. Invariant: the only writer of ``usage.<node>``."""
