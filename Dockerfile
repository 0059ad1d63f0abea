# syntax=docker/dockerfile:1
# The distila xApp for an O-RAN-SC near-RT RIC.
#
#   docker build --build-arg RMR_SHA256=<sha256 of the package below> -t registry.example.org/distila:0.1.0 .
#
# The sum is that of rmr_4.9.4_amd64.deb as packagecloud.io/o-ran-sc/release shows it; a build without it stops and says
# what it got. A base image without a digest may change under you: PYTHON_IMAGE takes another.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84

# --- librmr: the platform's message router ---
FROM ${PYTHON_IMAGE} AS rmr
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG RMR_VERSION=4.9.4
ARG RMR_SHA256=
ADD https://packagecloud.io/o-ran-sc/release/packages/debian/stretch/rmr_${RMR_VERSION}_amd64.deb/download.deb /tmp/rmr.deb
RUN got=$(sha256sum /tmp/rmr.deb | cut -d ' ' -f 1); \
    if [ "$got" != "$RMR_SHA256" ]; then \
        echo "rmr_${RMR_VERSION}_amd64.deb has sha256 $got, RMR_SHA256 says '$RMR_SHA256'" >&2; exit 1; \
    fi; \
    dpkg-deb --extract /tmp/rmr.deb /tmp/rmr; \
    mkdir /rmr; \
    find /tmp/rmr -name 'librmr_si.so*' -exec cp --no-dereference {} /rmr/ ';'; \
    ln --symbolic --force "librmr_si.so.${RMR_VERSION}" /rmr/librmr_si.so; \
    test -e /rmr/librmr_si.so

# --- the Python environment ---
FROM ${PYTHON_IMAGE} AS python
ENV PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/distila/venv
ENV PATH=/opt/distila/venv/bin:$PATH
COPY requirements requirements
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY distila distila
COPY schemas schemas
COPY xapp xapp
# The platform's SDKs come without what they pin: protobuf 3.20 would be slow, hiredis 2.0 needs a compiler. Of pycrate's
# 250 MB of protocols the xApp speaks one; the others go before anything
# is compiled.
RUN pip install --constraint requirements/image.txt '.[ric,edgeric]' \
    && pip install --no-deps --requirement requirements/ric-sdks.txt \
    && find /opt/distila/venv/lib/python3.11/site-packages/pycrate_asn1dir -type f \
        ! -name '__init__*' ! -name 'E2AP.*' -delete \
    && python -c 'import pycrate_asn1dir.E2AP, ricsdl.syncstorage, distila.xapp.app, zmq' \
    && pip uninstall --yes pip setuptools \
    && python -m compileall -q /opt/distila/venv/lib

# --- what runs ---
FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="distila" \
      org.opencontainers.image.description="Distilled link adaptation, an O-RAN xApp" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=rmr /rmr/ /usr/local/lib/
RUN ldconfig \
    && groupadd --gid 10001 distila \
    && useradd --uid 10001 --gid distila --no-create-home --home-dir /tmp --shell /usr/sbin/nologin distila
COPY --from=python /opt/distila/venv /opt/distila/venv
COPY helm/distila/descriptor/ /opt/ric/config/
# Nothing is written outside /tmp and what is mounted, so that the root file system can be read-only.
ENV PATH=/opt/distila/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LD_LIBRARY_PATH=/usr/local/lib \
    CONFIG_FILE=/opt/ric/config/config-file.json \
    XAPP_DESCRIPTOR_PATH=/opt/ric/config \
    RMR_RTG_SVC=4561
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080 4560 4561
HEALTHCHECK --interval=10s --timeout=2s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/ric/v1/health/alive', timeout=1.5)"]
ENTRYPOINT ["distila"]
CMD ["run", "--json"]
