ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

# cpu: the CPU build of torch, from the package index that PyTorch keeps for it, to be given as TORCH_CPU_INDEX; without
# one, whatever build pip finds first, which on PyPI carries CUDA. cuda: the build that PyPI serves for Linux.
ARG TORCH=cpu
ARG TORCH_VERSION=2.13.0
ARG TORCH_CPU_INDEX=

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    LANG=C.UTF-8

# tini passes signals on, so that a stopped container ends at once; graphviz draws the graph of --write-graph
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini graphviz \
    && rm -rf /var/lib/apt/lists/*

COPY requirements.lock /opt/bids-sr/
RUN python -m pip install --requirement /opt/bids-sr/requirements.lock \
    && case "${TORCH}" in \
         cpu) python -m pip install ${TORCH_CPU_INDEX:+--extra-index-url "${TORCH_CPU_INDEX}"} \
              "torch==${TORCH_VERSION}${TORCH_CPU_INDEX:++cpu}" ;; \
         cuda) python -m pip install "torch==${TORCH_VERSION}" ;; \
         *) echo "TORCH is cpu or cuda, not ${TORCH}" >&2; exit 1 ;; \
       esac

COPY . /opt/bids-sr/src
RUN python -m pip install --no-deps /opt/bids-sr/src \
    && rm -rf /opt/bids-sr/src \
    && python -m pip check

# The image also runs under a user id that it does not know, read-only but for /tmp: everything that a library may
# want to write has a place there, and nobody is asked for a name.
ENV HOME=/tmp \
    LOGNAME=bids-sr \
    USER=bids-sr \
    TEMPLATEFLOW_HOME=/opt/templateflow \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    NIPYPE_NO_ET=1

# the name under which results remember the image that made them: --build-arg IMAGE_TAG=...
ARG IMAGE_TAG=bids-sr
ENV BIDS_SR_CONTAINER_TAG=${IMAGE_TAG}

RUN useradd --uid 1000 --no-create-home --home-dir /tmp bids-sr \
    && install -d -m 1777 /opt/templateflow /work
USER bids-sr
WORKDIR /work

# the program is the process that tini watches; nothing stands between it and a signal
ENTRYPOINT ["/usr/bin/tini", "--", "bids-sr"]
CMD ["--help"]
