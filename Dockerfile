# make image TRACE=PATH, or what it says in docs/image.md. Targets: scaler (with a model trained on
# the trace while the image is built), simulator (with the trace), runtime (with neither).
ARG PYTHON=docker.io/library/python:3.11-slim

# What the program needs, locked by hash; no compiler, no pip and no cache get further than this.
FROM ${PYTHON} AS dependencies
ARG LOCK=requirements.run.lock
COPY ${LOCK} /src/
RUN python -m venv /opt/scaler \
    && /opt/scaler/bin/pip install --no-cache-dir --require-hashes -r /src/${LOCK} \
    && /opt/scaler/bin/pip uninstall --yes setuptools pip \
    && find /opt/scaler -type d -name tests -prune -exec rm -rf {} +

# The program as a wheel, unpacked as it will lie in /opt/scaler: a small layer of its own.
FROM ${PYTHON} AS program
COPY requirements.build.lock /src/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r /src/requirements.build.lock
COPY . /src
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation -w /wheel /src
COPY --from=dependencies /opt/scaler /opt/scaler
RUN /opt/build/bin/pip --python /opt/scaler/bin/python install --no-deps --prefix /program \
    /wheel/*.whl

FROM ${PYTHON} AS runtime
# LightGBM is linked against the system's OpenMP.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=dependencies /opt/scaler /opt/scaler
COPY --from=program /program /opt/scaler
ENV PATH=/opt/scaler/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SCALER_HOST=0.0.0.0
USER 10001:10001
ENTRYPOINT ["scaler"]
CMD ["--help"]

# The contest's simulator: the platform on 50051, statistics on 9000, the scaler expected on 9001.
FROM runtime AS simulator
ARG TRACE
COPY --from=trace ${TRACE} /trace/${TRACE}
ENV SCALER_TRACE=/trace/${TRACE}
EXPOSE 9000 50051
CMD ["simulate", "--wait", "60"]

FROM runtime AS training
ARG TRACE
ARG TRAIN=""
USER 0:0
COPY --from=trace ${TRACE} /trace/${TRACE}
RUN scaler train "/trace/${TRACE}" --out /model ${TRAIN}

FROM runtime AS scaler
COPY --from=training /model /model
EXPOSE 9001
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["scaler", "health"]
CMD ["serve", "--model", "/model"]
