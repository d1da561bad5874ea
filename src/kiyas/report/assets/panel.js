// --- one problem's texts, opened when they are wanted; they are last in the file, so that the grid is there first
const problems = new Map();
const whole = new Promise((done) => { document.addEventListener("DOMContentLoaded", done, { once: true }); });
const unpack = async (i) => {
  await whole;
  const packed = JSON.parse(document.getElementById("chunk-" + i).textContent);
  if (!packed) return null;
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
};
const problem = (i) => {
  if (!problems.has(i)) problems.set(i, unpack(i));
  return problems.get(i);
};

// --- differences by line: the longest common subsequence, unless that is too much work
const MOST_COMPARED = 4_000_000;
const compare = (left, right) => {
  const a = left.split("\n"), b = right.split("\n"), shorter = Math.min(a.length, b.length);
  let head = 0, tail = 0;
  while (head < shorter && a[head] === b[head]) head++;
  while (tail < shorter - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const n = a.length - tail, m = b.length - tail, wide = m - head + 1;
  if ((n - head) * (m - head) > MOST_COMPARED) return null;
  // common[(i - head) * wide + j - head]: lines in common of a from i on and b from j on
  const common = new Uint32Array((n - head + 1) * wide), cell = (i, j) => (i - head) * wide + j - head;
  for (let i = n - 1; i >= head; i--) for (let j = m - 1; j >= head; j--)
    common[cell(i, j)] = a[i] === b[j] ? common[cell(i + 1, j + 1)] + 1 : Math.max(common[cell(i + 1, j)], common[cell(i, j + 1)]);
  const sides = [[], []];
  const level = () => { // the shorter side gets gaps, so that common lines are next to each other
    const longest = Math.max(sides[0].length, sides[1].length);
    for (const side of sides) while (side.length < longest) side.push(["gap", ""]);
  };
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      level();
      sides[0].push(["same", a[i++]]);
      sides[1].push(["same", b[j++]]);
    } else if (j >= m || (i < n && common[cell(i + 1, j)] >= common[cell(i, j + 1)])) sides[0].push(["differs", a[i++]]);
    else sides[1].push(["differs", b[j++]]);
  }
  level();
  return sides;
};

// --- the panel: one problem at one checkpoint, or at two side by side
const panel = document.getElementById("panel");
let here = [0, 0], two = false, chosen = null;
const other = () => (chosen !== null && chosen !== here[1] ? chosen : data.partners[here[1]]);
const block = (parent, title, text) => {
  if (text === null || text === undefined) return;
  const box = make("div");
  box.append(make("h4", title), make("pre", text));
  parent.append(box);
};
const testBlocks = (parent, test, got) => {
  const io = make("div", null, "io");
  block(io, w("grid.input"), test && test[0]);
  block(io, w("grid.expected"), test && test[1]);
  block(io, w("grid.got"), got);
  parent.append(io);
};
const code = (lines) => {
  const pre = make("pre", null, "code");
  for (const [kind, text] of lines) {
    const line = make(kind === "differs" ? "mark" : "span", text + "\n", kind);
    if (kind === "gap") line.setAttribute("aria-hidden", "true");
    pre.append(line);
  }
  return pre;
};
// Three parts, which two columns keep level; side by side the programs come first.
const column = (sample, tests, title, lines) => {
  const box = make("article"), verdicts = make("div"), failed = make("div"), program = make("div");
  box.append(verdicts, ...(title ? [program, failed] : [failed, program]));
  if (title) verdicts.append(make("h3", title));
  if (!sample) {
    verdicts.append(make("p", w("verdict.missing")));
    return box;
  }
  const head = make("p");
  head.append(make("span", sample.v, "pill v " + safe(sample.v)), make("span", w("verdict." + sample.v)));
  if (sample.total) head.append(make("span", " · " + fill("grid.passed", sample), "dim"));
  verdicts.append(head);
  if (sample.tests && sample.tests.length > 1) {
    const dots = make("div", null, "dots");
    sample.tests.forEach((verdict, k) => dots.append(make("span", `${k + 1} ${verdict}`, "v " + safe(verdict))));
    verdicts.append(dots);
  }
  const failing = sample.failing;
  if (failing) {
    failed.append(make("h3", `${w("grid.failing_test")} ${failing.n}: ${failing.v} (${w("verdict." + failing.v)})`));
    testBlocks(failed, tests[failing.n], failing.got);
    block(failed, w("grid.error"), failing.error);
  }
  if (sample.detail && !(failing && failing.error)) block(failed, w("grid.error"), sample.detail);
  if (!sample.tests && sample.v !== "AC") {
    const known = Object.values(tests);
    failed.append(make("p", w(known.length ? "grid.which_unknown" : "grid.nothing_recorded"), "dim"));
    known.forEach((test) => testBlocks(failed, test));
  }
  if (sample.flags.length) failed.append(make("p", `${w("grid.flags")}: ${sample.flags.join(", ")}`, "dim"));
  program.append(make("h3", w("grid.program")));
  if (sample.program === undefined) {
    program.append(make("p", w("grid.no_program"), "dim"));
    if (sample.answer) block(program, w("grid.answer"), sample.answer);
  } else program.append(lines ? code(lines) : make("pre", sample.program, "code"));
  return box;
};
const fillBody = (body, found, j, k) => {
  const sides = k === null ? [j] : [j, k], cells = sides.map((side) => found.cells[side]);
  const most = Math.max(1, ...cells.map((cell) => cell.length));
  for (let n = 0; n < most; n++) {
    if (most > 1) body.append(make("h3", fill("grid.sample", { n: n + 1 })));
    const box = make("div", null, k === null ? null : "two"), programs = cells.map((cell) => cell[n] && cell[n].program);
    const comparable = k !== null && programs.every((text) => text !== undefined);
    const lines = comparable ? compare(...programs) : null;
    if (comparable && !lines) body.append(make("p", w("grid.not_compared"), "dim"));
    sides.forEach((side, s) => box.append(column(cells[s][n], found.tests, k === null ? null : data.columns[side], lines && lines[s])));
    body.append(box);
  }
  if (found.statement) {
    const details = make("details");
    details.append(make("summary", w("grid.statement")), make("pre", found.statement));
    details.open = true;
    body.append(details);
  }
};
const control = (tag, key, text) => {
  const node = make(tag, text);
  if (tag === "button") node.type = "button";
  node.dataset.key = key;
  return node;
};
function open(i, j) {
  here = [i, j];
  const k = two ? other() : null, inside = panel.contains(document.activeElement);
  const kept = inside ? document.activeElement.dataset.key : "close";
  const head = make("div", null, "panel-head"), names = make("div"), body = make("div", null, "panel-body");
  const title = make("h2", `${data.rows[i].id} ${data.rows[i].title}`.trim());
  title.id = "panel-title";
  names.append(title, make("p", data.columns[j]));
  const step = (text, label, by) => {
    const button = control("button", label, text);
    button.title = label;
    button.setAttribute("aria-label", label);
    button.disabled = j + by < 0 || j + by >= columns;
    button.addEventListener("click", () => open(i, j + by));
    return button;
  };
  const close = control("button", "close", w("grid.close"));
  close.addEventListener("click", () => panel.close());
  head.append(names, step("←", w("grid.previous"), -1), step("→", w("grid.next"), 1));
  if (columns > 1) {
    const toggle = control("button", "two", w("grid.side_by_side"));
    toggle.setAttribute("aria-pressed", String(two));
    toggle.addEventListener("click", turn);
    head.append(toggle);
  }
  if (k !== null) {
    const label = make("label", w("grid.beside") + " "), select = control("select", "other");
    data.columns.forEach((name, c) => { if (c !== j) select.add(new Option(name, c, false, c === k)); });
    select.addEventListener("change", () => { chosen = Number(select.value); open(i, j); });
    label.append(select);
    names.append(label);
  }
  head.append(close);
  panel.classList.toggle("wide", k !== null);
  panel.replaceChildren(head, body);
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  ([...head.querySelectorAll("[data-key]:not(:disabled)")].find((node) => node.dataset.key === kept) || close).focus();
  problem(i).then((found) => {
    if (found) fillBody(body, found, j, k);
    else body.append(make("p", w("grid.left_out")));
  }).catch((error) => body.append(make("p", fill("grid.unreadable", { error }))));
}
const turn = () => { two = !two; open(...here); };
panel.addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === "s" && columns > 1) turn();
  else if (by && here[1] + by >= 0 && here[1] + by < columns) open(here[0], here[1] + by);
  else return;
  event.preventDefault();
});
panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
panel.addEventListener("close", () => focus(...here));
