# One image, one command per service: `docker run mica service planner`.
#
# The base is Debian bookworm (python3.11 is its own), from an image registry or imported from debootstrap:
#     docker build --build-arg BASE_IMAGE=my-bookworm -t mica .
# Plain instructions only: the classic builder and BuildKit both take this file.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev make python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
# Unset, these leave pip's own defaults; PIP_CONSTRAINT pins the isolated build's packages too.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /opt/mica
# Dependencies in a layer of their own: a change of mica's code does not fetch them again.
COPY constraints.txt pyproject.toml ./
RUN python3 -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))' > /tmp/requirements.txt \
 && /opt/mica/bin/pip install -r /tmp/requirements.txt
COPY . .
# The wheel's build hook compiles the native libraries and the region binding.
RUN /opt/mica/bin/pip wheel --no-deps --wheel-dir /tmp/dist . \
 && /opt/mica/bin/pip install --no-deps /tmp/dist/mica-*.whl \
 && /opt/mica/bin/pip uninstall -y pip setuptools \
 && install -m 0755 scripts/prepare_host.sh /opt/mica/bin/mica-prepare-host \
 && ln -s "$(/opt/mica/bin/python -c 'import mica.native as n; print(n.__path__[0])')/lib" /opt/mica/native

FROM ${BASE_IMAGE}
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/mica /opt/mica
ENV PATH=/opt/mica/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Numbers, not names, so that any base will do. compose.yaml says which services run as root, and why.
WORKDIR /
STOPSIGNAL SIGTERM
ENTRYPOINT ["mica"]
CMD ["--help"]
