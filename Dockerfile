ARG BASE_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
FROM ${BASE_IMAGE} AS dependencies

# Which build of torch: cpu or cuda. The Python package index has only the CUDA build, which is several GB larger; PyTorch
# keeps the CPU build in an index of its own. A mirror of that index can be given instead, and a folder of wheels that pip's
# own settings name serves, too.
ARG TORCH=cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
# an own mirror of the package index; pip reads these as they are
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
# spaces of TemplateFlow to bring along, at 1 mm; the default space, MNI152NLin2009cAsym, comes with bids-sr
ARG TEMPLATES="MNI152NLin6Asym"

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    LANG=C.UTF-8

# /build installs; /opt/bids-sr is all that goes on to the image, and has no pip
COPY requirements.lock docker/*.lock /locks/
RUN python -m venv /build \
    && /build/bin/pip install --require-hashes --only-binary=:all: --requirement /locks/build.lock \
    && python -m venv --without-pip /opt/bids-sr

RUN torch() { build=$1; shift; /build/bin/pip --python /opt/bids-sr install --no-deps --require-hashes --requirement "/locks/torch-${build}.lock" "$@"; } \
    && case "${TORCH}" in \
         cpu) torch cpu --index-url "${TORCH_CPU_INDEX}" ;; \
         cuda) torch cuda ;; \
         *) echo "TORCH is cpu or cuda, not ${TORCH}" >&2; exit 1 ;; \
       esac \
    || { echo "torch (${TORCH}) was not installed; TORCH=cuda takes it from the Python package index" >&2; exit 1; }

# with the extra multi-echo; as wheels first: what has none is built with the locked setuptools, not with whatever is newest
RUN /build/bin/pip wheel --no-deps --no-build-isolation --require-hashes --requirement /locks/requirements.lock --wheel-dir /wheels \
    && /build/bin/pip --python /opt/bids-sr install --no-deps --no-index /wheels/*.whl \
    && rm -r /wheels

# tests of others, and what torch needs to build extensions and to test itself: nothing of it is ever imported
RUN cd /opt/bids-sr/lib/python3*/site-packages \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && rm -rf torch/test torch/include \
    && find torch/bin -type f ! -name torch_shm_manager -delete

ENV TEMPLATEFLOW_HOME=/opt/templateflow
COPY docker/templates.py /build/
RUN /opt/bids-sr/bin/python /build/templates.py ${TEMPLATES}


# a stage and a layer of its own: a change of the program changes a few megabytes of the image
FROM dependencies AS package
ARG REVISION=
COPY . /src
RUN BIDS_SR_REVISION="${REVISION}" /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /src \
    && /build/bin/pip --python /opt/bids-sr install --no-deps --no-index --prefix /opt/package /wheels/*.whl \
    && cp -a /opt/package/. /opt/bids-sr/ \
    && /build/bin/pip --python /opt/bids-sr check


# Weights of VGG-19 for --recipe paper are no part of the image: mount https://download.pytorch.org/models/vgg19-dcbb9e9d.pth
# and give its path to --vgg-weights.
FROM ${BASE_IMAGE}

# tini passes signals on, so that a stopped container ends at once.
# What only installs and builds goes from the base image.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && apt-get purge --yes --auto-remove python3-pip python3-setuptools python3-wheel \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/* \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels /var/lib/apt/lists/* /var/cache/* /var/log/* /root/.cache

COPY --from=dependencies /opt/bids-sr /opt/bids-sr
COPY --from=dependencies /opt/templateflow /opt/templateflow
COPY docker/entry.sh /usr/local/bin/bids-sr-entry
COPY --from=package /opt/package /opt/bids-sr
COPY LICENSE NOTICE /opt/bids-sr/

# the name under which results remember the image that made them, and the commit that it was built from
# (bids_sr.io.mounts also recognizes the image by BIDS_SR_CONTAINER_TAG, and then checks the mounts)
ARG IMAGE_TAG=bids-sr
ARG REVISION=
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="bids-sr" \
      org.opencontainers.image.description="Subject-specific super-resolution of fMRI as a BIDS-App" \
      org.opencontainers.image.version="0.3.0.dev0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://example.org/bids-sr" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-1.0-or-later" \
      bids-sr.notice="source code: Apache-2.0; the AAL2 atlas beside it: GNU GPL; templates: /opt/bids-sr/NOTICE"

# The image also runs under a user id that it does not know, read-only but for /tmp: nobody is asked for a name, and
# what libraries may want to write has a place there, which bids-sr-entry makes a private one.
ENV PATH=/opt/bids-sr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    BIDS_SR_CONTAINER_TAG=${IMAGE_TAG} \
    HOME=/tmp \
    LOGNAME=bids-sr \
    USER=bids-sr \
    TEMPLATEFLOW_HOME=/opt/templateflow \
    TEMPLATEFLOW_AUTOUPDATE=0 \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    NIPYPE_NO_ET=1 \
    PYTHONNOUSERSITE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LANG=C.UTF-8

# by number, so that Kubernetes and others can see that the user is not root
RUN groupadd --gid 1000 bids-sr \
    && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp bids-sr \
    && install -d -m 1777 /work
USER 1000:1000
WORKDIR /work

ENTRYPOINT ["/usr/local/bin/bids-sr-entry", "bids-sr"]
CMD ["--help"]
