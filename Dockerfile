# The service and its migrations in one image: what runs is what knows its schema.
#   docker run … IMAGE                        serves on port 8000
#   docker run … IMAGE alembic upgrade head   migrates
# Both read DATABASE_URL or DATABASE_URL_FILE; compose.yaml shows how they belong together.

FROM python:3.13-slim AS build
# Compiled here, since nothing can be written where it runs. The image never changes, so Python
# need not ask whether a .pyc is older than its source.
ENV COMPILE="python -m compileall -q -j 0 --invalidation-mode unchecked-hash"
# pip works on the venv from outside, so that it doesn't end up in the image.
RUN python -m venv --without-pip /venv
# The build backend stays out of the venv as well: it is needed for a moment only.
COPY requirements.txt requirements-build.txt ./
RUN pip --python /venv/bin/python install --require-hashes --only-binary :all: -r requirements.txt \
        --no-cache-dir --no-compile --disable-pip-version-check --root-user-action ignore \
    && $COMPILE /venv/lib \
    && pip install --require-hashes --only-binary :all: -r requirements-build.txt --target /build \
        --no-cache-dir --disable-pip-version-check --root-user-action ignore
WORKDIR /app
COPY pyproject.toml README.md alembic.ini ./
COPY migrations migrations
COPY safely safely
COPY service service
# Editable, because alembic.ini belongs beside the migrations: the code is in the image once, here.
RUN PYTHONPATH=/build pip --python /venv/bin/python install --no-deps --no-build-isolation --editable . \
        --no-cache-dir --disable-pip-version-check --root-user-action ignore \
    && $COMPILE .

# What runs needs Python and its libraries: no shell, no package manager, no tool of Debian's, which
# an intruder would find useful.
FROM python:3.13-slim AS bare
# A fixed number: compose.yaml makes the secrets readable to it.
RUN groupadd --gid 10001 app \
    && useradd --uid 10001 --gid app --no-create-home --home-dir /app app \
    && install -d -o app -g app -m 0700 /tokens
# By Python itself, which outlives the tools. An interpreter may be reached through several links.
RUN python <<EOF
import pathlib
import shutil
import sys
import sysconfig

python = pathlib.Path(sys.executable).resolve()
for directory in ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"):
    for file in pathlib.Path(directory).iterdir():
        if file.resolve() != python:
            file.unlink()
for directory in {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}:
    for package in ("ensurepip", "pip"):
        shutil.rmtree(pathlib.Path(directory, package), ignore_errors=True)
EOF

# From nothing, so that no layer beneath holds what was deleted.
FROM scratch
COPY --from=bare / /
ENV PATH=/venv/bin:/usr/local/bin \
    LANG=C.UTF-8 \
    HOST=0.0.0.0 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app /app
# By number, so that an orchestrator can tell that it isn't root.
USER 10001:10001
EXPOSE 8000
# A list and not a shell's line: the signal to stop reaches the service.
CMD ["python", "-m", "service"]
