"""What can go wrong on the bus. Invariant: the type alone tells whether to try again, to decide anew, or to give up."""


class BusError(Exception):
    """Base of all errors of the bus. Transient unless a subclass says otherwise: the caller may try again."""


class BusUnavailableError(BusError):
    """No server can be reached, or it did not answer in time; the outcome of a write is unknown."""


class StreamFullError(BusError):
    """The stream holds as much as it may (discard new). The message was not stored."""


class StaleRevisionError(BusError):
    """A compare-and-set lost: somebody else wrote the key first. Read again and decide anew."""

    def __init__(self, key: str, expected: int) -> None:
        self.key = key
        self.expected = expected
        super().__init__(f"key {key}: revision {expected} is no longer the latest")


def reason_of(error: BaseException) -> str:
    """What a foreign exception says, or its name when it says nothing (a timeout does not)."""
    return str(error) or type(error).__name__
