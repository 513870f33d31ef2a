"""All faults by their keys, in the order of the table."""

from tests.chaos import (
    client_faults,
    database_faults,
    disk_faults,
    migration_faults,
    network_faults,
    no_faults,
    service_faults,
)
from tests.chaos.run import Fault

MODULES = (
    no_faults,
    database_faults,
    network_faults,
    disk_faults,
    service_faults,
    client_faults,
    migration_faults,
)
ALL: dict[str, Fault] = {
    fault.key: fault
    for module in MODULES
    for fault in vars(module).values()
    if isinstance(fault, Fault)
}
