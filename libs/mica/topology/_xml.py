"""XML from foreign hands, read by expat with handlers of our own.

Invariant: nothing is fetched and nothing expands: a DOCTYPE may name a DTD, which stays unread, and a document that declares or
uses an entity is refused; bytes, depth and elements are bounded. Expat alone suffices: a wrapper library would add the refusal of
entities, but neither the bounds nor the line of an element.
"""

from collections.abc import Callable
from typing import Final, Self, TypeVar
from xml.parsers import expat

from msgspec import Struct, field

from mica.topology._model import TopologyError

T = TypeVar("T")
BYTES_MAX: Final = 8 << 20
DEPTH_MAX: Final = 100
ELEMENTS_MAX: Final = 100_000


class Element(Struct):
    """An element, with the line at which it starts in the document called ``where``."""

    tag: str
    attributes: dict[str, str]
    where: str
    line: int
    children: list["Element"] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text between its tags, that of its children left out."""
        return "".join(self.texts)

    def all(self, tag: str) -> list["Element"]:
        """The children with that tag."""
        return [child for child in self.children if child.tag == tag]

    def get(self, name: str, default: str | None = None) -> str:
        """An attribute. Raises TopologyError: it is not there and there is no default."""
        found = self.attributes.get(name, default)
        if found is None:
            raise self.error(f"no {name}", "it must be there")
        return found

    def number(self, name: str, low: int, high: int, default: str | None = None) -> int:
        """A whole number, decimal or hexadecimal with ``0x``. Raises TopologyError: it is none, or out of bounds."""
        text = self.get(name, default)
        try:
            value = int(text, 16 if text.lower().startswith("0x") else 10)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise self.error(f"{name}={text[:40]!r}", f"a whole number from {low} to {high}")
        return value

    def parsed(self, name: str, parse: Callable[[str], T], default: str | None = None) -> T:
        """What ``parse`` makes of an attribute; its ValueError says what is allowed. Raises TopologyError."""
        text = self.get(name, default)
        try:
            return parse(text)
        except ValueError as error:
            raise self.error(f"{name}={text[:40]!r}", str(error)) from None

    @property
    def place(self) -> str:
        """Where it stands, for errors."""
        return f"{self.where}, line {self.line}: <{self.tag}>"

    def error(self, observed: str, allowed: str) -> TopologyError:
        """An error that names this element."""
        return TopologyError(f"{self.place}: {observed}; allowed: {allowed}")


class _Builder:
    """Expat's handlers; ``root`` is the document when all is read."""

    def __init__(self, where: str) -> None:
        self.root: Element | None = None
        self._where = where
        self._open: list[Element] = []
        self._elements = 0
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._entity
        parser.SkippedEntityHandler = self._skipped

    def parse(self, text: bytes) -> Self:
        try:
            self._parser.Parse(text, True)  # noqa: FBT003 - expat's own signature
        except expat.ExpatError as error:
            raise TopologyError(f"{self._where}, line {error.lineno}: no XML: {expat.ErrorString(error.code)}") from None
        except (LookupError, ValueError) as error:  # of an encoding that Python lacks, or that has several bytes a character
            raise TopologyError(f"{self._where}: no XML: {error}") from None
        return self

    def _refuse(self, observed: str, allowed: str) -> TopologyError:
        return TopologyError(f"{self._where}, line {self._parser.CurrentLineNumber}: {observed}; allowed: {allowed}")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > ELEMENTS_MAX or len(self._open) >= DEPTH_MAX:
            raise self._refuse(
                f"<{tag[:40]}> is element {self._elements} at depth {len(self._open) + 1}",
                f"{ELEMENTS_MAX} elements, depth {DEPTH_MAX}",
            )
        element = Element(tag, attributes, self._where, self._parser.CurrentLineNumber)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _tag: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        self._open[-1].texts.append(text)

    def _entity(self, name: str, *_: object) -> None:
        raise self._refuse(f"it declares entity {name[:40]!r}", "no entities")

    def _skipped(self, name: str, _parameter: bool) -> None:  # noqa: FBT001 - expat's own signature
        raise self._refuse(f"it uses entity {name[:40]!r}", "no entities")


def parse(text: bytes, where: str) -> Element:
    """The root element of a document; ``where`` names it in errors. Raises TopologyError."""
    if len(text) > BYTES_MAX:
        raise TopologyError(f"{where}: {len(text)} bytes; allowed: {BYTES_MAX}")
    root = _Builder(where).parse(text).root
    assert root is not None  # expat has refused a document without an element
    return root
