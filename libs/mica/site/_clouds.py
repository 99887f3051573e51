"""Which cloud a machine belongs to, by its firmware. Pure.

Invariant: one table; the first row that matches decides, so clouds that are built on another's software stand before it.
"""

import re
from fnmatch import fnmatchcase
from typing import Final

from mica.events import Site
from mica.site._firmware import Firmware

MARKS: Final = (
    ("aws", "sys_vendor", "Amazon EC2*"),
    ("aws", "bios_vendor", "Amazon EC2*"),
    ("aws", "bios_version", "*.amazon"),
    ("azure", "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
    ("gcp", "product_name", "Google Compute Engine*"),
    ("oci", "chassis_asset_tag", "OracleCloud.com*"),
    ("alibaba", "sys_vendor", "Alibaba Cloud*"),
    ("alibaba", "product_name", "Alibaba Cloud ECS*"),
    ("tencent", "sys_vendor", "Tencent Cloud*"),
    ("huawei", "chassis_asset_tag", "HUAWEICLOUD*"),
    ("huawei", "sys_vendor", "Huawei Cloud*"),
    ("ibm", "chassis_vendor", "IBM:Cloud Compute Server*"),
    ("ibm", "sys_vendor", "IBM:Cloud Compute Server*"),
    ("ibm", "chassis_asset_tag", "ibmcloud*"),
    ("otc", "chassis_asset_tag", "OpenTelekomCloud*"),
    ("digitalocean", "sys_vendor", "DigitalOcean*"),
    ("hetzner", "sys_vendor", "Hetzner*"),
    ("scaleway", "sys_vendor", "Scaleway*"),
    ("vultr", "sys_vendor", "Vultr*"),
    ("upcloud", "sys_vendor", "UpCloud*"),
    ("exoscale", "product_name", "Exoscale*"),
    ("openstack", "product_name", "OpenStack *"),
    ("openstack", "sys_vendor", "OpenStack Foundation*"),
)
"""Cloud, field of the firmware, shell pattern of what it says."""

AWS_TYPE: Final = re.compile(r"[a-z][a-z0-9-]{0,30}\.[a-z0-9-]{1,30}")
SOURCE: Final = "dmi"


def recognise(firmware: Firmware) -> Site:
    """What the firmware alone tells; nothing where it says nothing. AWS names the instance's type in it."""
    if firmware == Firmware():
        return Site()
    cloud = next((name for name, field, mark in MARKS if fnmatchcase(getattr(firmware, field), mark)), "")
    named = cloud == "aws" and AWS_TYPE.fullmatch(firmware.product_name)
    return Site(
        cloud=cloud,
        instance_type=firmware.product_name if named else "",
        product=_product(firmware),
        source=SOURCE,
    )


def _product(firmware: Firmware) -> str:
    """Vendor and product; the vendor once where the product begins with it."""
    vendor, product = firmware.sys_vendor or firmware.board_vendor, firmware.product_name
    return product if product.startswith(vendor) else f"{vendor} {product}".strip()
