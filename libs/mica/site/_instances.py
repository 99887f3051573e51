"""The catalogue of clouds' GPU instance types, read from ``instances.toml``.

Invariant: every entry names one model of ``mica.hardware`` and how many of it an instance has; nothing is asked of a network.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct

from mica.hardware import Catalogue

FILE = "instances.toml"


class InstanceError(ValueError):
    """The catalogue of instance types contradicts itself."""


class InstanceType(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``count`` devices of ``model``, a key of the hardware catalogue; with ``parts`` > 1 one such part of a single device.

    ``vcpus`` and ``memory_gib`` are the instance's own; 0: not noted.
    """

    model: Annotated[str, Meta(min_length=1)]
    count: Annotated[int, Meta(ge=1, le=16)] = 1
    parts: Annotated[int, Meta(ge=1, le=64)] = 1
    vcpus: Annotated[int, Meta(ge=0)] = 0
    memory_gib: Annotated[int, Meta(ge=0)] = 0


class InstanceTypes(Struct, frozen=True):
    """By cloud and by type's name in small letters: not all clouds keep to one spelling."""

    clouds: Mapping[str, Mapping[str, InstanceType]]

    @classmethod
    @cache
    def load(cls) -> Self:
        """The shipped catalogue, read once. Raises InstanceError."""
        return cls.parse(files("mica.site").joinpath(FILE).read_bytes())

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read a catalogue from TOML: a table for each cloud, in it an entry for each type. Raises InstanceError."""
        try:
            content = msgspec.toml.decode(text, type=dict[str, dict[str, InstanceType]])
        except msgspec.DecodeError as error:
            raise InstanceError(f"instance types: {error}") from error
        clouds = {}
        for cloud, types in content.items():
            clouds[cloud] = {name.lower(): entry for name, entry in types.items()}
            if len(clouds[cloud]) < len(types):
                raise InstanceError(f"instance types: {cloud}: two names differ in nothing but capitals")
            for name, entry in types.items():
                if entry.parts > 1 and entry.count > 1:
                    raise InstanceError(f"instance types: {cloud} {name}: got {entry.count} devices in parts, allowed: 1")
        return cls(clouds)

    def find(self, cloud: str, name: str) -> InstanceType | None:
        """What an instance of that type has; None for a type without devices, or one that is not in here."""
        return self.clouds.get(cloud, {}).get(name.lower())

    def unknown_models(self, catalogue: Catalogue) -> set[str]:
        """The models that the hardware catalogue does not have."""
        wanted = {entry.model for types in self.clouds.values() for entry in types.values()}
        return wanted.difference(catalogue.models)
