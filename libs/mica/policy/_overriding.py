"""Which of several policies holds. Invariant: what a node's own policy says stands in place of its pool's."""

from msgspec.structs import replace

from mica.events import NodePolicy, PoolPolicy


def in_force(pool: PoolPolicy | None, node: NodePolicy | None) -> PoolPolicy:
    """The pool's policy as it holds on a node; what nobody said has its default."""
    common = set(NodePolicy.__struct_fields__) & set(PoolPolicy.__struct_fields__)
    own = {name: getattr(node, name) for name in common} if node is not None else {}
    return replace(pool or PoolPolicy(), **{name: value for name, value in own.items() if value is not None})
