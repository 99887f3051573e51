"""What a simulation raises. Invariant: one line that says what, what was given, and what is allowed."""


class SimulationError(Exception):
    """Work, a fleet or a load that no simulation can be made of. Permanent."""
