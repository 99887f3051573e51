"""What packing raises."""


class PackingError(Exception):
    """A board, a shape or a mix that makes no sense, or a kernel that is not there. Permanent."""
