"""The shared memory between the enforcer and the processes of its tenants.

Owns every access to the regions from Python; ``proto/quota_region.h`` alone owns their layout. Invariant: quota records
have one writer, and files that a tenant may write are read with pread only.
"""

from mica.region._attach import ATTACH_BYTES, AttachMessage, decode_attach, encode_attach
from mica.region._errors import (
    AttachError,
    Defect,
    LimitsError,
    RegionAccessError,
    RegionBuildError,
    RegionBusyError,
    RegionDefectError,
    RegionError,
    RegionMissingError,
)
from mica.region._limits import Limits, SliceState, Spatial
from mica.region._names import RuntimeDir
from mica.region._owner import Owner, find_process, owner_of, process_start_ticks
from mica.region._quota import RECORDS_MAX, QuotaRegion
from mica.region._tenant import TenantRegion
from mica.region._token import TokenSnapshot, create_token, read_token
from mica.region._usage import SLOTS_MAX, ProcessSlot, UsageSnapshot, create_usage, read_usage, reclaim_slot

__all__ = [
    "ATTACH_BYTES",
    "RECORDS_MAX",
    "SLOTS_MAX",
    "AttachError",
    "AttachMessage",
    "Defect",
    "Limits",
    "LimitsError",
    "Owner",
    "ProcessSlot",
    "QuotaRegion",
    "RegionAccessError",
    "RegionBuildError",
    "RegionBusyError",
    "RegionDefectError",
    "RegionError",
    "RegionMissingError",
    "RuntimeDir",
    "SliceState",
    "Spatial",
    "TenantRegion",
    "TokenSnapshot",
    "UsageSnapshot",
    "create_token",
    "create_usage",
    "decode_attach",
    "encode_attach",
    "find_process",
    "owner_of",
    "process_start_ticks",
    "read_token",
    "read_usage",
    "reclaim_slot",
]
