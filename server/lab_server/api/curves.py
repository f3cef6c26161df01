"""The curves of a chart in a binary answer: what JSON would make long, and has no NaN for."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from lab_core.errors import Violation
from lab_server.api.gate import Gate
from lab_server.api.parameters import Parameter, read_parameters
from lab_server.api.routes import Route
from lab_server.errors import InvalidRequest
from lab_server.rpc.curves import Curves
from lab_server.watch.curves import AXES, COLUMNS, Chart, CurveQuery

ROUTE: Final = Route(
    "GET", "/api/v1/curves", "QueryMetrics", "Metrics of runs over one x, in common buckets."
)
MAGIC: Final = b"LABC"
_EDGE: Final = 1e18

PARAMETERS: Final = {
    "runs": Parameter(
        "list", "The runs, by their ids or prefixes of them.", low=1, high=100, default=()
    ),
    "metrics": Parameter(
        "list", "Names of metrics, with * and ? as wildcards.", low=1, high=50, default=()
    ),
    "x": Parameter(
        "text",
        "The x axis: steps, epochs, seconds since the run's start, or Unix seconds.",
        default="step",
        choices=AXES,
    ),
    "buckets": Parameter("int", "The largest number of x.", default=600, low=10, high=4000),
    "min": Parameter("float", "Where x begins.", default=math.nan, low=-_EDGE, high=_EDGE),
    "max": Parameter("float", "Where x ends.", default=math.nan, low=-_EDGE, high=_EDGE),
    "columns": Parameter(
        "list",
        "Which columns each curve has; all, unless some are named. A smoothed one has its own, too.",
        default=(),
        low=0,
        high=len(COLUMNS),
        choices=COLUMNS,
    ),
    "smoothing": Parameter(
        "float",
        "The window of an exponential mean, in steps; 0 for none.",
        default=0.0,
        low=0,
        high=1e9,
    ),
}


class CurvesEndpoint:
    """Serves `/curves`."""

    def __init__(self, gate: Gate, curves: Curves) -> None:
        self._gate = gate
        self._curves = curves

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer with the curves; see `encode`."""
        self._gate.admit(request, ROUTE.method)
        wanted = read_parameters(request, PARAMETERS)
        if wanted["min"] >= wanted["max"]:
            raise InvalidRequest([Violation("max", "max must be more than min")])
        chart = await self._curves.query(
            wanted["runs"],
            CurveQuery(
                names=wanted["metrics"],
                axis=wanted["x"],
                num_buckets=wanted["buckets"],
                low=wanted["min"],
                high=wanted["max"],
                smoothing=wanted["smoothing"],
                columns=wanted["columns"] or COLUMNS,
            ),
        )
        return web.Response(
            body=encode(chart),
            content_type="application/octet-stream",
            headers={"Cache-Control": "no-store"},
        )


def encode(chart: Chart) -> bytes:
    """Return a chart as bytes.

    "LABC", the length of the header as uint32, the header as JSON, spaces up to a multiple of eight
    bytes; then float64 columns, each as long as x: x, and for each curve the columns that the header
    names, in its order. All little endian; NaN where a curve has no finite value.
    """
    names: Sequence[str] = list(chart.curves[0].bucketed.columns) if chart.curves else []
    header: dict[str, Any] = {
        "num_x": len(chart.x),
        "columns": names,
        "curves": [
            {
                "run": curve.run_id,
                "metric": curve.metric,
                "num_not_finite": curve.bucketed.num_not_finite,
            }
            for curve in chart.curves
        ],
        "num_left_out": chart.num_left_out,
        "without_axis": list(chart.without_axis),
    }
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % 8)
    columns = [chart.x] + [curve.bucketed.columns[name] for curve in chart.curves for name in names]
    data = [column.astype("<f8").tobytes() for column in columns]
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, *data])
