# Kıyas without a virtual environment: judge, import, compare and report; with EXTRAS='[train]' also PyTorch.
#   docker build -t kiyas .
#   docker run --rm kiyas                                          # kiyas doctor
#   docker run --rm -v "$PWD:/work" kiyas report runs/mine
# Untried: this file is linted by the tests, and built and run by them only where a container engine answers.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
ARG EXTRAS=""
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/kiyas-*.whl)${EXTRAS}" && useradd --create-home --uid 1000 kiyas
USER 1000
WORKDIR /work
ENTRYPOINT ["kiyas"]
CMD ["doctor"]
