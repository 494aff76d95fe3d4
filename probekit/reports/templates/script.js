"use strict";
// Sorting, saving and the theme. The page can be read without it.

// ---- tables: a click sorts, numbers from the largest, text from A; another click turns it round; "-" stays last
const collator = new Intl.Collator(undefined, { numeric: true });

function sortBy(header) {
  const headers = [...header.parentElement.children];
  const column = headers.indexOf(header);
  const body = header.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, value: row.cells[column].dataset.value }));
  const known = rows.filter((item) => item.value !== undefined && item.value !== "");
  const numeric = known.every((item) => Number.isFinite(Number(item.value)));
  const before = header.getAttribute("aria-sort");
  const ascending = before ? before === "descending" : !numeric;
  known.sort((a, b) => {
    const order = numeric ? Number(a.value) - Number(b.value) : collator.compare(a.value, b.value);
    return ascending ? order : -order;
  });
  body.append(...known.map((item) => item.row), ...rows.filter((item) => !known.includes(item)).map((item) => item.row));
  for (const other of headers) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
}

// ---- figures: what is saved is light and needs no page around it
const SCALE = 3; // pixels of a PNG for each of the page's

function standalone(figure) {
  const image = figure.querySelector(".drawing img");
  if (image) {
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    return {
      width, height, png: image.src,
      svg: `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">` +
        `<image width="${width}" height="${height}" href="${image.src}"/></svg>`,
    };
  }
  const drawing = figure.querySelector(".drawing svg");
  const text = new XMLSerializer().serializeToString(drawing);
  return {
    width: drawing.width.baseVal.value, height: drawing.height.baseVal.value, png: null,
    svg: text.replace(/var\(--chart-[a-z]+, (#[0-9a-f]{6})\)/g, "$1"),
  };
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function bytesOf(dataUrl) {
  const text = atob(dataUrl.slice(dataUrl.indexOf(",") + 1));
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

async function save(figure, kind) {
  const drawn = standalone(figure);
  const svg = new Blob([drawn.svg], { type: "image/svg+xml" });
  if (kind === "svg") return download(svg, `${figure.id}.svg`);
  if (drawn.png) return download(new Blob([bytesOf(drawn.png)], { type: "image/png" }), `${figure.id}.png`);
  const image = new Image();
  image.src = URL.createObjectURL(svg);
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [drawn.width * SCALE, drawn.height * SCALE];
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  canvas.toBlob((png) => download(png, `${figure.id}.png`), "image/png");
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.save) save(button.closest("figure"), button.dataset.save);
  else if (button.closest("thead")) sortBy(button.closest("th"));
});
for (const buttons of document.querySelectorAll(".buttons")) buttons.hidden = false;

// ---- what is wider than its box: a drawing shrinks, and a click shows it whole; a table has a line a cell
const WIDE = 620; // pixels
for (const box of document.querySelectorAll(".drawing")) {
  const width = Number(box.firstElementChild?.getAttribute("width"));
  if (width > WIDE) {
    box.closest("figure").classList.add("broad");
    box.classList.add("wide");
  }
}

function fit(box) {
  box.classList.remove("stacked");
  if (!box.clientWidth || box.scrollWidth <= box.clientWidth + 1) return;
  const names = [...box.querySelectorAll("thead th")].map((header) => header.textContent);
  for (const row of box.querySelectorAll("tbody tr"))
    [...row.cells].forEach((cell, column) => (cell.dataset.label = names[column]));
  box.classList.add("stacked");
}

function fitAll() {
  for (const table of document.querySelectorAll(".scroll > table")) fit(table.parentElement);
}

fitAll();
window.addEventListener("resize", fitAll);
document.addEventListener("toggle", fitAll, true); // what was folded had no width

function zoom(event) {
  const box = event.target.closest(".drawing.wide");
  if (!box || (event.type === "keydown" && event.key !== "Enter")) return;
  box.classList.toggle("large");
}

document.addEventListener("click", zoom);
document.addEventListener("keydown", zoom);

// ---- theme: the system's until it is chosen here
const THEMES = ["system", "dark", "light"];
const toggle = document.getElementById("theme");

function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  toggle.textContent = `theme: ${name}`;
}

toggle.hidden = false;
toggle.addEventListener("click", () => {
  setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % THEMES.length]);
});

// ---- print: what is folded is unfolded, and folded again
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("main details:not([open])")];
  for (const details of opened) details.open = true;
  for (const box of document.querySelectorAll(".stacked")) box.classList.remove("stacked");
});
window.addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
  fitAll();
});
