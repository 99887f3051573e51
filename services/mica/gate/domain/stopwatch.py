"""How long a server takes for one request, without the time for which its client is waited for.

Invariant: it does not run while the gate waits for the client to send its body or to take what is there for it. What the server
does meanwhile looks as if it had been done at once: a slow client can make a server look quicker, never slower.
"""


class Stopwatch:
    """Runs from ``now_ns`` on. Pauses may overlap: it runs again when as many have ended as begun."""

    __slots__ = ("_began_ns", "_paused_at_ns", "_pauses")

    def __init__(self, now_ns: int) -> None:
        self._began_ns = now_ns
        self._paused_at_ns = now_ns
        self._pauses = 0

    @property
    def paused(self) -> bool:
        """Whether the client is waited for."""
        return self._pauses > 0

    def paused_for_ns(self, now_ns: int) -> int:
        """For how long the client has been waited for by now, this time."""
        return now_ns - self._paused_at_ns if self._pauses else 0

    def pause(self, now_ns: int) -> None:
        """The client is waited for from now on."""
        if not self._pauses:
            self._paused_at_ns = now_ns
        self._pauses += 1

    def resume(self, now_ns: int) -> None:
        """It need not be waited for any more."""
        self._pauses -= 1
        if not self._pauses:
            self._began_ns += now_ns - self._paused_at_ns

    def elapsed_ns(self, now_ns: int) -> int:
        """The server's time until now."""
        return (self._paused_at_ns if self._pauses else now_ns) - self._began_ns
