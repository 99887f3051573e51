"""What goes wrong in a benchmark. Invariant: a benchmark that could not be carried out reports no figure."""


class BenchError(Exception):
    """The benchmark could not be carried out; the message says why."""
