// On a phone, site.css makes a block of each row of a table: each cell gets the name of its column.
for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
  const names = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, at) => at > 0 && names[at] && cell.setAttribute("data-column", names[at]));
  }
  table.setAttribute("data-stacked", "");
}

// What is copied from a session is its commands.
for (const block of document.querySelectorAll(".highlight:has(.gp)")) {
  const lines = block.querySelector("code").textContent.split("\n").filter((line) => line.startsWith("$ "));
  block.setAttribute("data-copy", lines.map((line) => line.slice(2)).join("\n"));
}

// What the theme leaves without a name or out of the keyboard's reach.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
addEventListener("load", () => {
  for (const region of document.querySelectorAll(".md-typeset__scrollwrap")) region.tabIndex = 0;
});
