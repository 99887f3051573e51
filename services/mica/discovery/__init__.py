"""Discovery: which devices a node has, and how they are. Invariant: the only writer of ``inventory.<node>``."""
