"""The formats of imports and exports, and the reader of each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from service.transfer.csv import CsvReader
from service.transfer.ndjson import NdjsonReader

Format = Literal["ndjson", "csv"]
Reader = NdjsonReader | CsvReader

READERS: Mapping[str, type[Reader]] = MappingProxyType({"csv": CsvReader, "ndjson": NdjsonReader})
MEDIA_TYPES: Mapping[str, Format] = MappingProxyType(  # that an import may have
    {
        "application/x-ndjson": "ndjson",
        "application/ndjson": "ndjson",
        "application/jsonl": "ndjson",
        "text/csv": "csv",
    }
)


def reader_of(form: Format, parameters: Mapping[str, str]) -> Reader:
    """Return the reader of a file, given the parameters of its media type, in lower case.

    Raise ValueError, with what to do, for a file that can't be read.
    """
    charset = parameters.get("charset")
    if form == "ndjson":
        if charset not in {None, "utf-8", "utf8"}:
            raise ValueError("send NDJSON in UTF-8: charset=utf-8, or none")
        return NdjsonReader()
    if parameters.get("header", "present") != "present":  # RFC 7111
        raise ValueError("send CSV whose first line has the names of the columns: header=present")
    return CsvReader(charset)
