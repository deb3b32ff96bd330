# lldeg with Ray and vLLM, for a node of a Ray cluster or a sweep in a container:
#
#     docker build --target gpu --tag lldeg:gpu .
#     docker build --target gpu --build-arg VLLM_IMAGE=vllm/vllm-openai:v0.31.0 --tag lldeg:vllm-0.31.0 .
#     docker build --target cpu --tag lldeg:cpu .
#
# It runs as the user 10001, in that user's home folder.
ARG PYTHON_IMAGE=python:3.11-slim
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

FROM ${PYTHON_IMAGE} AS cpu
ARG PIP_EXTRA_INDEX_URL
# vLLM links libnuma; older KubeRay operators ask a node for its health with wget.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 wget \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,target=/src,rw cd /src \
    && python3 -m pip install --no-cache-dir --constraint constraints.txt '.[cpu]' \
    && python3 -m pip uninstall --yes torchaudio torchcodec
RUN useradd --create-home --uid 10001 lldeg
USER 10001
WORKDIR /home/lldeg
CMD ["lldeg", "--help"]

FROM ${VLLM_IMAGE} AS gpu
ENV PIP_BREAK_SYSTEM_PACKAGES=1
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/*
# The image's vLLM, with all that it was built for, stays as it is; Ray is the one that lldeg is tested with.
RUN --mount=type=bind,target=/src,rw cd /src \
    && vllm=$(python3 -m pip list --format freeze | grep '^vllm==') \
    && python3 -m pip install --no-cache-dir "$vllm" "$(grep '^ray==' constraints.txt)" '.[gpu]'
RUN useradd --create-home --uid 10001 lldeg
USER 10001
WORKDIR /home/lldeg
ENTRYPOINT []
CMD ["lldeg", "--help"]
