"""What firmware, operators and the catalogue of instance types say of a node."""

from pathlib import Path

import msgspec
import pytest

from mica.events import Device, Site, Vendor
from mica.hardware import Catalogue
from mica.site import (
    Firmware,
    InstanceError,
    InstanceTypes,
    SiteError,
    disagreement,
    parse_site,
    read_firmware,
    recognise,
)

AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
MACHINES = {
    "an AWS instance of the Nitro kind": (
        {"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge", "bios_vendor": "Amazon EC2"},
        Site(cloud="aws", instance_type="p5.48xlarge", product="Amazon EC2 p5.48xlarge"),
    ),
    "an AWS instance on Xen": (
        {"sys_vendor": "Xen", "product_name": "HVM domU", "bios_version": "4.11.amazon"},
        Site(cloud="aws", product="Xen HVM domU"),
    ),
    "an Azure machine": (
        {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine", "chassis_asset_tag": AZURE_TAG},
        Site(cloud="azure", product="Microsoft Corporation Virtual Machine"),
    ),
    "Hyper-V at home": (
        {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine", "chassis_asset_tag": "None"},
        Site(product="Microsoft Corporation Virtual Machine"),
    ),
    "a Google machine": (
        {"sys_vendor": "Google", "product_name": "Google Compute Engine"},
        Site(cloud="gcp", product="Google Compute Engine"),
    ),
    "Oracle's bare metal": (
        {"sys_vendor": "Supermicro", "product_name": "SYS-821GE", "chassis_asset_tag": "OracleCloud.com"},
        Site(cloud="oci", product="Supermicro SYS-821GE"),
    ),
    "Alibaba": (
        {"sys_vendor": "Alibaba Cloud", "product_name": "Alibaba Cloud ECS"},
        Site(cloud="alibaba", product="Alibaba Cloud ECS"),
    ),
    "Huawei's cloud, which is built on OpenStack": (
        {"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova", "chassis_asset_tag": "HUAWEICLOUD"},
        Site(cloud="huawei", product="OpenStack Foundation OpenStack Nova"),
    ),
    "anybody's OpenStack": (
        {"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova"},
        Site(cloud="openstack", product="OpenStack Foundation OpenStack Nova"),
    ),
    "IBM": (
        {"sys_vendor": "QEMU", "product_name": "Standard PC", "chassis_vendor": "IBM:Cloud Compute Server 1.0:gx3"},
        Site(cloud="ibm", product="QEMU Standard PC"),
    ),
    "DigitalOcean": (
        {"sys_vendor": "DigitalOcean", "product_name": "Droplet"},
        Site(cloud="digitalocean", product="DigitalOcean Droplet"),
    ),
    "a server": ({"sys_vendor": "Dell Inc.", "product_name": "PowerEdge XE9680"}, Site(product="Dell Inc. PowerEdge XE9680")),
    "a board that nobody named": (
        {"sys_vendor": "To Be Filled By O.E.M.", "product_name": "Default string", "board_vendor": "ASRockRack"},
        Site(product="ASRockRack"),
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_is_known_by_its_firmware(machine: str, tmp_path: Path) -> None:
    """As the kernel shows it, with line ends and what vendors leave in fields that they do not fill."""
    fields, expected = MACHINES[machine]
    for name, text in fields.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert recognise(read_firmware(tmp_path)) == msgspec.structs.replace(expected, source="dmi")


def test_a_machine_without_firmware_is_nothing(tmp_path: Path) -> None:
    """No directory, an unreadable field, or bytes that are no text are no error."""
    assert recognise(read_firmware(tmp_path / "none")) == Site()
    (tmp_path / "sys_vendor").mkdir()
    (tmp_path / "product_name").write_bytes(b"\xff\x00\x1b[31mred\n" + b"x" * 10_000)
    found = read_firmware(tmp_path)
    assert found.sys_vendor == ""
    assert found.product_name.isprintable()
    assert len(found.product_name) <= 128


def test_an_operators_words_are_fields_of_the_site() -> None:
    """What is not said is empty."""
    said = parse_site("cloud=aws, instance_type=p5.48xlarge,zone=us-east-1a,air_gapped=true,product=rack 7")
    assert said == Site(
        cloud="aws", instance_type="p5.48xlarge", zone="us-east-1a", air_gapped=True, product="rack 7", source="operator"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("p5.48xlarge", "got 'p5.48xlarge', allowed: FIELD=VALUE with cloud, instance_type"),
        ("clod=aws", "got 'clod=aws', allowed"),
        ("source=me", "got 'source=me', allowed"),
        ("cloud=aws,cloud=gcp", "cloud is given twice"),
        ("cloud=", "cloud: got '', allowed: 1 to 128"),
        ("zone=us east", "zone: got 'us east'"),
        ("air_gapped=yes", "air_gapped: got 'yes', allowed: true, false"),
        ("product=\x07", "product: got"),
        ("cloud=aws,", "got '', allowed"),
    ],
)
def test_words_that_no_node_can_be_are_refused(words: str, told: str) -> None:
    """With what was given and what is allowed."""
    with pytest.raises(SiteError) as refused:
        parse_site(words)
    assert told in str(refused.value)


def test_every_instance_type_is_made_of_known_models() -> None:
    """The hardware catalogue has all of them."""
    types, catalogue = InstanceTypes.load(), Catalogue.load()
    assert types.unknown_models(catalogue) == set()
    assert {"aws", "azure", "gcp", "oci", "alibaba"} <= types.clouds.keys()


def test_a_model_that_nobody_knows_is_found() -> None:
    """By its name alone, for whatever type."""
    types = InstanceTypes.parse(b'[aws]\n"a.b" = { model = "H100-SXM-80GB" }\n"a.c" = { model = "H1000" }\n')
    assert types.unknown_models(Catalogue.load()) == {"H1000"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[aws]\n"a" = { model = "L4", gpus = 1 }', "unknown field `gpus`"),
        ('[aws]\n"a" = { count = 1 }', "missing required field `model`"),
        ('[aws]\n"a" = { model = "L4", count = 0 }', ">= 1"),
        ('[aws]\n"a" = { model = "L4", count = 2, parts = 2 }', "aws a: got 2 devices in parts, allowed: 1"),
        ('[aws]\n"a" = { model = "L4" }\n"A" = { model = "L4" }', "differ in nothing but capitals"),
        ("[aws", "instance types: "),
    ],
)
def test_a_catalogue_that_is_not_sound_is_refused(text: str, told: str) -> None:
    """When it is loaded, with what is wrong."""
    with pytest.raises(InstanceError) as refused:
        InstanceTypes.parse(text.encode())
    assert told in str(refused.value)


def devices(count: int, model: str, vendor: Vendor = Vendor.NVIDIA) -> tuple[Device, ...]:
    return tuple(Device(id=f"{model}-{n}", index=n, vendor=vendor, model=model, vram_bytes=1) for n in range(count))


H100 = "NVIDIA H100 80GB HBM3"
P5 = Site(cloud="aws", instance_type="p5.48xlarge")


def wrong(site: Site, *found: Device) -> str:
    return disagreement(site, found, InstanceTypes.load())


def test_an_instance_with_all_its_devices_is_in_order() -> None:
    """Also with more, as partitions are listed, with a processor beside them, and where nobody knows the type."""
    assert wrong(P5, *devices(8, H100)) == ""
    assert wrong(P5, *devices(16, H100), *devices(1, "EPYC", Vendor.CPU)) == ""
    assert wrong(Site(cloud="aws", instance_type="m7i.large")) == ""
    assert wrong(Site(product="Dell")) == ""
    assert wrong(Site(cloud="azure", instance_type="standard_nv6ads_a10_v5"), *devices(1, "NVIDIA A10-4Q")) == ""


def test_an_instance_that_lacks_devices_is_told() -> None:
    """With how many of how many; the processor is none of them."""
    assert wrong(P5, *devices(7, H100), *devices(1, "EPYC", Vendor.CPU)) == ("aws p5.48xlarge has 8 H100-SXM-80GB, 7 of 8 listed")
    assert wrong(Site(cloud="azure", instance_type="Standard_NV6ads_A10_v5")) == (
        "azure Standard_NV6ads_A10_v5 has 1/6 of a A10, 0 of 1 listed"
    )


@pytest.mark.parametrize(
    ("cloud", "type_", "name", "agrees"),
    [
        ("gcp", "a2-highgpu-1g", "NVIDIA A100-SXM4-40GB", True),
        ("oci", "VM.GPU.A10.1", "NVIDIA A100-SXM4-40GB", False),
        ("aws", "g6.xlarge", "NVIDIA L40S", False),
        ("aws", "g5.xlarge", "NVIDIA A10G", True),
        ("aws", "g7e.2xlarge", "NVIDIA RTX PRO 6000 Blackwell Server Edition", True),
        ("digitalocean", "gpu-mi300x1-192gb", "AMD Instinct MI300X VF", True),
        ("digitalocean", "gpu-mi325x1-256gb", "AMD Instinct MI300X VF", False),
    ],
)
def test_a_device_of_another_model_is_told(cloud: str, type_: str, name: str, agrees: bool) -> None:
    """By the chip's name as a word; libraries write the rest in many ways."""
    told = wrong(Site(cloud=cloud, instance_type=type_), *devices(1, name))
    assert (told == "") == agrees
    assert agrees or told.endswith(f"listed: {name}")


def test_the_firmwares_fields_hold_no_serial_number() -> None:
    """What tells one machine from its twins is not read."""
    assert not [name for name in Firmware.__struct_fields__ if "serial" in name or "uuid" in name]
