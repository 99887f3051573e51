"""The way to the compiled kernel. Invariant: a binding that is missing is told in one line."""

from mica.packing._errors import PackingError

try:
    from mica.packing._kernel import ffi, lib
except ImportError as error:  # pragma: no cover - a broken build is not a state of the tests
    raise PackingError(f"mica.packing: the compiled kernel is missing or does not load ({error}); run `make native`") from error

__all__ = ["ffi", "lib"]
