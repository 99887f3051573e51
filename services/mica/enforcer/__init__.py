"""The enforcer: makes one node's devices give each slice exactly what the ledger says.

Owns the node's regions, its hardware partitions and ``observed.<node>``. Invariant: what runs in a tenant goes on undisturbed
while the enforcer is down, and nothing is announced before it is in force.
"""
