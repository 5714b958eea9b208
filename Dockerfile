# Debian with everything installed: docker build -t d2lvae . && docker run --rm -it -p 127.0.0.1:8888:8888 d2lvae
# Binder builds this file as well. docs/setup.md says what has been tried.

# What the system must have; .devcontainer/ stops here and sets up the clone that it is given.
FROM debian:bookworm-slim AS system
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
       ca-certificates git libgl1 libglib2.0-0 libgomp1 make openssh-client python3 python3-venv \
       $([ "$(uname -m)" != x86_64 ] || echo libquadmath0) \
    && rm -rf /var/lib/apt/lists/*
ARG NB_USER=student
ARG NB_UID=1000
ENV USER=${NB_USER} HOME=/home/${NB_USER}
RUN useradd --create-home --shell /bin/bash --uid ${NB_UID} ${NB_USER}

# The project, and its environment in .venv.
FROM system AS project
COPY --chown=${USER} . ${HOME}/d2lvae
WORKDIR ${HOME}/d2lvae
USER ${USER}
RUN make setup && rm -rf ${HOME}/.cache
ENV PATH=${HOME}/d2lvae/.venv/bin:${PATH} PYTHONNOUSERSITE=1
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--LabApp.default_url=/lab/tree/notebooks/README.md"]
