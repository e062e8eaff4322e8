// The steps as a tree: search, filters, folding, and the chosen step in a panel beside it.
import { useMemo, useState } from "preact/hooks";
import { STATES, duration, milliseconds } from "./data.js";
import { Grid } from "./list.js";
import { Panel } from "./panel.js";
import { Icon, Node, Text, html, leaves } from "./words.js";

const PRINTED = 2000;
const CHIPS = {
  all: ["All", () => true],
  errors: ["Errors", (trace, row) => trace.error(row) !== null],
  slow: ["Slow", (trace, row) => trace.end > 0 && trace.took[row] >= trace.slowFrom],
  issues: ["Issues", (trace, row) => trace.has(row, "issues")],
  redacted: ["Redacted", (trace, row) => trace.has(row, "redacted")],
  opaque: ["Opaque", (trace, row) => trace.has(row, "opaque")],
  cut: ["Cut", (trace, row) => trace.has(row, "cut")],
};

// The rows that are shown, in order: [row, whether it matched, position and number among its siblings].
function visible(trace, folded, matches) {
  const kept = new Set();
  if (matches)
    for (const row of matches) for (let up = row; up >= 0 && !kept.has(up); up = trace.parent[up]) kept.add(up);
  const found = [];
  const add = (siblings) => {
    const mine = matches ? siblings.filter((row) => kept.has(row)) : siblings;
    return mine.map((row, at) => [row, !matches || matches.has(row), at + 1, mine.length]).reverse();
  };
  const waiting = add(trace.roots);
  while (waiting.length) {
    const item = waiting.pop();
    found.push(item);
    if (matches || !folded.has(item[0])) waiting.push(...add(trace.children[item[0]]));
  }
  return found;
}

const TAGS = ["redacted", "opaque", "cut"];

function cells(trace, [row, matched], inner, open) {
  const [component, operation] = trace.name(row);
  const input = leaves(trace.value(row, 0), trace.all.telling[trace.node[row]]);
  const error = trace.error(row);
  const state = STATES[trace.state[row]];
  return html`<div role="gridcell" class="no">${trace.number[row] < 0 ? "" : trace.number[row]}</div>
    <div role="gridcell" class=${"nm l" + Math.min(trace.depth[row], 12)}><span class="tw" aria-hidden="true">${inner ? (open ? "▾" : "▸") : ""}</span>
      <${Icon} state=${state} /><span class="vh">${state} </span><${Node} name=${[component, operation]} />
      ${input && html`<span class="arg"><${Text} of=${input} /></span>`}
      ${trace.has(row, "here") && html`<span class="here">◀ failed here</span>`}
      ${error && !trace.has(row, "here") && html`<span class="arg">${error[1]}</span>`}
      ${trace.has(row, "lostParent") && html`<span class="arg">(its caller is not in the trace)</span>`}</div>
    <div role="gridcell" class="fl">${trace.has(row, "issues") && html`<${Icon} state="issue" /><span class="vh">validation issues </span>`}
      ${TAGS.filter((tag) => trace.has(row, tag)).map((tag) => html`<span class=${"tag " + tag}>${tag}</span>`)}</div>
    <div role="gridcell" class="at num">${milliseconds(trace.start[row])}</div>
    <div role="gridcell" class="num">${duration(trace.took[row])}</div>`;
}

export function Steps({ trace, name, leftOut, at, choose, prints }) {
  const [search, setSearch] = useState("");
  const [component, setComponent] = useState("");
  const [chip, setChip] = useState("all");
  const [folded, setFolded] = useState(new Set());
  const counts = useMemo(() => {
    const found = {};
    for (const [key, [, test]] of Object.entries(CHIPS)) {
      found[key] = 0;
      for (let row = 0; row < trace.count; row++) found[key] += test(trace, row);
    }
    return found;
  }, [trace]);
  const matches = useMemo(() => {
    const wanted = search.trim().toLowerCase();
    if (!wanted && !component && chip === "all") return null;
    const found = new Set();
    for (let row = 0; row < trace.count; row++)
      if (CHIPS[chip][1](trace, row) && (!component || String(trace.all.nodes[trace.node[row]][0]) === component) && (!wanted || trace.text(row).includes(wanted))) found.add(row);
    return found;
  }, [trace, search, component, chip]);
  const shown = useMemo(() => visible(trace, folded, matches), [trace, folded, matches]);
  const places = useMemo(() => new Map(shown.map(([row], index) => [row, index])), [shown]);
  const index = places.get(at) ?? -1;
  const fold = (row, close) => {
    const next = new Set(folded);
    if (close) next.add(row);
    else next.delete(row);
    setFolded(next);
  };
  const keys = (event) => {
    const inner = trace.children[at]?.length > 0 && !matches;
    if (event.key === "ArrowLeft") {
      if (inner && !folded.has(at)) fold(at, true);
      else if (trace.parent[at] >= 0) choose(trace.parent[at]);
      return true;
    }
    if (event.key === "ArrowRight") {
      if (inner && folded.has(at)) fold(at, false);
      else if (trace.children[at]?.length) choose(trace.children[at][0]);
      return true;
    }
    if (event.key === "f" && trace.all.failed >= 0) choose(trace.all.failed);
    if (event.key === "Enter") document.getElementById("panel")?.focus();
    if (event.key === "/") document.getElementById("search")?.focus();
    return ["f", "Enter", "/"].includes(event.key);
  };
  const row = (place) => {
    const [step, matched, position, size] = shown[place];
    const inner = trace.children[step].length > 0;
    const open = inner && (matches !== null || !folded.has(step));
    const props = {
      "aria-level": trace.depth[step] + 1,
      "aria-posinset": position,
      "aria-setsize": size,
      "aria-expanded": inner ? open : undefined,
      class: (trace.pathRows.has(step) ? "onp " : "") + (matched ? "" : "above"),
      onDblClick: () => inner && fold(step, open),
    };
    return { props, cells: cells(trace, shown[place], inner, open) };
  };
  const matched = matches ? matches.size : trace.count;
  const dropped = trace.all.dropped;
  const go = (by) => index + by >= 0 && index + by < shown.length && choose(shown[index + by][0]);
  const head = html`<div role="columnheader" class="no">#</div><div role="columnheader" class="nm">step</div><div role="columnheader" class="fl">notes</div>
    <div role="columnheader" class="at num">start, ms</div><div role="columnheader" class="num">took</div>`;
  return html`<div class="tools"><h2>Steps</h2>
      <input class="search" id="search" type="search" placeholder="Search names, values, errors" aria-label="Search the steps" value=${search} onInput=${(event) => setSearch(event.currentTarget.value)} />
      <select class="search" aria-label="Component" value=${component} onChange=${(event) => setComponent(event.currentTarget.value)}>
        <option value="">every component</option>${trace.all.components.map((text, at) => html`<option value=${String(at)}>${text || "(none)"}</option>`)}</select>
      <div class="chips" role="group" aria-label="Filters">${Object.entries(CHIPS).map(([key, [text]]) => html`<button type="button" class="chip" aria-pressed=${chip === key}
        disabled=${!counts[key] && key !== "all"} onClick=${() => setChip(key)}>${key === "slow" && counts.slow ? `Slow, over ${duration(trace.slowFrom)}` : text} <span class="ct">${counts[key]}</span></button>`)}</div>
      <span class="grow"></span><span class="soft" role="status">${matched.toLocaleString("en")} of ${trace.count.toLocaleString("en")} shown${dropped ? `, ${dropped.toLocaleString("en")} dropped` : ""}${leftOut ? `; values of ${leftOut} left out` : ""}</span></div>
    <div class="cols"><div class="tree">
      ${dropped > 0 && html`<p class="gone">⋯ ${dropped.toLocaleString("en")} earlier steps not kept (FLOWTRACE_BUFFER_SIZE)</p>`}
      <${Grid} label="Steps" id="step" columns="steps" count=${shown.length} at=${index} choose=${(place) => shown[place] && choose(shown[place][0])} row=${row} head=${head} keys=${keys} prints=${prints && PRINTED} />
      ${prints && shown.length > PRINTED && html`<p class="gone">⋯ ${shown.length - PRINTED} more steps are not printed</p>`}
      ${!shown.length && html`<p class="gone">No step matches.</p>`}</div>
    <${Panel} trace=${trace} name=${name} row=${at} choose=${choose} go=${go} /></div>`;
}

