"""What speaks NATS starts without aiohttp, and nobody who wants aiohttp misses any of it."""

import subprocess
import sys

import pytest

NONE_YET = "import sys, mica.bus; assert not {'aiohttp', 'multidict', 'yarl'} & set(sys.modules)\n"


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(NONE_YET, id="without"),
        pytest.param(NONE_YET + "from aiohttp import web, ClientSession", id="imported afterwards"),
        pytest.param(
            NONE_YET + "from nats.aio import transport\n"
            "import aiohttp, multidict\n"
            "assert transport.aiohttp.ClientSession is aiohttp.ClientSession\n"
            "assert transport.multidict.CIMultiDict is multidict.CIMultiDict",
            id="used by nats",
        ),
        pytest.param(
            "import aiohttp, mica.bus; from nats.aio import transport; assert transport.aiohttp is aiohttp",
            id="imported before",
        ),
    ],
)
def test_aiohttp_is_loaded_by_whoever_uses_it_and_by_nobody_else(program: str) -> None:
    """A service and a command load none of it; a gate, and a web socket of nats, find all of it."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
