"""``make demo``: one real job through the whole system, on a simulated node.

Owns the story and its checks. Invariant: what is measured comes from the clients and from the driver's own books, never from
what mica says about itself.
"""
