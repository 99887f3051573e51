"""The gate: a streaming reverse proxy before a slice, which measures and guards.

Invariant: what is measured is the server's doing; time for which a client is waited for is not charged to it.
"""
