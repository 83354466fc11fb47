# hordet in a container. On a CPU:
#
#   docker build -t hordet .
#   docker run --rm --shm-size=8g -v "$PWD:/work" --user "$(id -u)" hordet train CONFIG
#
# With CUDA (the host needs NVIDIA's container toolkit; start it with --gpus all):
#
#   docker build -t hordet:cuda --build-arg TORCH=cu130 .
FROM python:3.13-slim

# Which of PyTorch's wheels: cpu, or cu126, cu130 and so on, as on download.pytorch.org/whl.
ARG TORCH=cpu

# What the wheel of OpenCV needs of the system.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/$TORCH

# A wheel, and not the checkout: the source does not stay in the image.
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel /source \
    && pip install --no-cache-dir "$(echo /wheel/hordet-*.whl)[export]" \
    && rm -rf /source /wheel

# Any user may run it: work folders and the cache are in the folder that is mounted.
ENV HORDET_CACHE=/work/.cache MPLCONFIGDIR=/tmp/matplotlib
RUN mkdir -m 777 /work
WORKDIR /work
RUN hordet doctor
ENTRYPOINT ["hordet"]
CMD ["doctor"]
