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
