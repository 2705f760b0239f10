# crispmask on the CPU: the command line, or with --build-arg EXTRAS=app the web page too. See docs/container.md.
FROM python:3.12-slim AS build
ARG EXTRAS=""
COPY . /src
# Numba's cache knows source files by their time, of which image layers keep whole seconds only.
RUN python -m venv /opt/crispmask \
 && /opt/crispmask/bin/pip install --no-cache-dir "/src${EXTRAS:+[$EXTRAS]}" \
 && find /opt/crispmask -name '*.py' -exec touch -d @1767225600 {} +

FROM python:3.12-slim
COPY --from=build /opt/crispmask /opt/crispmask
COPY docker/entrypoint.sh /entrypoint.sh
ENV PATH=/opt/crispmask/bin:$PATH \
    NUMBA_CACHE_DIR=/opt/numba \
    NUMBA_CPU_NAME=generic \
    PYTHONDONTWRITEBYTECODE=1
# Compiled once, here, for any processor of this kind.
RUN crispmask demo -o /tmp/demo \
 && rm -r /tmp/demo \
 && useradd --uid 1000 --create-home crispmask \
 && chown -R crispmask /opt/numba \
 && mkdir /data && chown crispmask /data
USER crispmask
WORKDIR /data
EXPOSE 7860
ENTRYPOINT ["/entrypoint.sh"]
CMD ["--help"]
