// @ts-check
// The binary answer of /api/v1/curves; see its description in /api/v1/openapi.json.

/** @typedef {{run: string, metric: string, num_not_finite: number, columns: Record<string, Float64Array>}} Curve */
/** @typedef {{x: Float64Array, curves: Curve[], numLeftOut: number, withoutAxis: string[]}} Chart */

/**
 * @param {ArrayBuffer} data
 * @returns {Chart}
 */
export function decode(data) {
  const length = new DataView(data).getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 8, length)));
  let offset = 8 + length;
  const next = () => {
    const column = new Float64Array(data, offset, header.num_x);
    offset += 8 * header.num_x;
    return column;
  };
  const x = next();
  const curves = header.curves.map((/** @type {any} */ curve) => ({
    ...curve, columns: Object.fromEntries(header.columns.map((/** @type {string} */ name) => [name, next()])),
  }));
  return { x, curves, numLeftOut: header.num_left_out, withoutAxis: header.without_axis };
}

/**
 * @param {{runs: string[], metrics: string[], x: string, buckets: number, smoothing: number, columns: string[], min?: number,
 *   max?: number}} wanted
 * @returns {Promise<Chart>}
 */
export async function fetchCurves(wanted) {
  const query = new URLSearchParams();
  for (const run of wanted.runs) query.append("runs", run);
  for (const metric of wanted.metrics) query.append("metrics", metric);
  for (const column of wanted.columns) query.append("columns", column);
  query.set("x", wanted.x);
  query.set("buckets", String(wanted.buckets));
  if (wanted.smoothing) query.set("smoothing", String(wanted.smoothing));
  if (wanted.min !== undefined && wanted.max !== undefined) {
    query.set("min", String(wanted.min));
    query.set("max", String(wanted.max));
  }
  const answer = await fetch(`/api/v1/curves?${query}`);
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return decode(await answer.arrayBuffer());
}
