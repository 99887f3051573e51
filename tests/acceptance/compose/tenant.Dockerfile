# A tenant's image: NVIDIA's own Python bindings, and nothing of mica.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
COPY constraints.txt /tmp/constraints.txt
RUN python3 -m venv /opt/tenant \
 && /opt/tenant/bin/pip install --no-cache-dir --disable-pip-version-check -c /tmp/constraints.txt cuda-bindings
COPY tenant.py /opt/tenant/tenant.py
ENTRYPOINT ["/opt/tenant/bin/python", "-u", "/opt/tenant/tenant.py"]
