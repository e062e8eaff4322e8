// The data of the page: compressed JSON in two blocks, and what can be asked of it.

export const STATES = ["ok", "failed", "handled", "cancelled", "running"];
export const FLAGS = { redacted: 1, opaque: 2, cut: 4, issues: 8, otherRun: 16, lostParent: 32, here: 64, captured: 128 };

export async function read(id) {
  const block = document.getElementById(id);
  const bytes = Uint8Array.from(atob(block.textContent), (letter) => letter.charCodeAt(0));
  block.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

export class Trace {
  constructor(steps, values) {
    Object.assign(this, steps.columns);
    this.all = steps;
    this.count = steps.rows;
    this.pathRows = new Set(steps.path);
    this.ids = steps.ids.split(" ");
    this.children = Array.from({ length: this.count }, () => []);
    this.roots = [];
    for (let row = 0; row < this.count; row++) (this.parent[row] < 0 ? this.roots : this.children[this.parent[row]]).push(row);
    this.values = new Map(values.map((item) => [item[0], item]));
    this.texts = new Map();
    const timed = this.start.map((start, row) => (start === null ? 0 : start * 1000 + this.took[row]));
    this.end = timed.reduce((most, end) => Math.max(most, end), 0);
    this.slowFrom = this.end / 10;
  }

  has(row, flag) {
    return (this.flags[row] & FLAGS[flag]) !== 0;
  }

  name(row) {
    const [, component, operation] = this.all.nodes[this.node[row]]; // the first is the number of the component
    return [component, operation];
  }

  title(row) {
    return (this.number[row] < 0 ? "" : `#${this.number[row]} `) + this.name(row).join("");
  }

  hash(kind, row) {
    return this.all.hashes[kind].slice(row * 8, row * 8 + 8).trim();
  }

  error(row) {
    const at = this.all.errors[row];
    return at === undefined ? null : this.all.error_texts[at];
  }

  issues(row) {
    return this.all.issues[row] ?? [];
  }

  // The tree of a value; undefined where the page has none.
  value(row, side) {
    const found = this.values.get(row)?.[1 + side];
    if (found === undefined || found === null || typeof found !== "object" || Array.isArray(found)) return found;
    return found.same ? this.values.get(found.same[0])[1 + found.same[1]] : undefined;
  }

  more(row) {
    return this.values.get(row)?.[3] ?? {};
  }

  // What a row is searched in; made once, when it is first asked for.
  text(row) {
    let text = this.texts.get(row);
    if (text === undefined) {
      const parts = [this.title(row), (this.error(row) ?? []).join(" "), JSON.stringify(this.value(row, 0) ?? ""), JSON.stringify(this.value(row, 1) ?? "")];
      text = [...parts, ...this.issues(row).flat(), ...(this.more(row).logs ?? []).flat(), this.all.threads[this.thread[row]]].join(" ").toLowerCase();
      this.texts.set(row, text);
    }
    return text;
  }
}

export function duration(nanoseconds) {
  if (nanoseconds < 1e6) return `${(nanoseconds / 1e3).toFixed(1)} µs`;
  return nanoseconds < 1e9 ? `${(nanoseconds / 1e6).toFixed(2)} ms` : `${(nanoseconds / 1e9).toFixed(2)} s`;
}

export function milliseconds(microseconds) {
  return microseconds === null ? "" : (microseconds / 1000).toFixed(1);
}
