// One step, with all that the page knows of it.
import { STATES, duration, milliseconds } from "./data.js";
import { Icon, Node, Text, Tree, html } from "./words.js";

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

function whyNot(trace, row) {
  if (trace.number[row] < 0) return "it had not ended";
  if (!trace.has(row, "captured")) return "its input was not captured";
  const parts = (trace.more(row).left_out ?? []).filter(([, path]) => path.startsWith("/invocation_json/payload"));
  const known = parts.find(([kind]) => kind === "redacted") ?? parts.find(([kind]) => kind === "cut") ?? parts[0];
  if (known) return { redacted: "part of its input is redacted", opaque: "part of its input could not be recorded", cut: "part of its input was left out" }[known[0]];
  return "";
}

export const Command = ({ text, id }) =>
  html`<div class="cmd"><code id=${id} tabindex="0"><${Text} of=${text} /></code><button type="button" data-copy=${id}>Copy</button></div>`;

const Section = ({ title, note, children }) => html`<section><div class="head"><h3>${title}</h3>${note && html`<span class="soft m">${note}</span>`}</div>${children}</section>`;

function Failure({ error, more }) {
  const [code, kind, message] = error;
  return html`<${Section} title="Error" note=${code}>
    <p class="err">${kind && html`<b><${Text} of=${kind} /></b>: `}<${Text} of=${more.message ?? message} /></p>
    ${more.chain && html`<ol class="chain">${more.chain.map((text) => html`<li><${Text} of=${text} /></li>`)}</ol>`}
    ${(more.notes ?? []).map((text) => html`<p class="soft">note: <${Text} of=${text} /></p>`)}
    ${more.frames && html`<ol class="stack">${more.frames.toReversed().map(([text, library]) => html`<li class=${library ? "lib" : ""}><${Text} of=${text} /></li>`)}</ol>`}<//>`;
}

function Side({ trace, row, side, title, absent }) {
  const tree = trace.value(row, side);
  const digits = trace.hash(side, row);
  return html`<${Section} title=${title} note=${digits && `blake3 ${digits}`}>
    ${tree === undefined ? html`<p class="soft">${digits ? "not in this page: the trace has its hash, and its value if it was captured" : absent}</p>` : html`<${Tree} tree=${tree} bare=${side === 0} />`}<//>`;
}

const Facts = ({ of }) => html`<dl>${of.filter(([, text]) => text).map(([label, text]) => html`<dt>${label}</dt><dd>${typeof text === "string" ? html`<${Text} of=${text} />` : text}</dd>`)}</dl>`;

export function Panel({ trace, name, row, choose, go }) {
  if (row < 0 || row >= trace.count) return html`<aside class="panel" id="panel" aria-label="Step"><article><p class="soft">Choose a step.</p></article></aside>`;
  const error = trace.error(row);
  const state = STATES[trace.state[row]];
  const more = trace.more(row);
  const issues = trace.issues(row);
  const [where, qualname, digits] = trace.all.codes[trace.code[row]] ?? ["", "", ""];
  const why = whyNot(trace, row);
  const above = trace.parent[row];
  const delta = trace.hash(2, row);
  const begun = trace.start[row] === null ? "" : ` · started at ${milliseconds(trace.start[row])} ms`;
  return html`<aside class="panel" id="panel" tabindex="-1" aria-label="Step"><article key=${row}>
    <div class="tools"><h2><${Icon} state=${state} /> <${Node} name=${trace.name(row)} /></h2><span class="prevnext">
      <button type="button" class="btn" aria-label="Step before" onClick=${() => go(-1)}>↑</button><button type="button" class="btn" aria-label="Next step" onClick=${() => go(1)}>↓</button></span>
      <p class="sub">${trace.number[row] < 0 ? "in flight" : `#${trace.number[row]}`} · ${state}${begun} · took ${duration(trace.took[row])}</p></div>
    ${error && html`<${Failure} error=${error} more=${more} />`}
    ${issues.length > 0 && html`<${Section} title="Validation issues"><ul class="issues">${issues.map(([code, path, text]) => html`<li><b><${Text} of=${code} /></b> at <span class="m"><${Text} of=${path || "(complete payload)"} /></span>: <${Text} of=${text} /></li>`)}</ul><//>`}
    <${Side} trace=${trace} row=${row} side=${0} title="Inputs" absent="none" />
    <${Side} trace=${trace} row=${row} side=${1} title="Output" absent="none: the call did not return" />
    ${more.logs && html`<${Section} title="Log"><ol class="stack logs">${more.logs.map(([text, bad]) => html`<li class=${bad ? "bad" : ""}><${Text} of=${text} /></li>`)}</ol><//>`}
    ${delta && html`<${Section} title="State delta" note=${`blake3 ${delta}`}><p class="soft">The trace has the hash of what it was.</p><//>`}
    ${more.left_out && html`<${Section} title="Left out"><ul class="issues">${more.left_out.map(([kind, path]) => html`<li><span class=${"tag " + kind}>${kind}</span> <span class="m"><${Text} of=${path} /></span></li>`)}</ul><//>`}
    <${Section} title="Replay">${why ? html`<p class="soft">Can't be replayed: ${why}.</p>` : html`<${Command} id="step-cmd" text=${`flowtrace replay ${quoted(name)} --step ${trace.number[row]}`} />`}<//>
    <${Section} title="Facts"><${Facts} of=${[
      ["Code", [where, qualname, digits].filter(Boolean).join(" · ")],
      ["Called in", above < 0 ? "nothing that is in the trace" : html`<button type="button" class="link" onClick=${() => choose(above)}>${trace.title(above)}</button>`],
      ["Calls", String(trace.children[row].length)],
      ["Step id", trace.ids[row]],
      ["Thread", trace.all.threads[trace.thread[row]]],
      ["Task", more.task],
      ["Run", trace.has(row, "otherRun") ? "another run of this process" : ""],
    ]} /><//></article></aside>`;
}

