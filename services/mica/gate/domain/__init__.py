"""What a gate decides and measures.

Invariant: pure; no I/O, no clock, no asyncio. Times are nanoseconds of one monotonic clock.
"""
