"""A libdcmi in Python with one 910B3: what each call writes or returns can be set, and a call can be missing."""

import ctypes
from collections.abc import Callable
from typing import Any

from mica.vendors.huawei._abi import ChipInfo, Code, DieId, HbmInfo, TotalResource, VdevCommand, VdevMade, VdevQuery, VdevRequest


def target(argument: Any, kind: type[Any]) -> Any:
    """What a pointer of the caller's points to."""
    return ctypes.cast(argument, ctypes.POINTER(kind)).contents


def put(kind: type[Any], value: int) -> Callable[..., int]:
    """A call that writes a number through its last argument."""

    def call(*arguments: Any) -> int:
        target(arguments[-1], kind).value = value
        return 0

    return call


class FakeDcmi:
    """The library. ``codes``: what a call returns instead of doing anything. ``missing``: functions it does not have."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.missing: set[str] = set()
        self.cards = 1
        self.name = b"910B3"
        self.cores = 20
        self.memory = (3400, 65536)
        self.vdevs: dict[int, bytes] = {}
        self.numbered: int | None = None
        self.calls: dict[str, Callable[..., int]] = {
            "dcmi_init": lambda: 0,
            "dcmi_get_card_list": self.card_list,
            "dcmi_get_device_num_in_card": put(ctypes.c_int, 1),
            "dcmi_get_device_type": put(ctypes.c_int, 0),
            "dcmi_get_device_logic_id": self.logic,
            "dcmi_get_device_phyid_from_logicid": put(ctypes.c_uint, 0),
            "dcmi_get_device_chip_info_v2": self.chip_info,
            "dcmi_get_device_die_v2": self.die,
            "dcmi_get_device_hbm_info": self.hbm,
            "dcmi_get_device_power_info": put(ctypes.c_int, 900),
            "dcmi_get_device_temperature": put(ctypes.c_int, 36),
            "dcmi_get_device_utilization_rate": put(ctypes.c_uint, 12),
            "dcmi_get_device_info": self.info,
            "dcmi_create_vdevice": self.create,
            "dcmi_set_destroy_vdevice": self.destroy,
            "dcmi_get_device_resource_info": put(ctypes.c_int, 0),
            "dcmi_get_device_health": put(ctypes.c_uint, 0),
            "dcmi_get_device_errorcode_v2": lambda *_: 0,
        }

    def __getattr__(self, name: str) -> Callable[..., int]:
        """A function of the library."""
        if name in self.missing or name not in self.calls:
            raise AttributeError(name)
        return (lambda *_: self.codes[name]) if name in self.codes else self.calls[name]

    def card_list(self, count: Any, cards: Any, length: int) -> int:
        target(count, ctypes.c_int).value = ctypes.c_int(self.cards).value
        for card in range(min(max(0, self.cards), length)):
            cards[card] = card
        return 0

    def logic(self, number: Any, card: int, device: int) -> int:
        target(number, ctypes.c_int).value = card
        return 0

    def chip_info(self, card: int, device: int, info: Any) -> int:
        answer = target(info, ChipInfo)
        ctypes.memmove(answer.chip_type, b"Ascend", 6)
        ctypes.memmove(answer.chip_name, self.name, len(self.name))
        answer.aicore_cnt = self.cores
        return 0

    def die(self, card: int, device: int, kind: int, die: Any) -> int:
        target(die, DieId).soc_die[:] = [0xE0766E64, 0x20C0E5F1, 0x27941064, 0xAED8030A, 0xF6003019]
        return 0

    def hbm(self, card: int, device: int, info: Any) -> int:
        answer = target(info, HbmInfo)
        answer.memory_usage, answer.memory_size = self.memory
        return 0

    def info(self, *arguments: Any) -> int:
        command, answer = arguments[3:5]
        if command == VdevCommand.TOTAL:
            total = target(answer, TotalResource)
            total.vdev_num = len(self.vdevs) if self.numbered is None else self.numbered
            total.vdev_id[: len(self.vdevs)] = list(self.vdevs)
            total.computing.device_aicpu = 7
            return 0
        query = target(answer, VdevQuery)
        query.name = self.vdevs[query.vdev_id]
        query.is_container_used = 0
        return 0

    def create(self, card: int, device: int, request: Any, made: Any) -> int:
        wanted = target(request, VdevRequest)
        number = wanted.vdev_id if self.numbered is None else self.numbered
        self.vdevs[number] = wanted.template_name
        target(made, VdevMade).vdev_id = number
        return 0

    def destroy(self, card: int, device: int, number: Any) -> int:
        return 0 if self.vdevs.pop(number.value, None) else Code.NO_SUCH_DEVICE
