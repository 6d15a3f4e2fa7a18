# Every part of the one-machine stack, and its main job: one image, made on Linux as `make setup` makes it, from the same
# locks. docker-compose.yaml says which part a container is.
#
# The base is pinned by the digest that Docker's own record of its official images has (docker-library/repo-info, of
# 25 August 2026). A digest gets no security updates: renew it with the tag.
FROM python:3.11.16-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b AS base

FROM base AS setup
# Debian keeps one version of a package: a pinned one can't be installed any more when the next is out.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jdk-headless \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/feature-store
# What the set-up reads, and no more of the code: a change of that does not fetch 1.5 GB again.
COPY pyproject.toml requirements.lock README.md ./
COPY EMR/requirements.lock EMR/
COPY infra/__init__.py infra/locks.py infra/wheels.py infra/
COPY infra/local/__init__.py infra/local/setup.py infra/local/jars.py infra/local/jars.lock infra/local/java.py \
     infra/local/settings.py infra/local/spark_defaults.py infra/local/
COPY infra/local/cassandra/java infra/local/cassandra/java
# The packages that pyproject.toml names, for its editable installation.
RUN mkdir -p feature_store/online feature_store/sync feature_store/training feature_store/validation feature_store/views spark_jobs Simulation \
    && python -m infra.local.setup

FROM base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 feature-store \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin feature-store \
    # Where the volumes are mounted: a new one takes owner and mode from here.
    && install --directory --owner=10001 --group=10001 --mode=0700 /feature-store /database-password
WORKDIR /opt/feature-store
COPY --from=setup /opt/feature-store ./
# .dockerignore lets nothing else through.
COPY . ./
# The file system is read-only when it runs: Python could not keep what it compiles.
RUN python -m compileall -q dags plugins feature_store spark_jobs Simulation infra
ENV PATH=/opt/feature-store/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FEATURE_STORE_HOME=/feature-store \
    # Where the nodes' Python is made: the code's own folder can't be written to.
    FEATURE_STORE_PACKAGES=/feature-store/node-packages \
    HOME=/tmp
USER 10001:10001
CMD ["python", "-m", "infra.local", "--help"]
