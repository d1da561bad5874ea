// --- the grid: a row has its cells only while it is near the screen, holds the focus or is printed
const PRINTED_CELLS = 10_000, PAGE_OF_ROWS = 20, CELLS_AT_ONCE = 2000;
const grid = document.querySelector("table.grid"), every = document.getElementById("every");
const rows = [], near = new Set();
// `view`: which of data.views; `columns`: its checkpoints, as numbers in data.columns; `tab`: the cell that Tab reaches
let view = 0, columns = [], starts = new Set(), shown = [], tab = [0, 0];
const called = (i) => [data.rows[i].title, data.rows[i].id].filter(Boolean).join(" ");
const blank = () => { const cell = make("td"); cell.colSpan = columns.length; return cell; };
const cellsOf = (i) => {
  const cells = data.rows[i].cells.split(" "), name = called(i);
  return columns.map((j) => {
    const [letter, passed, total, right, samples] = cells[j].split(",");
    const several = Number(samples) > 1, mixed = several && Number(right) > 0 && right !== samples;
    const verdict = mixed ? "mixed" : data.letters[letter];
    const cell = make("td", several ? `${right}/${samples}` : letter, `v ${verdict}${starts.has(j) ? " start" : ""}`);
    const said = `${name}, ${data.columns[j]}: ${w("verdict." + verdict)}`;
    cell.setAttribute("aria-label", total ? `${said}. ${fill("grid.passed", { passed, total })}` : said);
    cell.setAttribute("role", "gridcell");
    cell.dataset.at = `${i},${j}`;
    cell.tabIndex = i === tab[0] && j === tab[1] ? 0 : -1;
    if (total && verdict !== "AC") cell.style.setProperty("--share", `${Math.round((100 * passed) / total)}%`);
    return cell;
  });
};
const filled = (i) => rows[i].children[1].classList.contains("v");
const expand = (i) => { if (!filled(i)) rows[i].children[1].replaceWith(...cellsOf(i)); };
const empty = (i) => {
  rows[i].querySelectorAll("td.v").forEach((cell) => cell.remove());
  rows[i].firstChild.after(blank());
};
const collapse = (i) => { if (i !== tab[0] && filled(i)) empty(i); };
const at = (i, j) => { expand(i); return rows[i].children[columns.indexOf(j) + 1]; };
const reach = (i, j) => {
  at(...tab).tabIndex = -1;
  tab = [i, j];
  at(i, j).tabIndex = 0;
};
const focus = (i, j) => {
  reveal(i, j);
  reach(i, j);
  at(i, j).focus();
  at(i, j).scrollIntoView({ block: "nearest", inline: "nearest" });
};

// --- its header and columns: the chosen checkpoints, or all
const header = () => {
  const { groups, labels, width } = data.views[view], above = make("tr"), below = make("tr");
  const corner = (text, className) => { const cell = make("th", text, className); cell.scope = "col"; cell.rowSpan = 2; return cell; };
  above.append(corner(w("grid.problem"), "name"));
  for (const group of groups) {
    const cell = make("th", null, "start");
    cell.colSpan = group.columns;
    cell.title = `${group.label} ${group.seed}`.trim();
    cell.scope = "colgroup";
    cell.style.setProperty("--arm", group.colour);
    cell.append(make("span", group.label));
    if (group.seed) cell.append(make("small", group.seed));
    above.append(cell);
  }
  above.append(corner(w("grid.solved_by"), "n"));
  labels.forEach(([label, small, marked], p) => {
    const cell = make("th", label || "–", `step${starts.has(columns[p]) ? " start" : ""}${marked ? " marked" : ""}`);
    cell.scope = "col";
    cell.title = data.columns[columns[p]];
    if (small) cell.append(make("small", small));
    below.append(cell);
  });
  grid.tHead.replaceChildren(above, below);
  const widths = make("colgroup"), column = (className) => make("col", null, className);
  widths.append(column("name"), ...columns.map((j) => column(starts.has(j) ? "start" : "")), column("n"));
  if (grid.firstElementChild.tagName === "COLGROUP") grid.firstElementChild.remove();
  grid.prepend(widths);
  grid.style.setProperty("--columns", columns.length);
  grid.style.setProperty("--groups", groups.length);
  grid.dataset.width = width;
};
const look = (which) => {
  const before = rows.map((_, i) => filled(i));
  view = which;
  columns = data.views[view].columns;
  starts = new Set();
  let first = 0;
  for (const group of data.views[view].groups) { starts.add(columns[first]); first += group.columns; }
  if (!columns.includes(tab[1])) tab = [tab[0], columns[0]];
  header();
  rows.forEach((row, i) => {
    if (before[i]) empty(i); else row.children[1].colSpan = columns.length;
    row.lastChild.textContent = `${data.rows[i].solved[view]}/${columns.length}`;
  });
  for (const label of document.querySelectorAll("[data-count]"))
    label.textContent = data.rows.filter((row) => label.dataset.count === "all" || row.kinds[view] === label.dataset.count).length;
  reach(...tab);
  filter();
  fillSoon([...near]);
};
// A few rows at a time, so that the screen follows.
const fillSoon = (waiting) => {
  waiting.splice(0, Math.ceil(CELLS_AT_ONCE / columns.length)).forEach((i) => { if (near.has(i)) expand(i); });
  if (waiting.length) requestAnimationFrame(() => fillSoon(waiting));
};

// --- filters
const byId = (id) => document.getElementById(id);
const chosenIn = (id) => { const found = byId(id); return found ? found.value : ""; };
const filter = () => {
  const kind = document.querySelector("input[name=filter]:checked").value, letter = chosenIn("with-verdict"), tag = chosenIn("with-tag");
  const sought = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  shown = [...rows.keys()].filter((i) => {
    const row = data.rows[i], text = called(i).toLowerCase();
    return (kind === "all" || row.kinds[view] === kind) && (!letter || row.verdicts[view].includes(letter))
      && (!tag || row.tags.includes(tag)) && sought.every((part) => text.includes(part));
  });
  const those = new Set(shown);
  rows.forEach((row, i) => { row.hidden = !those.has(i); });
  byId("count").textContent = shown.length < rows.length ? fill("grid.count", { n: shown.length, of: rows.length }) : "";
  if (shown.length && !those.has(tab[0])) reach(shown[0], columns[0]);
};
const unfiltered = () => {
  document.querySelector("input[name=filter][value=all]").checked = true;
  for (const id of ["with-verdict", "with-tag", "search"]) if (byId(id)) byId(id).value = "";
  filter();
};
// Whatever hides a cell that is wanted is undone.
const reveal = (i, j) => {
  every.open = true;
  if (!columns.includes(j)) {
    byId("all-checkpoints").checked = true;
    look(1);
  }
  if (rows[i].hidden) unfiltered();
};

if (grid) {
  columns = data.views[0].columns;
  data.rows.forEach((row) => {
    const line = make("tr"), name = make("th", null, "name");
    name.scope = "row";
    name.title = called(rows.length);
    name.append(make("b", row.title || row.id), " ", make("span", row.title ? row.id : "", "dim"));
    line.append(name, blank(), make("td", null, "n dim"));
    rows.push(line);
  });
  grid.tBodies[0].append(...rows);
  tab = [0, columns[0]];
  look(0);
  const number = new Map(rows.map((row, i) => [row, i]));
  const watch = new IntersectionObserver((entries) => {
    const come = [];
    for (const entry of entries) {
      const i = number.get(entry.target);
      if (entry.isIntersecting) { near.add(i); come.push(i); } else { near.delete(i); collapse(i); }
    }
    fillSoon(come);
  }, { root: grid.parentElement, rootMargin: "300px" });
  rows.forEach((row) => watch.observe(row));
  const place = (event) => { const cell = event.target.closest("td.v"); return cell && cell.dataset.at.split(",").map(Number); };
  grid.addEventListener("mouseover", (event) => { const over = place(event); if (over) event.target.title = event.target.getAttribute("aria-label"); });
  grid.addEventListener("click", (event) => { const clicked = place(event); if (clicked) { focus(...clicked); go(...clicked); } });
  grid.addEventListener("keydown", (event) => {
    const from = place(event);
    if (!from || event.ctrlKey || event.metaKey || event.altKey) return;
    const [i, j] = from, p = columns.indexOf(j), last = columns.length - 1;
    const down = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE_OF_ROWS, PageUp: -PAGE_OF_ROWS }[event.key];
    const beside = event.key === "s";
    if (event.key === "Enter" || event.key === " " || beside) { two = two || beside; go(i, j); }
    else if (down) focus(shown[Math.max(0, Math.min(shown.length - 1, shown.indexOf(i) + down))], j);
    else if (event.key === "ArrowRight") focus(i, columns[Math.min(last, p + 1)]);
    else if (event.key === "ArrowLeft") focus(i, columns[Math.max(0, p - 1)]);
    else if (event.key === "Home") focus(i, columns[0]);
    else if (event.key === "End") focus(i, columns[last]);
    else return;
    event.preventDefault();
  });
  for (const input of document.querySelectorAll("#every .tools input:not(#all-checkpoints), #every .tools select")) input.addEventListener("input", filter);
  if (byId("all-checkpoints")) byId("all-checkpoints").addEventListener("input", (event) => look(event.target.checked ? 1 : 0));
  const note = document.querySelector("p.cut");
  let printed = [];
  addEventListener("beforeprint", () => {
    printed = shown.slice(0, Math.ceil(PRINTED_CELLS / columns.length));
    printed.forEach(expand);
    shown.slice(printed.length).forEach((i) => { rows[i].hidden = true; });
    note.hidden = printed.length === shown.length;
  });
  addEventListener("afterprint", () => {
    note.hidden = true;
    shown.forEach((i) => { rows[i].hidden = false; });
    printed.forEach((i) => { if (!near.has(i)) collapse(i); });
  });
}
