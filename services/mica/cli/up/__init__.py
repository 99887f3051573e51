"""``mica up``: the whole system on one machine, as child processes.

Invariant: whatever ends it, no child process outlives it.
"""
