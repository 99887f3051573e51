"""What NVIDIA's Xid numbers mean for a device. Owns the one list of them.

Invariant: fatal is what leaves the device of no use until it is reset or replaced; what a program did wrong is told and nothing
follows from it. Source: NVIDIA's Xid catalogue, by its immediate actions: RESTART_APP, RESET_GPU, RESTART_BM.
"""

from typing import Final

from mica.events import Severity

_PROGRAM: Final = Severity.INFO
_RISK: Final = Severity.WARNING
_DEVICE: Final = Severity.FATAL

XIDS: Final[dict[int, tuple[Severity, str]]] = {
    8: (_PROGRAM, "a program's work did not end in time"),
    13: (_PROGRAM, "a program's kernel failed: graphics engine exception"),
    31: (_PROGRAM, "a program used memory that it does not have: MMU fault"),
    32: (_RISK, "commands came in broken: PCI Express, or a program"),
    38: (_RISK, "the driver's firmware failed"),
    43: (_PROGRAM, "a program was stopped after its own fault"),
    44: (_RISK, "a graphics engine fault while switching programs"),
    45: (_PROGRAM, "a program was ended while it had work on the device"),
    46: (_DEVICE, "the device stopped and can not be brought back without a reset"),
    48: (_DEVICE, "a memory error that can not be corrected"),
    61: (_RISK, "the power management's firmware reached a breakpoint"),
    62: (_DEVICE, "the power management's firmware stopped"),
    63: (_RISK, "memory that failed is replaced at the next reset"),
    64: (_DEVICE, "memory that failed can not be replaced"),
    68: (_PROGRAM, "a program's video decoding failed"),
    69: (_PROGRAM, "a program's command is not the device's"),
    74: (_DEVICE, "NVLink failed"),
    79: (_DEVICE, "fell off the bus"),
    80: (_PROGRAM, "a program's commands came in broken"),
    92: (_RISK, "many memory errors that were corrected"),
    94: (_RISK, "a memory error that hurt one program and no other"),
    95: (_DEVICE, "a memory error that may have hit any program"),
    109: (_DEVICE, "a program could not be switched out in time"),
    110: (_DEVICE, "the device reports a security fault"),
    119: (_DEVICE, "the device's system processor does not answer"),
    120: (_DEVICE, "the device's system processor failed"),
    121: (_PROGRAM, "the link to the processor (C2C) had errors, which were corrected"),
    136: (_DEVICE, "NVLink's training failed"),
    137: (_PROGRAM, "a peer's fault over NVLink"),
    140: (_DEVICE, "memory errors that were not recovered from"),
    143: (_DEVICE, "the device could not be initialised"),
    144: (_RISK, "NVLink: an error in its memory accesses"),
    145: (_RISK, "NVLink: an error in its receiver"),
    149: (_RISK, "NVLink: a link is down, or about to be"),
    154: (_RISK, "the driver says what it takes to recover the device"),
    156: (_RISK, "a part that failed is replaced at the next reset"),
    157: (_RISK, "a part that failed can not be replaced"),
    158: (_DEVICE, "the device does not answer in time"),
    171: (_RISK, "the memory error was in DRAM"),
    172: (_RISK, "the memory error was on the chip"),
}
UNKNOWN: Final = (_RISK, "not in the list of those that are known")


def judge_xid(number: int) -> tuple[Severity, str]:
    """How bad it is, and what it says."""
    return XIDS.get(number, UNKNOWN)
