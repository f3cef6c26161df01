"""The language in which people look for runs: `learning_rate < 0.1 and state = completed`.

Text becomes a `Condition` of typed comparisons, which a store answers; nothing is evaluated as code.
"""

from lab_rpc.run_names import CREATE_TIME, Kind, Name, Part, parse_name
from lab_server.where.condition import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Not,
    names_in,
    unknown_names,
)
from lab_server.where.parser import parse

__all__ = [
    "CREATE_TIME",
    "AllOf",
    "AnyOf",
    "Compare",
    "Condition",
    "Kind",
    "Name",
    "Not",
    "Part",
    "names_in",
    "parse",
    "parse_name",
    "unknown_names",
]
