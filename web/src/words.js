// Values and texts as elements. Every text came through the one escaper of flowtrace; its escapes get a box.
import { h } from "preact";
import { useState } from "preact/hooks";
import htm from "htm";

export const html = htm.bind(h);
const ESCAPES = /((?:^|[^\\])(?:\\\\)*)(\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))/g;
const LONG = 120;

export function Text({ of }) {
  const parts = of.split(ESCAPES);
  return parts.length === 1 ? of : parts.map((part, at) => (at % 3 === 2 ? html`<span class="ctl">${part}</span>` : part));
}

export const Icon = ({ state }) => html`<svg class=${"ico " + state} aria-hidden="true"><use href=${"#i-" + state} /></svg>`;

export const Node = ({ name }) =>
  html`<span class="node"><span class="comp"><${Text} of=${name[0]} /></span><span class="op"><${Text} of=${name[1]} /></span></span>`;

const BARE = ["int", "float", "bytes", "complex", "range", "type", "function", "module", "ellipsis"];
const plain = (name) => name === "list" || name === "dict";

// A tree on one line, as the Python side has it in `in_words`.
export function line(tree, room = 80) {
  const text = words(tree, room);
  return text.length <= room ? text : text.slice(0, room - 1) + "…";
}

function words(tree, room) {
  if (tree === null) return "None";
  if (typeof tree === "boolean") return tree ? "True" : "False";
  if (!Array.isArray(tree)) return String(tree);
  const [kind, name, parts, more] = tree;
  if (kind === "v") return BARE.includes(name) || parts.startsWith(`${name}.`) ? parts : /^['"]/.test(parts) ? `${name}(${parts})` : `${name}('${parts}')`;
  if (kind === "h") return `<${parts}>`;
  if (kind === "t") return `<${name}>`;
  const found = [];
  let left = room;
  for (let at = 0; at < parts.length && left > 0; at += kind === "m" ? 2 : 1) {
    const inner = kind === "m" ? parts[at] + (plain(name) ? ": " : "=") + words(parts[at + 1], left) : words(parts[at], left);
    found.push(inner);
    left -= inner.length + 2;
  }
  if (more) found.push(`… ${more} more`);
  const [open, close] = name === "list" ? "[]" : plain(name) ? "{}" : [`${name}(`, ")"];
  return open + found.join(", ") + close;
}

// The values at some places in a step's input, for its row; a place is the names that lead to it.
export function leaves(tree, places) {
  const found = places.map((place) => {
    let part = tree;
    for (const name of place) {
      const at = Array.isArray(part) && part[0] === "m" ? part[2].findIndex((item, index) => index % 2 === 0 && item === name) : -1;
      if (at < 0) return "";
      part = part[2][at + 1];
    }
    if (typeof part === "string") return part.replace(/^(['"])(.*)\1$/, "$2");
    return Array.isArray(part) ? (part[0] === "v" ? part[2] : "") : typeof part === "number" ? String(part) : "";
  });
  return found.filter(Boolean).join("  ").slice(0, 80);
}

function Leaf({ tree }) {
  const [open, setOpen] = useState(false);
  if (tree === null) return html`<span class="a none">None</span>`;
  if (Array.isArray(tree) && tree[0] === "h") return html`<span class=${"a hidden " + tree[1]}><${Text} of=${tree[2]} /></span>`;
  const text = Array.isArray(tree) ? tree[2] : words(tree);
  const kind = typeof tree === "string" ? "text" : "value";
  if (text.length <= LONG || open) return html`<span class=${"a " + kind}><${Text} of=${text} /></span>`;
  return html`<span class=${"a " + kind}><${Text} of=${text.slice(0, LONG)} />…</span>${" "}
    <button type="button" class="link" onClick=${() => setOpen(true)}>${text.length.toLocaleString("en")} characters</button>`;
}

function Rows({ columns, rows }) {
  const cell = (text) => html`<td><${Text} of=${text} /></td>`;
  return html`<table class="rows">${columns && html`<thead><tr>${columns.map((name) => html`<th scope="col"><${Text} of=${name} /></th>`)}</tr></thead>`}
    <tbody>${rows.map((row) => html`<tr>${row.map(cell)}</tr>`)}</tbody></table>`;
}

const typeOf = (tree) => (tree === null || (Array.isArray(tree) && tree[0] === "h") ? "" : Array.isArray(tree) ? tree[1] : typeof tree === "string" ? "str" : typeof tree === "boolean" ? "bool" : "int");

export function Value({ name, tree, depth = 0 }) {
  const inner = Array.isArray(tree) && (tree[0] === "m" || tree[0] === "l" || tree[0] === "t");
  const size = inner && tree[0] !== "t" ? tree[2].length : 0;
  const [open, setOpen] = useState(inner && depth < 2 && size <= 24);
  const label = name === undefined ? null : html`<span class="key"><${Text} of=${name} /></span>`;
  if (!inner || (size === 0 && tree[0] !== "t"))
    return html`<li>${label}<span class="ty"><${Text} of=${inner ? "" : typeOf(tree)} /></span><span class="val">${inner ? words(tree) : html`<${Leaf} tree=${tree} />`}</span></li>`;
  return html`<li><details open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>${label}<span class="ty"><${Text} of=${tree[1]} /></span>${!open && tree[0] !== "t" && html`<span class="val soft"><${Text} of=${line(tree)} /></span>`}</summary>
    ${open && html`<${Inner} tree=${tree} depth=${depth + 1} />`}</details></li>`;
}

function Inner({ tree: [kind, , parts, more], depth }) {
  if (kind === "t") return html`<${Rows} columns=${parts} rows=${more} />`;
  const items = [];
  if (kind === "l") parts.forEach((part, at) => items.push([String(at), part]));
  else for (let at = 0; at < parts.length; at += 2) items.push([parts[at], parts[at + 1]]);
  return html`<ul class="vt">${items.map(([name, part]) => html`<${Value} name=${name} tree=${part} depth=${depth} />`)}
    ${more ? html`<li class="soft">… ${more} more in the trace</li>` : null}</ul>`;
}

// A whole input, output: its members stand at the margin.
export function Tree({ tree, bare = false }) {
  if (!Array.isArray(tree) || tree[0] !== "m") return html`<ul class="vt"><${Value} tree=${tree} /></ul>`;
  const items = [];
  for (let at = 0; at < tree[2].length; at += 2) items.push([bare ? tree[2][at].slice(1, -1) : tree[2][at], tree[2][at + 1]]);
  return html`${!bare && html`<p class="soft m">${tree[1]}</p>`}<ul class="vt">${items.map(([name, part]) => html`<${Value} name=${name} tree=${part} />`)}
    ${tree[3] ? html`<li class="soft">… ${tree[3]} more in the trace</li>` : null}</ul>`;
}
