"""What happens in the stack, and what must hold: the checks of the container test."""

from tests.acceptance.compose._report import Report
from tests.acceptance.compose._stack import SERVICES, Stack


def play(stack: Stack, report: Report) -> None:
    for service in SERVICES:
        report.check(f"{service} runs", bool(stack.container(service)))
