# One image for all services except the command's: the command line selects the service, and the default is a worker.
# The command's image has the same layers plus one, with the libraries that draw a report.

FROM python:3.13-slim AS build
WORKDIR /src
# The dependencies, with those of the scorer openai, have a layer of their own, so that rebuilding after a code change
# takes seconds. All are wheels of the versions in constraints.txt: nothing is compiled. The image contains no pip.
COPY constraints.txt pyproject.toml ./
RUN python -m venv --without-pip /opt/backfill \
 && python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['openai'], sep='\n')" >dependencies.txt \
 && pip install --no-cache-dir --only-binary=:all: --constraint constraints.txt hatchling \
 && pip --python /opt/backfill/bin/python install --no-cache-dir --only-binary=:all: --constraint constraints.txt \
    --requirement dependencies.txt
COPY README.md LICENSE celeryconfig.py ./
COPY backfill_tasks backfill_tasks
COPY cli cli
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/backfill/bin/python install --no-cache-dir --no-deps dist/*.whl

FROM python:3.13-slim AS worker
LABEL org.opencontainers.image.title="backfill" \
      org.opencontainers.image.description="Walk a live PostgreSQL database page by page through Celery, each page exactly once" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin backfill
COPY --from=build /opt/backfill /opt/backfill
# Docker stops a container with SIGTERM. Celery treats it as SIGQUIT and shuts down softly (celeryconfig.py): running
# pages get some time to end, and then their messages are requeued.
ENV PATH=/opt/backfill/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    REMAP_SIGTERM=SIGQUIT
# The only folder that is written to: the root file system may be read-only, with a tmpfs mounted here.
WORKDIR /tmp
USER backfill
# Pings this worker through the broker: an answer shows that its loop runs and could take a page.
HEALTHCHECK --interval=30s --timeout=15s --start-period=30s --retries=3 \
    CMD ["sh", "-c", "exec celery -A backfill_tasks inspect ping --timeout=5 --destination=celery@$HOSTNAME"]
CMD ["backfill", "worker", "--concurrency=2"]

FROM python:3.13-slim AS plots
WORKDIR /src
COPY constraints.txt pyproject.toml ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['optional-dependencies']['report'], sep='\n')" >dependencies.txt \
 && pip install --no-cache-dir --only-binary=:all: --constraint constraints.txt --target /opt/plots \
    --requirement dependencies.txt

FROM worker AS cli
COPY --from=plots /opt/plots /opt/plots
ENV PYTHONPATH=/opt/plots
