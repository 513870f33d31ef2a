"""Logs tell what happened, not to whom."""

import json
import logging

import pytest

from service.logs import logging_config
from service.settings import Settings


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_is_logged_without_the_variables_of_its_frames(log_format: str) -> None:
    config = logging_config(Settings(log_format=log_format))  # type: ignore[arg-type]  # both are its values
    logger = logging.getLogger("a test of logs")
    settings = config["formatters"]["structured"]
    formatter = settings.pop("()")(**settings)
    password = "hunter2"  # noqa: S105  # what must not be logged
    try:
        [][len(password)]
    except IndexError as error:
        record = logger.makeRecord(
            logger.name, logging.ERROR, __file__, 1, "it failed", (),
            (type(error), error, error.__traceback__),
        )  # fmt: skip
    line = formatter.format(record)
    assert "it failed" in line
    assert "IndexError: list index out of range" in line
    assert password not in line.replace('password = "hunter2"', "")
    if log_format == "json":
        assert json.loads(line)["level"] == "error"
