"""Stand-ins for vendors' command-line tools: they read and change a simulated node, and print what the real ones print.

Invariant: a stand-in knows the node only through the simulated engine's books and its control, as the simulated libraries do.
"""
