"""The ``mica`` command: starts a node, asks for slices, shows what is, runs programs inside slices.

Invariant: it writes no state; what it wants changed it asks for with a command on the bus.
"""
