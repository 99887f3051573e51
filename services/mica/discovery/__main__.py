"""Wires discovery: reads the vendors now and every ten seconds. Invariant: ready means that the inventory is written."""

import asyncio
import logging
from typing import Final

from msgspec.structs import replace

from mica.bus import Bus, BusError, Clock, ServiceError, Settings, SystemClock, announce_ready, run_service
from mica.discovery.handlers import Registrar
from mica.discovery.host import HostError, own_host
from mica.discovery.inventory import Identity
from mica.discovery.probe import FIRST_S, Probe, boot_id
from mica.discovery.whereabouts import Locator, Sources
from mica.observability import configure_logging, tracer
from mica.site import SiteError

NAME: Final = "discovery"
INTERVAL_S: Final = 10.0

log = logging.getLogger(__name__)


async def run(bus: Bus, settings: Settings, clock: Clock | None = None) -> None:
    """Keep the node's inventory until cancelled.

    Raises:
        ServiceError: the environment says of this node what can't be.
    """
    clock = clock or SystemClock()
    try:
        sources = Sources.from_environment(simulated=settings.sim_dir is not None)
        host = own_host(settings.sim_dir)
    except (SiteError, HostError) as error:
        raise ServiceError(str(error)) from None
    identity = Identity(node=settings.node, pool=settings.pool, boot_id=boot_id())
    probe, tracing = Probe(first_s=FIRST_S), tracer(NAME, settings.otlp_endpoint)
    registrar, locator = Registrar(bus, identity, clock, tracing), Locator(bus, identity, sources)
    ready = False
    try:
        while True:
            try:
                survey, site = await asyncio.gather(asyncio.to_thread(probe.read), locator.site())
                await registrar.on_survey(replace(survey, site=site, host=host))
            except BusError as error:
                log.warning("%s; trying again in %.0f s", error, INTERVAL_S)
            else:
                if not ready:
                    announce_ready(NAME)
                ready = True
            await clock.sleep(INTERVAL_S)
    finally:
        probe.close()
        tracing.close()


def main() -> None:
    """Run as a process."""
    configure_logging(NAME)
    run_service(NAME, run)


if __name__ == "__main__":
    main()
