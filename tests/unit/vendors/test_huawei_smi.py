"""npu-smi's tables are read by the names of their columns; what is no such table is one error that quotes it."""

import pytest

from mica.vendors import VendorError
from mica.vendors.huawei._smi import parse_templates, parse_vnpus
from mica.vendors.huawei._templates import Template

TEMPLATES = """\
+------------------------------------------------------------------------------------------+
|NPU instance template info is:                                                            |
|Name                AICORE    Memory    AICPU     VPC            VENC           JPEGD     |
|                               GB                 PNGD           VDEC           JPEGE     |
+==========================================================================================+
|vir10_3c_16g        10        16        3         4              0              12        |
|                                                  0              1              2         |
+------------------------------------------------------------------------------------------+
|vir05_1c_8g         5         8         1         2              0              6         |
|                                                  0              0              1         |
+------------------------------------------------------------------------------------------+
"""
VNPUS = """\
+-------------------------------------------------------------------------------+
| NPU resource static info as follow:                                           |
| Format:Free/Total                   NA: Currently, query is not supported.    |
| AICORE    Memory    AICPU    VPC    VENC    VDEC    JPEGD    JPEGE    PNGD    |
|            GB                                                                 |
|===============================================================================|
| 0/20      0/32      1/7      1/9    0/0     0/2     0/24     0/4      NA/NA   |
+-------------------------------------------------------------------------------+
| Total number of vnpu: 2                                                       |
+-------------------------------------------------------------------------------+
|  Vnpu ID  |  Vgroup ID     |  Container ID  |  Status  |  Template Name       |
+-------------------------------------------------------------------------------+
|  100      |  0             |  ffffffffffff  |  1       |  vir10_3c_16g        |
+-------------------------------------------------------------------------------+
|  101      |  NA            |  000000000000  |  0       |  vir10_3c_16g        |
+-------------------------------------------------------------------------------+
"""
NONE = VNPUS.split("|  Vnpu ID", maxsplit=1)[0].replace("vnpu: 2", "vnpu: 0")


def test_templates() -> None:
    """Cores, GB, AI CPUs and JPEG decoders of each."""
    assert parse_templates(TEMPLATES) == (Template("vir10_3c_16g", 10, 16, 3, 12), Template("vir05_1c_8g", 5, 8, 1, 6))


def test_columns_in_another_order() -> None:
    """They are found by name; a chip that does not say a figure has none of it."""
    text = "| Name AICPU AICORE Memory |\n| vir02 NA 2 NA |\n| GB |\n| vir04 1.0 4 9 |"
    assert parse_templates(text.replace("NA 2", "0 2")) == (Template("vir02", 2, 0, 0), Template("vir04", 4, 9, 1))


def test_vnpus() -> None:
    """Number, template, and whether a container has it."""
    assert parse_vnpus(VNPUS) == [(100, "vir10_3c_16g", True), (101, "vir10_3c_16g", False)]
    assert parse_vnpus(NONE) == []


NO_TEMPLATES = ["", "garbage\x00\xff", "| Name AICORE |\n| vir02 2 |", "This device does not support it.", "|" * 500]
NO_VNPUS = ["", "Error parameter of -i.", VNPUS.replace("vnpu: 2", "vnpu: 3"), VNPUS.replace("|  101 ", "|  x ")]


@pytest.mark.parametrize("text", NO_TEMPLATES)
def test_what_is_no_list_of_templates(text: str) -> None:
    """The error names the command, what came and what was wanted."""
    with pytest.raises(VendorError, match=r"npu-smi info -t template-info: unknown format, begins .*, wanted: a line with name"):
        parse_templates(text)


@pytest.mark.parametrize("text", NO_VNPUS)
def test_what_is_no_list_of_vnpus(text: str) -> None:
    """A row that is missed is as bad as no table: a vNPU would be taken for free."""
    with pytest.raises(VendorError, match="npu-smi info -t info-vnpu: unknown format"):
        parse_vnpus(text)
