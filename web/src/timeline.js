// When each step ran, a lane for each thread, on a canvas. The same steps are in the tree below, for those who can't see it.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { STATES, duration } from "./data.js";
import { Text, html } from "./words.js";

const BAR = 18;
const AXIS = 22;
const FOLDED = 12;
const LEAST = 2; // pixels: narrower bars become one grey band
const STEPS = [0.001, 0.01, 0.1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].flatMap((power) => [power, 2 * power, 5 * power]);
const COLOURS = ["bg", "sunk", "ink", "soft", "line", "fail", "fail-on", "bar", "bar-edge", "bar-ink", "link"];

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// Each thread's rows: how many there are, and the steps in each, in the order of their starts.
function lanesOf(trace) {
  const lanes = trace.all.threads.map((thread) => ({ thread, rows: [], count: 0 }));
  for (let row = 0; row < trace.count; row++) {
    if (trace.start[row] === null) continue;
    const lane = lanes[trace.thread[row]];
    (lane.rows[trace.lane[row]] ??= []).push(row);
    lane.count++;
  }
  for (const lane of lanes) {
    lane.rows = Array.from(lane.rows, (steps) => steps ?? []);
    for (const steps of lane.rows) steps.sort((a, b) => trace.start[a] - trace.start[b]);
  }
  return lanes.filter((lane) => lane.count);
}

export function Timeline({ trace, at, choose }) {
  const lanes = useMemo(() => lanesOf(trace), [trace]);
  const [open, setOpen] = useState(new Set());
  const total = Math.max(trace.end / 1e6, 0.001);
  const [[from, to], setRange] = useState([0, total]);
  const [hovered, setHovered] = useState(-1);
  const [width, setWidth] = useState(800);
  const canvas = useRef(null);
  const box = useRef(null);
  const heights = lanes.map((lane) => (open.has(lane) ? lane.rows.length : Math.min(lane.rows.length, FOLDED)) * BAR + 6);
  const tops = heights.reduce((found, height) => [...found, found[found.length - 1] + height], [AXIS]);
  const height = tops[tops.length - 1];
  const x = (ms) => ((ms - from) / (to - from)) * width;
  const placed = { lanes, tops, open, x, from, to, width, height, total };

  const set = (low, high) => {
    const size = Math.min(high - low, total);
    const start = Math.max(0, Math.min(low, total - size));
    setRange([start, start + size]);
  };
  const zoom = (how, middle = (from + to) / 2) => {
    const size = to - from;
    const factor = how === "in" ? 0.6 : 1 / 0.6;
    if (how === "all") set(0, total);
    else if (how === "failure") {
      const row = trace.all.path.at(-2) ?? trace.all.failed;
      const begun = trace.start[row] / 1e3;
      const took = Math.max(trace.took[row] / 1e6, total / 1e4);
      set(begun - took / 5, begun + took * 1.2);
    } else if (how === "left" || how === "right") set(from + ((how === "left" ? -1 : 1) * size) / 5, to + ((how === "left" ? -1 : 1) * size) / 5);
    else if (how === "out" || size > 0.002) set(middle - (middle - from) * factor, middle + (to - middle) * factor);
  };
  const hasFailure = trace.all.failed >= 0 && trace.start[trace.all.failed] !== null;

  useLayoutEffect(() => draw(canvas.current, trace, placed, at));
  useEffect(() => {
    const measure = new ResizeObserver(([entry]) => setWidth(Math.max(100, Math.round(entry.contentRect.width))));
    measure.observe(canvas.current.parentElement);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const again = () => setRange((range) => [...range]);
    scheme.addEventListener("change", again);
    return () => {
      measure.disconnect();
      scheme.removeEventListener("change", again);
    };
  }, []);
  useEffect(() => {
    // only once focused: a page's own scrolling is never taken away
    const onWheel = (event) => {
      if (document.activeElement !== box.current && !event.ctrlKey) return;
      event.preventDefault();
      const place = canvas.current.getBoundingClientRect();
      zoom(event.deltaY < 0 ? "in" : "out", from + ((event.clientX - place.left) / place.width) * (to - from));
    };
    box.current.addEventListener("wheel", onWheel, { passive: false });
    return () => box.current?.removeEventListener("wheel", onWheel);
  });
  const onKeyDown = (event) => {
    const how = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all", f: hasFailure ? "failure" : undefined }[event.key];
    if (!how || event.ctrlKey || event.metaKey || event.target !== box.current) return;
    event.preventDefault();
    zoom(how);
  };
  const stepAt = (event) => hit(trace, placed, event.offsetX, event.offsetY);
  const described = hovered >= 0 ? hovered : -1;
  const ms = (value) => `${+value.toFixed(3)}`;

  return html`<div class="tools"><h2>Timeline</h2><span class="soft span" role="status">${ms(from)} to ${ms(to)} ms</span>
      <span class="grow"></span><span class="soft hint">click in, then <kbd>wheel</kbd> <kbd>+</kbd> <kbd>−</kbd> zoom · <kbd>←</kbd> <kbd>→</kbd> move · <kbd>0</kbd> all${hasFailure && html` · <kbd>f</kbd> failure`}</span>
      <button type="button" class="btn" aria-label="Zoom out" onClick=${() => zoom("out")}>−</button><button type="button" class="btn" aria-label="Zoom in" onClick=${() => zoom("in")}>+</button>
      ${hasFailure && html`<button type="button" class="btn" onClick=${() => zoom("failure")}>Failure</button>`}<button type="button" class="btn" onClick=${() => zoom("all")}>All</button></div>
    <div class="tl" ref=${box} tabindex="0" role="group" onKeyDown=${onKeyDown}
      aria-label=${`Timeline of ${trace.count} steps in ${lanes.length} threads; the same steps are in the table below`}>
      <div class="labs"><div class="lab ax">thread</div>${lanes.map((lane, number) => html`<div class="lab" style=${{ height: `${heights[number]}px` }}><${Text} of=${lane.thread || "(unknown)"} /> <span class="soft">${lane.count}</span>
        ${lane.rows.length > FOLDED && html`<button type="button" class="link" aria-expanded=${open.has(lane)} onClick=${() => setOpen(new Set(open.has(lane) ? [...open].filter((item) => item !== lane) : [...open, lane]))}>${open.has(lane) ? "fewer" : `${lane.rows.length} rows`}</button>`}</div>`)}</div>
      <div class="lanes"><canvas ref=${canvas} aria-hidden="true" style=${{ height: `${height}px`, width: `${width}px` }}
        onMouseMove=${(event) => setHovered(stepAt(event))} onMouseLeave=${() => setHovered(-1)}
        onClick=${(event) => { const row = stepAt(event); if (row >= 0) choose(row); }}></canvas></div></div>
    <p class="key soft">${described >= 0 ? html`<${Text} of=${`${trace.title(described)} · ${duration(trace.took[described])} · ${STATES[trace.state[described]]}`} />` : html`<span class="sw failed">✗</span> on the failing path <span class="sw handled">✗</span> failed, then handled <span class="sw cancelled"></span> cancelled <span class="sw ok"></span> ok · steps of one thread that overlap stand in rows of their own`}</p>`;
}

function hit(trace, { lanes, tops, open, x }, left, top) {
  const number = tops.findIndex((start, at) => top >= start && top < tops[at + 1]);
  if (number < 0) return -1;
  const steps = lanes[number].rows[Math.floor((top - tops[number] - 3) / BAR)] ?? [];
  if (!open.has(lanes[number]) && top - tops[number] - 3 >= FOLDED * BAR) return -1;
  let found = -1;
  for (const row of steps) {
    const begin = x(trace.start[row] / 1e3);
    const end = Math.max(x(trace.start[row] / 1e3 + trace.took[row] / 1e6), begin + LEAST);
    if (left >= begin - 1 && left <= end + 1) found = row;
  }
  return found;
}

function draw(canvas, trace, placed, at) {
  const { lanes, tops, open, x, width, height } = placed;
  const scale = window.devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  const colour = colours();
  pen.scale(scale, scale);
  pen.font = `11px ${getComputedStyle(document.documentElement).getPropertyValue("--mono")}`;
  pen.textBaseline = "middle";
  pen.fillStyle = colour.bg;
  pen.fillRect(0, 0, width, height);
  const failed = trace.all.failed >= 0 && trace.start[trace.all.failed] !== null ? trace.all.failed : -1;
  axis(pen, placed, colour, failed < 0 ? [Infinity, -Infinity] : flagText(pen, trace, failed, placed).span);
  lanes.forEach((lane, number) => {
    pen.fillStyle = colour.line;
    pen.fillRect(0, tops[number], width, 1);
    const rows = open.has(lane) ? lane.rows : lane.rows.slice(0, FOLDED);
    rows.forEach((steps, row) => bars(pen, trace, steps, tops[number] + 3 + row * BAR, placed, colour, at));
  });
  if (failed >= 0) flag(pen, trace, failed, placed, colour);
}

function axis(pen, { x, from, to, width }, colour, taken) {
  pen.fillStyle = colour.sunk;
  pen.fillRect(0, 0, width, AXIS);
  const step = STEPS.find((size) => (to - from) / size <= width / 84) ?? STEPS.at(-1);
  for (let ms = Math.ceil(from / step) * step; ms <= to; ms += step) {
    pen.fillStyle = colour.line;
    pen.fillRect(x(ms), AXIS - 6, 1, 6);
    pen.fillStyle = colour.soft;
    const left = x(ms) + 4;
    if (left < width - 40 && (left + 60 < taken[0] || left > taken[1])) pen.fillText(`${+ms.toFixed(3)} ms`, x(ms) + 4, AXIS / 2);
  }
}

// The words at the line of the failure, and where they stand: left of it where there is room.
function flagText(pen, trace, row, { x, width }) {
  const ms = (trace.start[row] + trace.took[row] / 1e3) / 1e3;
  const left = x(ms);
  const text = `✗ failed ${+ms.toFixed(1)}`;
  const size = pen.measureText(text).width;
  const place = left > size + 10 ? left - size - 6 : left + 6;
  return { left, text, place, span: left < 0 || left > width + 1 ? [Infinity, -Infinity] : [place - 4, place + size + 4] };
}

function flag(pen, trace, row, placed, colour) {
  const { width, height } = placed;
  const { left, text, place, span } = flagText(pen, trace, row, placed);
  if (left < 0 || left > width + 1) return;
  pen.strokeStyle = pen.fillStyle = colour.fail;
  pen.setLineDash([2, 3]);
  pen.beginPath();
  pen.moveTo(left, AXIS);
  pen.lineTo(left, height);
  pen.stroke();
  pen.setLineDash([]);
  pen.fillStyle = colour.sunk;
  pen.fillRect(span[0], 1, span[1] - span[0], AXIS - 2);
  pen.fillStyle = colour.fail;
  pen.fillText(text, place, AXIS / 2);
}

function bars(pen, trace, steps, top, { x, width }, colour, at) {
  let bandFrom = -1;
  let bandTo = -1;
  const band = () => {
    if (bandTo <= bandFrom) return;
    pen.fillStyle = colour["bar-edge"];
    pen.fillRect(bandFrom, top, Math.max(bandTo - bandFrom, 1), BAR - 4);
  };
  const last = [];
  for (const row of steps) {
    const begin = x(trace.start[row] / 1e3);
    const end = x(trace.start[row] / 1e3 + trace.took[row] / 1e6);
    if (end < 0 || begin > width) continue;
    if (trace.pathRows.has(row) || row === at || trace.state[row] === 2) last.push([row, begin, end]);
    else if (end - begin < LEAST) {
      if (begin > bandTo + 1) {
        band();
        bandFrom = begin;
      }
      bandTo = Math.max(bandTo, end, begin + 1);
    } else bar(pen, trace, row, begin, end, top, colour, at, width);
  }
  band();
  for (const [row, begin, end] of last) bar(pen, trace, row, begin, Math.max(end, begin + LEAST), top, colour, at, width);
}

function bar(pen, trace, row, begin, end, top, colour, at, width) {
  const state = STATES[trace.state[row]];
  const left = Math.max(begin, -4);
  const size = Math.min(end, width + 4) - left;
  const failed = state === "failed";
  pen.fillStyle = failed ? colour.fail : state === "ok" ? colour.bar : colour.bg;
  pen.strokeStyle = failed || state === "handled" ? colour.fail : colour["bar-edge"];
  if (row === at) pen.strokeStyle = colour.link;
  pen.lineWidth = row === at ? 3 : state === "handled" ? 2 : 1;
  pen.setLineDash(state === "cancelled" || state === "running" ? [3, 2] : []);
  pen.fillRect(left, top, size, BAR - 4);
  if (state === "cancelled") hatch(pen, left, top, size, colour);
  if (size > 3 || row === at) pen.strokeRect(left + 0.5, top + 0.5, Math.max(size - 1, 1), BAR - 5);
  pen.setLineDash([]);
  const place = Math.max(begin, 0) + 5;
  const room = Math.floor((Math.min(end, width) - place - 3) / 6.7);
  const label = (failed || state === "handled" ? "✗ " : "") + trace.name(row)[1];
  const text = label.length <= room ? label : room > 3 ? `${label.slice(0, room - 1)}…` : "";
  pen.fillStyle = failed ? colour["fail-on"] : state === "ok" ? colour["bar-ink"] : colour.ink;
  if (text) pen.fillText(text, place, top + (BAR - 4) / 2 + 0.5);
}

function hatch(pen, left, top, size, colour) {
  pen.save();
  pen.beginPath();
  pen.rect(left, top, size, BAR - 4);
  pen.clip();
  pen.strokeStyle = colour["bar-edge"];
  pen.setLineDash([]);
  pen.lineWidth = 1;
  for (let at = left - BAR; at < left + size; at += 6) {
    pen.beginPath();
    pen.moveTo(at, top + BAR);
    pen.lineTo(at + BAR, top);
    pen.stroke();
  }
  pen.restore();
}
