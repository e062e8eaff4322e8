// What makes a page live: its tree, its panel and its timeline; copying of commands; printing.
import { render } from "preact";
import { Trace, read } from "./data.js";
import { BothTrees } from "./pairs.js";
import { Steps } from "./steps.js";
import { Timeline } from "./timeline.js";
import { html } from "./words.js";

function copyOnClick() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const code = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // a page from the disk may not write the clipboard
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

// A change that paper has to show is drawn at once: the browser does not wait for anything.
function aroundPrinting(draw) {
  addEventListener("beforeprint", () => draw(true));
  addEventListener("afterprint", () => draw(false));
  matchMedia("print").addEventListener("change", (event) => draw(event.matches));
}

async function traces() {
  const place = document.getElementById("steps-app");
  const trace = new Trace(await read("steps-data"), await read("values-data"));
  const { trace: name, leftOut } = place.dataset;
  const timeline = document.getElementById("timeline-app");
  const state = { at: trace.all.failed >= 0 ? trace.all.failed : trace.count ? 0 : -1, prints: false };
  const choose = (row) => {
    state.at = row;
    draw();
  };
  const isTimed = trace.start.some((start) => start !== null);
  const draw = () => {
    render(html`<${Steps} trace=${trace} name=${name} leftOut=${+leftOut} at=${state.at} choose=${choose} prints=${state.prints} />`, place);
    if (isTimed) render(html`<${Timeline} trace=${trace} at=${state.at} choose=${choose} />`, timeline);
  };
  place.replaceChildren();
  timeline.replaceChildren();
  if (!isTimed) timeline.parentElement.hidden = true;
  draw();
  aroundPrinting((prints) => {
    state.prints = prints;
    draw();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-go]");
    if (link) choose(link.dataset.go === "failed" ? trace.all.failed : +link.dataset.go);
  });
  document.documentElement.dataset.ready = "yes";
}

async function pairs() {
  const place = document.getElementById("pairs-app");
  const data = await read("pairs-data");
  const { a, b, unmarked } = place.dataset;
  const draw = (prints) => render(html`<${BothTrees} data=${data} names=${[a, b]} unmarked=${+unmarked} prints=${prints} />`, place);
  place.replaceChildren();
  draw(false);
  aroundPrinting(draw);
  document.documentElement.dataset.ready = "yes";
}

copyOnClick();
if (document.getElementById("pairs-app")) pairs();
if (document.getElementById("steps-app")) traces();
if (document.querySelector(".traces")) document.documentElement.dataset.ready = "yes";
