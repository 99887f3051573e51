"""HiGHS without a word. Invariant: nothing is printed, not even the banner."""

from highspy import Highs


class QuietHighs(Highs):
    """HiGHS prints its banner from inside its constructor, before anybody can set an option; this one sets it there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # its stub leaves the result open

    def enableCallbacks(self) -> None:  # noqa: N802 - the library's name
        """The first thing that it does with its core."""
        self.setOptionValue("output_flag", False)  # noqa: FBT003 - the library has it by position
        super().enableCallbacks()  # type: ignore[no-untyped-call] # as above
