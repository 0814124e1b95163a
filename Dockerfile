# Two stages: wheels are built and installed in the first, the second has no compiler and no cache.
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/scaler && /opt/scaler/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN /opt/scaler/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
COPY --from=build /opt/scaler /opt/scaler
ENV PATH=/opt/scaler/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --no-create-home scaler
USER scaler
EXPOSE 9001
ENTRYPOINT ["scaler"]
CMD ["serve"]
