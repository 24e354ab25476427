# Builds the gateway's image: the locked dependencies and the gateway in one virtual environment, run by a plain user.
FROM python:3.13-slim AS build

RUN pip install --no-cache-dir uv==0.13.9

ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/ai-gateway \
    UV_PYTHON_DOWNLOADS=never

WORKDIR /build

# The dependencies change seldom, so they are a layer of their own.
COPY pyproject.toml uv.lock ./
COPY clients/python/pyproject.toml clients/python/README.md clients/python/
RUN uv sync --frozen --no-dev --no-install-workspace

COPY README.md LICENSE ./
COPY clients/python/src clients/python/src
COPY gateway_server gateway_server
RUN uv sync --frozen --no-dev --no-editable


FROM python:3.13-slim

RUN groupadd --system --gid 10001 gateway \
    && useradd --system --uid 10001 --gid gateway --home-dir /var/lib/ai-gateway --shell /usr/sbin/nologin gateway \
    && install --directory --owner=gateway --group=gateway --mode=0700 /var/lib/ai-gateway

COPY --from=build /opt/ai-gateway /opt/ai-gateway

# In a container the network decides who reaches the ports. The state holds the database and the keys' pepper.
ENV PATH=/opt/ai-gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AIGW_LISTEN=0.0.0.0:50051 \
    AIGW_METRICS_LISTEN=0.0.0.0:9464 \
    AIGW_STATE_DIR=/var/lib/ai-gateway

USER 10001:10001
WORKDIR /var/lib/ai-gateway
VOLUME /var/lib/ai-gateway
EXPOSE 50051 9464

# SIGTERM drains: calls under way end, new ones are refused.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["ai-gateway", "health"]

ENTRYPOINT ["ai-gateway"]
CMD ["serve"]
