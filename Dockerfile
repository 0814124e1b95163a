# The packages are installed in a stage of their own: what runs has no pip cache and no lock file.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/scaler
COPY requirements.lock .
RUN /opt/scaler/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN /opt/scaler/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 scaler
COPY --from=build /opt/scaler /opt/scaler
ENV PATH=/opt/scaler/bin:$PATH PYTHONUNBUFFERED=1
USER scaler
WORKDIR /home/scaler
EXPOSE 9001
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["scaler", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["scaler"]
CMD ["serve", "--host", "0.0.0.0"]
