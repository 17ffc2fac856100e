"use strict";
// What every page does beyond standing still: its theme, and tables that sort. Without it every
// table can be read.

const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with attributes and children, of which strings become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// --- theme -------------------------------------------------------------------------------------

const theme = find("#theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const remembered = (name, value) => {
  try {
    if (value !== undefined) localStorage.setItem(`patchbench-${name}`, value);
    return localStorage.getItem(`patchbench-${name}`);
  } catch {
    return null; // a browser may refuse to remember; the page works all the same
  }
};
function paint(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  theme.textContent = isDark() ? "Light theme" : "Dark theme";
}
theme.hidden = false;
theme.addEventListener("click", () => {
  const chosen = isDark() ? "light" : "dark";
  remembered("theme", chosen);
  paint(chosen);
});
dark.addEventListener("change", () => paint());
paint(remembered("theme"));

// --- sorting -----------------------------------------------------------------------------------

/** What a cell sorts by: its number, else its words; null where it is empty. */
function worth(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === "" || text === "–") return null;
  const number = parseFloat(text);
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

const words = new Intl.Collator("en");
function order(left, right) {
  const bothNumbers = typeof left === "number" && typeof right === "number";
  return bothNumbers ? left - right : words.compare(left, right);
}

function sort(table, heading) {
  const rising = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [worth(row.cells[heading.cellIndex]), row]);
  // What is empty stays below, whichever way the rest is turned.
  rows.sort(([left], [right]) => {
    if (left === null || right === null) return (left === null) - (right === null);
    return rising ? order(left, right) : order(right, left);
  });
  body.append(...rows.map(([, row]) => row));
}

function makeSortable(table) {
  for (const heading of table.tHead.rows[table.tHead.rows.length - 1].cells) {
    const button = make("button", { type: "button" }, ...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
  }
}
all(".sortable").forEach(makeSortable);

