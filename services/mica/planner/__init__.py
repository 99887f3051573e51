"""The planner: turns commands into ledgers.

Owns ``slice.<id>``, ``tenant.<t>`` and ``ledger.<node>``. Invariant: what a ledger says follows from the slices' records, and a
crash between any two writes leaves documents from which the same command, delivered again, reaches the same answer.
``consistency.md`` beside this file is the argument.
"""
