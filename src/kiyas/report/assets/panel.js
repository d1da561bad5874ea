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
let here = [0, 0], two = false, chosen = null, linked = false, fromCell = true;
// The checkpoints that arrows go through: those of the grid, unless this one is not there.
const along = () => (columns.includes(here[1]) ? columns : data.columns.map((_, j) => j));
const neighbour = (by) => along()[along().indexOf(here[1]) + by];
const other = () => (chosen !== null && chosen !== here[1] ? chosen : data.partners[here[1]]);
// A text that was cut comes with the file that holds it whole; `j` is its checkpoint, where it has one.
const text = (given, j) => {
  if (!Array.isArray(given)) return given;
  const values = { file: given[1], problem: data.rows[here[0]].id, checkpoint: data.keys[j] };
  return `${given[0]}\n${fill(j === undefined ? "grid.cut" : "grid.cut_of", values)}`;
};
const block = (parent, title, found) => {
  if (found === null || found === undefined) return;
  const box = make("div");
  box.append(make("h4", title), found === "" ? make("p", w("grid.nothing"), "dim") : make("pre", found));
  parent.append(box);
};
const folded = (title, open, ...inside) => {
  const details = make("details");
  details.open = open;
  details.append(make("summary", title), ...inside);
  return details;
};
const testBlocks = (parent, test) => {
  if (!test) parent.append(make("p", w("grid.test_unknown"), "dim"));
  else if (test.length === 1) block(parent, w("grid.test_code"), text(test[0]));
  else {
    block(parent, w("grid.input"), text(test[0]));
    block(parent, w("grid.expected"), text(test[1]));
  }
};
const failingTest = (failing, tests, j) => {
  const box = make("div"), io = make("div", null, "io");
  testBlocks(io, tests[failing.n]);
  if (failing.left_out) io.append(make("p", fill("grid.left_out_of", { checkpoint: data.keys[j] }), "dim"));
  else {
    if (failing.got === null) io.append(make("p", w("grid.got_unknown"), "dim"));
    else block(io, w("grid.got"), text(failing.got, j));
    block(io, w("grid.error"), text(failing.error, j));
  }
  box.append(make("h3", `${w("grid.failing_test")} ${failing.n}: ${failing.v} (${w("verdict." + failing.v)})`), io);
  return box;
};
const answer = (sample, j) => {
  if (sample.left_out) return make("p", fill("grid.answer_left_out", { checkpoint: data.keys[j] }), "dim");
  if (!sample.answer) return make("p", w("grid.answer_unknown"), "dim");
  const [before, after] = sample.answer;
  const parts = after === undefined ? [before] : [before, sample.program, after], whole = parts.map((part) => (Array.isArray(part) ? part[0] : part)).join("");
  const cut = parts.some(Array.isArray);
  return folded(w("grid.answer"), sample.program === undefined, make("pre", text(cut ? [whole, "generate/completions.jsonl"] : whole, j)));
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
const column = (sample, tests, j, titled, lines) => {
  const box = make("article"), verdicts = make("div"), failed = make("div"), program = make("div");
  box.append(verdicts, ...(titled ? [program, failed] : [failed, program]));
  if (titled) verdicts.append(make("h3", data.columns[j]));
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
  const failing = sample.failing || [];
  const [first, ...more] = failing.map((each) => failingTest(each, tests, j));
  if (first) failed.append(first);
  if (more.length) failed.append(folded(fill("grid.more_failing", { n: more.length }), false, ...more));
  if (sample.not_run) failed.append(make("p", fill("grid.not_run", { n: sample.not_run }), "dim"));
  if (sample.detail && !failing.some((each) => each.error)) block(failed, w("grid.error"), text(sample.detail, j));
  if (!sample.tests && sample.v !== "AC") {
    const known = Object.values(tests);
    failed.append(make("p", w(known.length ? "grid.which_unknown" : "grid.nothing_recorded"), "dim"));
    known.forEach((test, k) => {
      const io = make("div", null, "io");
      testBlocks(io, test);
      failed.append(folded(`${w("grid.test")} ${k + 1}`, k === 0, io));
    });
  }
  if (sample.flags.length) failed.append(make("p", `${w("grid.flags")}: ${sample.flags.map((flag) => text(flag, j)).join(", ")}`, "dim"));
  program.append(make("h3", w("grid.program")));
  if (sample.program === undefined) program.append(make("p", w("grid.no_program"), "dim"));
  else program.append(lines ? code(lines) : make("pre", text(sample.program, j), "code"));
  program.append(answer(sample, j));
  return box;
};
const fillBody = (body, found, j, k) => {
  const sides = k === null ? [j] : [j, k], cells = sides.map((side) => found.cells[side].map((n) => found.samples[n]));
  const most = Math.max(1, ...cells.map((cell) => cell.length));
  for (let n = 0; n < most; n++) {
    if (most > 1) body.append(make("h3", fill("grid.sample", { n: n + 1 })));
    const box = make("div", null, k === null ? null : "two");
    const programs = cells.map((cell, s) => cell[n] && text(cell[n].program, sides[s]));
    const comparable = k !== null && programs.every((program) => program !== undefined);
    const lines = comparable ? compare(...programs) : null;
    if (comparable && !lines) body.append(make("p", w("grid.not_compared"), "dim"));
    sides.forEach((side, s) => box.append(column(cells[s][n], found.tests, side, k !== null, lines && lines[s])));
    body.append(box);
  }
  if (found.statement) body.append(folded(w("grid.statement"), true, make("pre", text(found.statement))));
  else body.append(make("p", w("grid.no_statement"), "dim"));
  if (!found.known) body.append(make("p", w("grid.no_tests"), "dim"));
};
const control = (tag, key, text) => {
  const node = make(tag, text);
  if (tag === "button") node.type = "button";
  node.dataset.key = key;
  return node;
};
// --- where the reader is: the address names problem and checkpoints, so that links, reload, back and forward work
const part = (text) => encodeURIComponent(text).replaceAll("%2F", "/");
const address = (i, j, k) =>
  `#problem=${part(data.rows[i].id)}&checkpoint=${part(data.keys[j])}${k === null ? "" : `&beside=${part(data.keys[k])}`}`;
// Opening adds one step to the history and moving about none; a closed panel leaves its step to the next.
const atProblem = () => new URLSearchParams(location.hash.slice(1)).has("problem");
const visit = (hash) => {
  const state = history.state, came = atProblem() ? "#problems" : location.hash;
  const from = panel.open && state ? state.from : came;
  history[panel.open || (state && state.closed) ? "replaceState" : "pushState"]({ from }, "", hash);
};
function go(i, j) {
  // What a link put beside one checkpoint is not meant for others.
  if (linked && j !== here[1]) [chosen, linked] = [null, false];
  here = [i, j];
  unknown.hidden = true;
  visit(address(i, j, two ? other() : null));
  open(i, j);
}
const unknown = document.getElementById("unknown");
const route = () => {
  if (!grid) return;
  const asked = new URLSearchParams(location.hash.slice(1));
  unknown.hidden = true;
  if (!asked.has("problem")) {
    if (panel.open) panel.close();
    return;
  }
  const i = data.rows.findIndex((row) => row.id === asked.get("problem"));
  const [j, k] = ["checkpoint", "beside"].map((name) => (asked.has(name) ? data.keys.indexOf(asked.get(name)) : null));
  const said = i < 0 ? ["grid.unknown_problem", "problem"] : j === -1 ? ["grid.unknown_checkpoint", "checkpoint"] : k === -1 ? ["grid.unknown_checkpoint", "beside"] : null;
  if (said) {
    if (panel.open) panel.close();
    unknown.textContent = fill(said[0], { asked: asked.get(said[1]) });
    unknown.hidden = false;
    document.getElementById("problems").scrollIntoView();
    return;
  }
  two = k !== null;
  if (two) [chosen, linked] = [k, true];
  open(i, j === null ? columns[0] : j);
};
function open(i, j) {
  here = [i, j];
  if (!panel.open) fromCell = !document.activeElement || document.activeElement === document.body || Boolean(document.activeElement.closest(".grid"));
  const k = two ? other() : null, inside = panel.contains(document.activeElement);
  const kept = inside ? document.activeElement.dataset.key : "close";
  const head = make("div", null, "panel-head"), names = make("div"), body = make("div", null, "panel-body");
  const title = make("h2", data.rows[i].title || data.rows[i].id);
  if (data.rows[i].title) title.append(" ", make("span", data.rows[i].id, "dim"));
  title.id = "panel-title";
  names.append(title, make("p", data.columns[j]));
  const step = (text, label, by) => {
    const button = control("button", label, text);
    button.title = label;
    button.setAttribute("aria-label", label);
    const next = neighbour(by);
    button.disabled = next === undefined;
    button.addEventListener("click", () => go(i, next));
    return button;
  };
  const close = control("button", "close", w("grid.close"));
  close.addEventListener("click", () => panel.close());
  head.append(names, step("←", w("grid.previous"), -1), step("→", w("grid.next"), 1));
  if (data.columns.length > 1) {
    const toggle = control("button", "two", w("grid.side_by_side"));
    toggle.setAttribute("aria-pressed", String(two));
    toggle.addEventListener("click", turn);
    head.append(toggle);
  }
  if (k !== null) {
    const label = make("label", w("grid.beside") + " "), select = control("select", "other");
    data.columns.forEach((name, c) => { if (c !== j) select.add(new Option(name, c, false, c === k)); });
    select.addEventListener("change", () => { [chosen, linked] = [Number(select.value), false]; go(i, j); });
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
const turn = () => { two = !two; go(...here); };
panel.addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], next = by && neighbour(by);
  if (event.key === "s" && data.columns.length > 1) turn();
  else if (next !== undefined) go(here[0], next);
  else return;
  event.preventDefault();
});
panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
panel.addEventListener("close", () => {
  if (atProblem()) {
    const back = history.state ? history.state.from : "#problems";
    history.replaceState({ closed: true }, "", back || location.href.split("#")[0]);
  }
  if (fromCell) focus(...here);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#problem=']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  visit(link.hash);
  route();
});
addEventListener("hashchange", route);
route();
