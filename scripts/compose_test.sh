#!/bin/sh
# make compose-test: see tests/acceptance/compose/__main__.py. Needs what `make setup` makes.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-.venv/bin/python}" -m tests.acceptance.compose
