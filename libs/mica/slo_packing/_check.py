"""Whether a deployment keeps every promise. Invariant: written from the rules alone; it shares nothing with the solver."""

from collections.abc import Iterable, Iterator

from mica.hardware import Model
from mica.slo_packing._problem import PROCESSES_MAX, Instance, Service, latency_limit_ms


def violations(devices: Iterable[Iterable[Instance]], services: Iterable[Service], model: Model) -> list[str]:
    """What is wrong, a line for each; empty when all is well."""
    listed, by_name = [list(device) for device in devices], {each.name: each for each in services}
    found = [line for number, device in enumerate(listed) for line in _layout(f"device {number}", device, model)]
    found += [line for device in listed for each in device for line in _instance(each, by_name)]
    for service in by_name.values():
        rate_hz = sum(each.point.rate_hz for device in listed for each in device if each.service == service.name)
        if rate_hz < service.rate_hz:
            found.append(f"{service.name}: {rate_hz:g} Hz, promised {service.rate_hz:g} Hz")
    return found


def _layout(where: str, device: list[Instance], model: Model) -> Iterator[str]:
    taken: dict[int, Instance] = {}
    for each in device:
        sizes = [p.size for p in model.profiles if p.compute_slices == each.point.size and each.start in p.starts]
        if not sizes:
            yield f"{where}: no instance of {each.point.size} slices starts at {each.start}"
            continue
        for slot in range(each.start, each.start + min(sizes)):
            if slot in taken:
                yield f"{where}: slot {slot} holds {taken[slot].service} and {each.service}"
            taken[slot] = each
    slices = sum(each.point.size for each in device)
    if slices > model.compute_slices:
        yield f"{where}: {slices} compute slices of {model.compute_slices}"


def _instance(each: Instance, services: dict[str, Service]) -> Iterator[str]:
    service = services.get(each.service)
    if service is None or each.point not in service.points:
        yield f"{each.service}: {each.point} was never measured"
        return
    if each.point.latency_ms >= latency_limit_ms(service.slo_ms):
        yield f"{each.service}: {each.point.latency_ms:g} ms, below {latency_limit_ms(service.slo_ms):g} ms promised"
    if each.point.processes > PROCESSES_MAX:
        yield f"{each.service}: {each.point.processes} processes, at most {PROCESSES_MAX}"
