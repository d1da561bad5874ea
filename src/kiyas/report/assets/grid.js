// --- the grid: a row has its cells only while it is near the screen, holds the focus or is printed
const PRINTED_CELLS = 10_000, PAGE_OF_ROWS = 20;
const columns = data.columns.length, starts = new Set(data.starts);
const grid = document.querySelector("table.grid");
const rows = [], near = new Set();
let shown = [], tab = [0, 0];
const blank = () => { const cell = make("td"); cell.colSpan = columns; return cell; };
const cellsOf = (i) => data.rows[i].cells.split(" ").map((word, j) => {
  const [letter, passed, total, right, samples] = word.split(",");
  const verdict = data.letters[letter], several = samples > 1;
  const cell = make("td", several ? `${right}/${samples}` : letter);
  cell.className = `v ${several && right > 0 && right !== samples ? "mixed" : verdict}${starts.has(j) ? " start" : ""}`;
  const said = `${data.rows[i].id}, ${data.columns[j]}: ${w("verdict." + verdict)}`;
  cell.title = total ? `${said}. ${fill("grid.passed", { passed, total })}` : said;
  cell.setAttribute("aria-label", cell.title);
  cell.setAttribute("role", "gridcell");
  cell.dataset.at = `${i},${j}`;
  cell.tabIndex = i === tab[0] && j === tab[1] ? 0 : -1;
  if (total && verdict !== "AC") cell.style.setProperty("--share", `${Math.round((100 * passed) / total)}%`);
  return cell;
});
const expand = (i) => { if (!rows[i].querySelector("td.v")) rows[i].children[1].replaceWith(...cellsOf(i)); };
const collapse = (i) => {
  if (i === tab[0] || !rows[i].querySelector("td.v")) return;
  rows[i].querySelectorAll("td.v").forEach((cell) => cell.remove());
  rows[i].firstChild.after(blank());
};
const at = (i, j) => { expand(i); return rows[i].children[j + 1]; };
const reach = (i, j) => {
  at(...tab).tabIndex = -1;
  tab = [i, j];
  at(i, j).tabIndex = 0;
};
const focus = (i, j) => {
  reach(i, j);
  at(i, j).focus();
  at(i, j).scrollIntoView({ block: "nearest", inline: "nearest" });
};
const show = (kind) => {
  shown = [...rows.keys()].filter((i) => kind === "all" || data.rows[i].kind === kind);
  const those = new Set(shown);
  rows.forEach((row, i) => { row.hidden = !those.has(i); });
  if (shown.length) reach(shown[0], 0);
};
if (grid) {
  data.rows.forEach((row) => {
    const line = make("tr"), name = make("th", null, "name");
    name.scope = "row";
    name.append(make("b", row.id), " ", make("span", row.title, "dim"));
    line.append(name, blank(), make("td", `${row.solved}/${columns}`, "n dim"));
    rows.push(line);
  });
  grid.tBodies[0].append(...rows);
  show("all");
  const number = new Map(rows.map((row, i) => [row, i]));
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const i = number.get(entry.target);
      if (entry.isIntersecting) { near.add(i); expand(i); } else { near.delete(i); collapse(i); }
    }
  }, { root: grid.parentElement, rootMargin: "400px" });
  rows.forEach((row) => watch.observe(row));
  const place = (event) => { const cell = event.target.closest("td.v"); return cell && cell.dataset.at.split(",").map(Number); };
  grid.addEventListener("click", (event) => { const clicked = place(event); if (clicked) { focus(...clicked); open(...clicked); } });
  grid.addEventListener("keydown", (event) => {
    const from = place(event);
    if (!from || event.ctrlKey || event.metaKey || event.altKey) return;
    const [i, j] = from;
    const down = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE_OF_ROWS, PageUp: -PAGE_OF_ROWS }[event.key];
    const beside = event.key === "s";
    if (event.key === "Enter" || event.key === " " || beside) { two = two || beside; open(i, j); }
    else if (down) focus(shown[Math.max(0, Math.min(shown.length - 1, shown.indexOf(i) + down))], j);
    else if (event.key === "ArrowRight") focus(i, Math.min(columns - 1, j + 1));
    else if (event.key === "ArrowLeft") focus(i, Math.max(0, j - 1));
    else if (event.key === "Home") focus(i, 0);
    else if (event.key === "End") focus(i, columns - 1);
    else return;
    event.preventDefault();
  });
  const filters = [...document.querySelectorAll("input[name=filter]")];
  filters.forEach((input) => input.addEventListener("change", () => show(input.value)));
  const note = document.querySelector("p.cut");
  let printed = [];
  addEventListener("beforeprint", () => {
    printed = shown.slice(0, Math.ceil(PRINTED_CELLS / columns));
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
