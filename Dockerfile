# The image that every machine of a cluster runs: Ray, this package and what both need, at the versions of
# requirements.lock. The packages of torch on the index bring CUDA along; the nodes bring the driver.
#
#   docker build --tag registry.example/fewshot:0.1.0 .

FROM python:3.11-slim AS build
RUN python -m venv /opt/fewshot
ENV PATH=/opt/fewshot/bin:$PATH
WORKDIR /build
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY cluster cluster
COPY fewshot fewshot
COPY ray_jobs ray_jobs
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
# KubeRay asks with wget whether Ray is healthy; `ray up` copies files with rsync and reaches workers with ssh.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends openssh-client rsync wget \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home fewshot
COPY --from=build /opt/fewshot /opt/fewshot
# `ray up` finds the home folder here.
ENV PATH=/opt/fewshot/bin:$PATH HOME=/home/fewshot PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /home/fewshot
RUN fewshot methods >/dev/null
CMD ["fewshot", "--help"]
