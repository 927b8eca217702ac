# syntax=docker/dockerfile:1
# One image for all services: the command of the service says which it is.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/backfill
COPY constraints.txt pyproject.toml README.md LICENSE celeryconfig.py ./
COPY backfill_tasks backfill_tasks
COPY cli cli
RUN /opt/backfill/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="backfill" org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin backfill
COPY --from=build /opt/backfill /opt/backfill
ENV PATH=/opt/backfill/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    # A container is stopped with SIGTERM. Celery then ends softly: it lets pages end, and gives the rest back.
    REMAP_SIGTERM=SIGQUIT
WORKDIR /tmp
USER backfill
CMD ["celery", "-A", "backfill_tasks", "worker", "--loglevel=info"]
