"""What can go wrong in the enforcer. Invariant: a ``CannotApplyError`` fails one slice, never the service."""


class EnforcerError(Exception):
    """Base of the enforcer's own errors."""


class CannotApplyError(EnforcerError):
    """The node cannot give this slice what the ledger says; the message goes to the planner with ``observed``."""


class PartitionBusyError(EnforcerError):
    """A hardware partition cannot be destroyed yet; ``pids`` are the host's processes inside it."""

    def __init__(self, pids: frozenset[int]) -> None:
        self.pids = pids
        super().__init__(f"the partition is in use by {len(pids)} processes")
