"""What the planner decides. Invariant: pure; no I/O, no clock, no asyncio."""
