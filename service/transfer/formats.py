"""Which format has which reader."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from service.transfer.csv import CsvReader
from service.transfer.ndjson import NdjsonReader

Format = Literal["ndjson", "csv"]
Reader = NdjsonReader | CsvReader

MEDIA_TYPES: Mapping[str, type[NdjsonReader | CsvReader]] = MappingProxyType(
    {
        "application/x-ndjson": NdjsonReader,
        "application/ndjson": NdjsonReader,
        "application/jsonl": NdjsonReader,
        "text/csv": CsvReader,
    }
)
