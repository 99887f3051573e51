"""Policies: what may stand in the ``policy`` bucket, what two versions differ in, and how services read them.

Invariant: what was checked here, every service can read; what a service cannot read never takes the place of what it could.
"""

from mica.policy._check import check
from mica.policy._differences import Difference, differences, fields_of
from mica.policy._kinds import KINDS, Policy, kind_of
from mica.policy._overriding import in_force
from mica.policy._reading import all_readable, follow, newest, readable

__all__ = [
    "KINDS",
    "Difference",
    "Policy",
    "all_readable",
    "check",
    "differences",
    "fields_of",
    "follow",
    "in_force",
    "kind_of",
    "newest",
    "readable",
]
