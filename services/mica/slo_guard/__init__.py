"""The SLO guard: sees broken promises and asks for more. Invariant: the only writer of ``guard.<id>``."""
