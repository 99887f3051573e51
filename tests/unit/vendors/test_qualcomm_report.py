"""qaic-util's text: what is known is read, what is not is left alone, and what is wrong is named."""

import pytest

from mica.events import Vendor
from mica.hardware import Catalogue
from mica.vendors import VendorError
from mica.vendors.qualcomm._profiles import model_of, profiles_of, warnings_of
from mica.vendors.qualcomm._report import Report, read_fields, read_report

TEXT = """LRT QC_IMAGE_VERSION: LRT.AIC.6.7
Number of devices: 2
QID 0
        Status:Ready
        PCI Address:0000:8A:00.0
        PCI Info:Processing accelerators Qualcomm Device a100
        Dev Link:/dev/accel/accel0
        HW Serial:0x64b5276b
        Colour:blue
        a line without any sense
        Dram Total:32692 MB
        Dram Free:30000 MB
        Nsp Total:16
        Nsp Free:12
        Networks Loaded:1
        Sku Type:PCIe Pro
        Board serial:PN471-12-343016
        SoC temperature(degree C):46.50
        Board power(Watts):17.25
QID 1
        Status:Error
        PCI Address:0000:c1:00.0
"""


def report(**changes: str) -> Report:
    """The first device, with some lines other than in TEXT."""
    return read_report(0, {**read_fields(TEXT)[0], **{name.replace("_", " "): value for name, value in changes.items()}})


def test_a_ready_device_is_read() -> None:
    """Counts, memory, serial numbers and counters; lines that nobody knows change nothing."""
    found = report()
    assert (found.pci, found.link, found.serial) == ("0000:8a:00.0", "/dev/accel/accel0", "0x64b5276b")
    assert (found.dram_total_mib, found.dram_free_mib, found.nsp_total, found.nsp_free, found.networks) == (
        32692,
        30000,
        16,
        12,
        1,
    )
    assert (found.sku, found.board, found.temperature_c, found.power_mw) == ("PCIe Pro", "PN471-12-343016", 46, 17_250)


def test_a_device_that_is_not_ready_is_named_with_its_status() -> None:
    """The tool prints nothing else that is of use about it."""
    with pytest.raises(VendorError, match="QID 1: Status Error, wanted Ready"):
        read_report(1, read_fields(TEXT)[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Nsp_Total": ""}, "QID 0: Nsp Total '', wanted a number"),
        ({"Dram_Free": "plenty MB"}, "QID 0: Dram Free 'plenty MB', wanted a number"),
        ({"Nsp_Total": "2147483648"}, "QID 0: Nsp Total '2147483648', wanted a number"),
        ({"Nsp_Total": "900"}, "QID 0: Nsp Total 900, at most 64 makes sense"),
        ({"Nsp_Free": "17"}, "QID 0: Nsp Free 17, at most 16 makes sense"),
        ({"Dram_Free": "32693 MB"}, "QID 0: Dram Free 32693, at most 32692 makes sense"),
        ({"Nsp_Total": "0", "Nsp_Free": "0"}, "QID 0: Nsp Total 0 and Dram Total 32692 MB, wanted more than 0"),
        ({"PCI_Address": "nowhere"}, "QID 0: PCI Address 'nowhere'"),
        ({"Status": "\ufffd\ufffd"}, "QID 0: Status \ufffd\ufffd"),
    ],
)
def test_essential_lines_that_make_no_sense_are_named(changes: dict[str, str], message: str) -> None:
    """The message has the line, what stands there, and what was wanted."""
    with pytest.raises(VendorError, match=message):
        report(**changes)


def test_the_model_is_found_by_sku_and_else_by_memory() -> None:
    """All SKUs have one PCI device id."""
    catalogue = Catalogue.load()
    std = report(Sku_Type="", Nsp_Total="14", Dram_Total="16308 MB", Dram_Free="0 MB")
    found = [model_of(each, catalogue) for each in (report(), report(Sku_Type="PCIe Ultra"), std)]
    assert found == [catalogue.model(key) for key in ("AI100-Pro", "AI100-Ultra", "AI100-Std")]
    assert model_of(report(Sku_Type="", Nsp_Total="8", Nsp_Free="0"), catalogue) is None


def test_live_profiles_agree_with_the_catalogue() -> None:
    """What a device with a model's NSPs and memory offers is what the catalogue lists, to the byte."""
    for model in Catalogue.load().models.values():
        if model.vendor is Vendor.QUALCOMM:
            live = report(
                Nsp_Total=str(model.multiprocessors), Nsp_Free="0", Dram_Total=f"{model.usable_bytes >> 20} MB", Dram_Free="0"
            )
            assert profiles_of(live, model) == model.partition_profiles()
            assert warnings_of(live, model) == ()


def test_a_device_that_the_catalogue_lacks_is_divided_by_powers_of_two() -> None:
    """Its own NSPs and memory say what a group has, and a warning that it is not known."""
    edge = report(Sku_Type="M.2", Nsp_Total="12", Nsp_Free="12", Dram_Total="8116 MB", Dram_Free="0")
    found = profiles_of(edge, None)
    assert [(each.size, each.vram_bytes >> 20) for each in found] == [(1, 676), (2, 1352), (4, 2705), (8, 5410), (12, 8116)]
    assert warnings_of(edge, None) == ("not in the catalogue: 12 NSPs, 8116 MB, SKU M.2",)


def test_a_device_that_contradicts_the_catalogue_is_taken_at_its_word() -> None:
    """Half the NSPs are defective: profiles go by what is there, and a warning says what should be."""
    half = report(Nsp_Total="8", Nsp_Free="8", Dram_Total="8116 MB", Dram_Free="0")
    model = model_of(half, Catalogue.load())
    assert [each.size for each in profiles_of(half, model)] == [1, 2, 4, 8]
    assert warnings_of(half, model) == (
        "8 NSPs, the catalogue has 16 for AI100-Pro",
        "memory 8116 MB, the catalogue has 32692 MB for AI100-Pro",
    )
