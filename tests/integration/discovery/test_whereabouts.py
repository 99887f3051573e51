"""When discovery asks what its node is, and what it writes of it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[1] / "site"))

from metadata_server import Answer, serving

from mica.bus import MemoryBus
from mica.discovery.inventory import Identity, Survey, take_stock
from mica.discovery.whereabouts import ASK_AGAIN_SURVEYS, Locator, Sources
from mica.events import Device, Inventory, Site, Vendor
from mica.site import SiteError, parse_site

IDENTITY = Identity(node="n1", pool="default", boot_id="boot-1")
P5 = Site(
    cloud="oci",
    instance_type="BM.GPU.H100.8",
    region="us-ashburn-1",
    zone="AD-1",
    product="Supermicro SYS-821GE",
    source="dmi+metadata",
)
SHAPE = b'{"shape": "BM.GPU.H100.8", "canonicalRegionName": "us-ashburn-1", "availabilityDomain": "AD-1"}'
FIRMWARE = replace(P5, instance_type="", region="", zone="", source="dmi")


class Place:
    """A machine of Oracle's cloud, whose metadata service a test silences."""

    def __init__(self, directory: Path, address: tuple[str, int], asked: list[str]) -> None:
        for name, text in (
            ("sys_vendor", "Supermicro"),
            ("product_name", "SYS-821GE"),
            ("chassis_asset_tag", "OracleCloud.com"),
        ):
            (directory / name).write_text(text)
        self.bus = MemoryBus()
        self.asked = asked
        self.sources = Sources(firmware_dir=directory, address=address)

    def locator(self, boot_id: str = "boot-1", **changes: object) -> Locator:
        return Locator(self.bus, replace(IDENTITY, boot_id=boot_id), replace(self.sources, **changes))

    async def written(self, site: Site) -> None:
        await self.bus.state.put("inventory.n1", take_stock(IDENTITY, None, Survey(site=site)))


@pytest.fixture
def status() -> list[int]:
    """What the service answers next; the last for ever."""
    return [200]


@pytest.fixture
def place(tmp_path: Path, status: list[int]) -> Iterator[Place]:
    def service(method: str, path: str, headers: object) -> Answer:
        return (status.pop(0) if len(status) > 1 else status[0]), SHAPE, {}

    with serving(service) as (address, asked):
        yield Place(tmp_path, address, asked)


async def test_the_service_is_asked_once_in_a_boot(place: Place) -> None:
    """Not by a discovery that is restarted either; after a reboot it is asked anew."""
    locator = place.locator()
    assert [await locator.site() for _ in range(3)] == [P5] * 3
    await place.written(P5)
    assert await place.locator().site() == P5
    assert place.asked == ["GET /opc/v2/instance/"]
    assert await place.locator("boot-2").site() == P5
    assert len(place.asked) == 2


async def test_a_service_that_does_not_answer_is_asked_again_later(
    place: Place, status: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Until then the firmware alone describes the node; one line says why."""
    status[:] = [503, 503, 200]
    locator = place.locator()
    found = [await locator.site() for _ in range(2 * ASK_AGAIN_SURVEYS + 1)]
    assert found == [FIRMWARE] * (2 * ASK_AGAIN_SURVEYS) + [P5]
    assert len(place.asked) == 3
    assert caplog.messages == [
        "metadata service of oci: /opc/v2/instance/: answers 503; described by its firmware alone",
    ]


@pytest.mark.parametrize("metadata", [True, False])
async def test_an_operators_words_win_and_nobody_is_asked(place: Place, metadata: bool) -> None:
    """The firmware fills in what was not said, unless it speaks of another cloud."""
    words = parse_site("instance_type=BM.GPU4.8,air_gapped=true")
    expected = replace(FIRMWARE, instance_type="BM.GPU4.8", air_gapped=True, source="operator")
    assert await place.locator(words=words, metadata=metadata).site() == expected
    other = parse_site("cloud=coreweave")
    assert await place.locator(words=other).site() == Site(cloud="coreweave", product="Supermicro SYS-821GE", source="operator")
    assert place.asked == []


async def test_a_node_that_may_not_ask_is_described_by_its_firmware(place: Place) -> None:
    """With metadata off, also where it was asked earlier in this boot; and where the cloud has no such service."""
    await place.written(P5)
    assert await place.locator(metadata=False).site() == FIRMWARE
    (place.sources.firmware_dir / "chassis_asset_tag").write_text("HUAWEICLOUD")
    assert await place.locator().site() == replace(FIRMWARE, cloud="huawei")
    assert place.asked == []


async def test_a_simulated_node_is_not_this_machine(place: Place) -> None:
    """Only an operator can say what it is."""
    assert await place.locator(simulated=True).site() == Site()
    words = parse_site("cloud=aws,instance_type=p5.48xlarge")
    assert await place.locator(simulated=True, words=words).site() == words
    assert place.asked == []


def test_the_environment_says_what_may_be_asked() -> None:
    """And is refused where it says something else."""
    assert Sources.from_environment({}, simulated=False) == Sources()
    assert not Sources.from_environment({"MICA_METADATA": "off"}, simulated=False).metadata
    assert Sources.from_environment({"MICA_SITE": "cloud=aws"}, simulated=True).words == Site(cloud="aws", source="operator")
    for name, value in (("MICA_METADATA", "no"), ("MICA_SITE", "aws")):
        with pytest.raises(SiteError, match=f"^{name}: got '{value}', allowed: "):
            Sources.from_environment({name: value}, simulated=False)


def test_the_inventory_says_what_the_node_is_and_what_it_lacks() -> None:
    """Seven of eight: the warning is there while it is so."""
    devices = tuple(
        Device(id=f"GPU-{n}", index=n, vendor=Vendor.NVIDIA, model="NVIDIA H100 80GB HBM3", vram_bytes=1) for n in range(8)
    )
    stock: Inventory = take_stock(IDENTITY, None, Survey(devices=devices[:7], site=P5))
    assert stock.site == P5
    assert stock.warnings == ("oci BM.GPU.H100.8 has 8 H100-SXM-80GB, 7 of 8 listed",)
    assert take_stock(IDENTITY, stock, Survey(devices=devices, site=P5)).warnings == ()
    assert take_stock(IDENTITY, None, Survey()).warnings == ()
