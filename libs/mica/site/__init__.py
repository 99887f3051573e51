"""What a node is: a cloud's instance or somebody's own machine, found without the internet.

Invariant: what is recognised and what is compared is pure; only ``read_firmware`` and ``ask_metadata`` touch the machine, and the
latter nothing beyond the cloud's own link-local service.
"""

from mica.site._agreement import disagreement
from mica.site._clouds import recognise
from mica.site._firmware import FIRMWARE_DIR, Firmware, read_firmware
from mica.site._instances import InstanceError, InstanceType, InstanceTypes
from mica.site._metadata import SERVICES, MetadataError, ask_metadata
from mica.site._words import SiteError, parse_site

__all__ = [
    "FIRMWARE_DIR",
    "SERVICES",
    "Firmware",
    "InstanceError",
    "InstanceType",
    "InstanceTypes",
    "MetadataError",
    "SiteError",
    "ask_metadata",
    "disagreement",
    "parse_site",
    "read_firmware",
    "recognise",
]
