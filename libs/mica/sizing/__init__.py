"""How large a slice a workload needs."""
