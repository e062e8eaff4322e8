// Both trees of a comparison in one: what differs with what it stands in, or every step.
import { useState } from "preact/hooks";
import { STATES, duration } from "./data.js";
import { Grid } from "./list.js";
import { Icon, Node, Text, html } from "./words.js";

const PRINTED = 2000;
const SIGNS = { "step missing": ["−", "only in A"], "step added": ["+", "only in B"] };

function Side({ of, letter }) {
  if (!of) return html`<div role="gridcell" class="s gone"><span class="long">not in ${letter}</span></div>`;
  const [number, state, took] = of;
  return html`<div role="gridcell" class="s"><span class="long">${number < 0 ? "in flight" : `#${number}`} </span><${Icon} state=${STATES[state]} /><span class="vh">${STATES[state]}</span><span class="long num">${duration(took)}</span></div>`;
}

function cells(data, item) {
  if (Array.isArray(item)) {
    const [depth, lost, text] = item;
    return html`<div role="gridcell" class=${"nm soft l" + Math.min(depth, 12)} aria-colspan="4"><span class="sign">${lost ? "?" : "="}</span> ${lost ? "no counterpart kept: " : "same: "}<${Text} of=${text} /></div>`;
  }
  const kind = data.kinds[data.kind[item]] ?? "";
  const [sign, text] = SIGNS[kind] ?? (kind ? ["≠", kind] : data.kind[item] === -2 ? ["?", "counterpart not kept"] : ["=", ""]);
  return html`<div role="gridcell" class=${"nm l" + Math.min(data.depth[item], 12)}><${Node} name=${data.nodes[data.node[item]]} />${data.arguments[item] && html`<span class="arg"><${Text} of=${data.arguments[item]} /></span>`}</div>
    <${Side} of=${data.a[item]} letter="A" /><${Side} of=${data.b[item]} letter="B" />
    <div role="gridcell" class="kd"><span class="sign">${sign}</span> <span class="long">${text}</span>${item === data.first && html`<span class="here">◀ first</span>`}</div>`;
}

export function BothTrees({ data, names, unmarked, prints }) {
  const every = Array.from({ length: data.rows }, (_, row) => row);
  const differing = data.kind.filter((kind) => kind >= 0).length;
  const [whole, setWhole] = useState(differing === 0);
  const items = whole ? every : data.changed;
  const [chosen, setChosen] = useState(data.first);
  const at = items.indexOf(chosen);
  const row = (index) => {
    const item = items[index];
    const fold = Array.isArray(item);
    const kind = fold ? -1 : data.kind[item];
    return {
      props: { "aria-level": (fold ? item[0] : data.depth[item]) + 1, class: fold ? "fold" : item === data.first ? "firstd chg" : kind >= 0 ? "chg" : "same" },
      cells: cells(data, item),
    };
  };
  const head = html`<div role="columnheader" class="nm">step</div><div role="columnheader"><span class="ab A">A</span><span class="long"> <${Text} of=${names[0]} /></span></div>
    <div role="columnheader"><span class="ab B">B</span><span class="long"> <${Text} of=${names[1]} /></span></div><div role="columnheader"><span class="long">difference</span></div>`;
  const chip = (wanted, text, count) => html`<button type="button" class="chip" aria-pressed=${whole === wanted} onClick=${() => setWhole(wanted)}>${text} <span class="ct">${count}</span></button>`;
  return html`<div class="tools"><h2>Both trees, aligned</h2><div class="chips" role="group" aria-label="Rows">${chip(false, "Changed, and what they stand in", differing)}${chip(true, "Every step", data.rows)}</div>
      <span class="grow"></span><span class="soft" role="status">order of concurrent steps, times, hosts and line numbers are no differences${unmarked ? `; ${unmarked} more differ and are not marked` : ""}</span></div>
    <div class="tree"><${Grid} key=${whole} label="Both trees" id="pair" columns="pairs" count=${items.length} at=${at} choose=${(index) => setChosen(items[index])} row=${row} head=${head} prints=${prints && PRINTED} />
      ${!items.length && html`<p class="gone">No step differs.</p>`}</div>
    <p class="key soft"><span class="sign">≠</span> differs <span class="sign">+</span> only in B <span class="sign">−</span> only in A <span class="sign">=</span> same <span class="sign">?</span> the counterpart had rolled out of the buffer: not a difference</p>`;
}
