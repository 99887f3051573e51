"""The subcommands, one file for those that belong together. Invariant: only ``mica.cli._lazy`` names them."""
