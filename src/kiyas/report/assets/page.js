"use strict";
// Texts from models reach the page only through textContent; nothing here builds markup from strings.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const w = (key) => data.words[key] || key;
  const fill = (key, values) => w(key).replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
  const make = (tag, text, className) => {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const safe = (verdict) => (/^[A-Za-z]+$/.test(verdict) ? verdict : "missing");

  // --- theme and charts
  const root = document.documentElement;
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (wanted.matches ? "dark" : "light")) === "dark";
  try { const kept = localStorage.getItem("kiyas-theme"); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch (_) { /* no storage for files */ }

  const themed = (spec) => {
    const copy = JSON.parse(JSON.stringify(spec));
    const c = copy.config;
    const style = getComputedStyle(root);
    const [ink, dim, line] = ["--ink", "--dim", "--line"].map((name) => style.getPropertyValue(name).trim());
    c.background = "transparent";
    Object.assign(c.axis, { gridColor: line, domainColor: line, tickColor: line, labelColor: dim, titleColor: dim });
    Object.assign(c.legend, { labelColor: ink });
    c.text = Object.assign(c.text || {}, { color: ink });
    copy.width = "container";
    return copy;
  };
  let drawing = 0;
  const draw = async () => {
    const mine = ++drawing;
    for (const figure of document.querySelectorAll("figure[data-chart]")) {
      if (mine !== drawing || !window.kiyasEmbed) return;
      const plot = figure.querySelector(".plot");
      try {
        await window.kiyasEmbed(plot, themed(data.charts[figure.dataset.chart]), {
          ast: true, actions: false, renderer: "svg", tooltip: { theme: dark() ? "dark" : "light" },
        });
        figure.dataset.drawn = "yes";
      } catch (error) {
        figure.dataset.drawn = "no";
        console.error(error);
      }
    }
    document.body.dataset.ready = "yes";
  };
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("kiyas-theme", root.dataset.theme); } catch (_) { /* as above */ }
    draw();
  });
  wanted.addEventListener("change", draw);

  // --- colours that belong to data; the style object is allowed where style attributes would be untidy
  for (const chip of document.querySelectorAll("[data-colour]")) chip.style.background = chip.dataset.colour;
  for (const cell of document.querySelectorAll("[data-share]")) cell.style.setProperty("--share", cell.dataset.share + "%");

  // --- where am I
  const links = [...document.querySelectorAll("nav a")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting)
      links.forEach((a) => a.classList.toggle("here", a.hash === "#" + entry.target.id));
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => seen.observe(section));

  // --- the grid
  const grid = document.querySelector("table.grid");
  const at = (i, j) => grid && grid.querySelector(`td[data-at="${i},${j}"]`);
  const place = (cell) => cell.dataset.at.split(",").map(Number);
  const shownRow = (i) => { const cell = at(i, 0); return cell && !cell.parentElement.hidden; };
  const focus = (cell) => {
    if (!cell) return;
    grid.querySelectorAll("td[tabindex='0']").forEach((old) => { old.tabIndex = -1; });
    cell.tabIndex = 0;
    cell.focus();
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  if (grid) {
    const rows = data.problems.length, columns = data.columns.length;
    grid.addEventListener("click", (event) => { const cell = event.target.closest("td.v"); if (cell) { focus(cell); open(...place(cell)); } });
    grid.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td.v");
      if (!cell) return;
      let [i, j] = place(cell);
      const down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (event.key === "Enter" || event.key === " ") open(i, j);
      else if (down) { do i += down; while (i >= 0 && i < rows && !shownRow(i)); focus(at(i, j)); }
      else if (event.key === "ArrowRight") focus(at(i, Math.min(columns - 1, j + 1)));
      else if (event.key === "ArrowLeft") focus(at(i, Math.max(0, j - 1)));
      else if (event.key === "Home") focus(at(i, 0));
      else if (event.key === "End") focus(at(i, columns - 1));
      else return;
      event.preventDefault();
    });
    document.querySelectorAll("input[name=filter]").forEach((input) => input.addEventListener("change", () => {
      grid.querySelectorAll("tbody tr").forEach((row) => { row.hidden = input.value !== "all" && row.dataset.kind !== input.value; });
      const first = [...grid.querySelectorAll("tbody tr")].find((row) => !row.hidden);
      grid.querySelectorAll("td[tabindex='0']").forEach((old) => { old.tabIndex = -1; });
      if (first) first.querySelector("td.v").tabIndex = 0;
    }));
  }

  // --- the panel: one cell's program, tests and error
  const panel = document.getElementById("panel");
  let here = [0, 0];
  const block = (parent, title, text, className) => {
    if (text === null || text === undefined) return;
    const box = make("div");
    box.append(make("h4", title), make("pre", text, className));
    parent.append(box);
  };
  const sample = (body, shown, problem, n, several) => {
    const head = make("p");
    head.append(make("span", shown.v, "pill v " + safe(shown.v)), make("span", w("verdict." + shown.v)));
    if (shown.total) head.append(make("span", " · " + fill("grid.passed", shown), "dim"));
    if (several) body.append(make("h3", fill("grid.sample", { n: n + 1 })));
    body.append(head);
    if (shown.tests && shown.tests.length > 1) {
      const dots = make("div", null, "dots");
      shown.tests.forEach((verdict, k) => dots.append(make("span", `${k + 1} ${verdict}`, "v " + safe(verdict))));
      body.append(dots);
    }
    const failing = shown.failing;
    if (failing) {
      body.append(make("h3", `${w("grid.failing_test")} ${failing.n}: ${failing.v} (${w("verdict." + failing.v)})`));
      const io = make("div", null, "io");
      block(io, w("grid.input"), failing.input);
      block(io, w("grid.expected"), failing.expected);
      block(io, w("grid.got"), failing.got);
      body.append(io);
      block(body, w("grid.error"), failing.error);
    }
    if (shown.detail && !(failing && failing.error)) block(body, w("grid.error"), shown.detail);
    if (!shown.tests && shown.v !== "AC") {
      body.append(make("p", w(problem.tests.length ? "grid.which_unknown" : "grid.nothing_recorded"), "dim"));
      problem.tests.forEach(([given, expected]) => {
        const io = make("div", null, "io");
        block(io, w("grid.input"), given);
        block(io, w("grid.expected"), expected);
        body.append(io);
      });
    }
    if (shown.flags && shown.flags.length) body.append(make("p", `${w("grid.flags")}: ${shown.flags.join(", ")}`, "dim"));
    body.append(make("h3", w("grid.program")));
    if (shown.p === null) {
      body.append(make("p", w("grid.no_program"), "dim"));
      if (shown.answer >= 0 && data.texts[shown.answer]) block(body, w("grid.answer"), data.texts[shown.answer]);
    } else if (shown.p < 0) body.append(make("p", w("grid.left_out"), "dim"));
    else body.append(make("pre", data.texts[shown.p], "code"));
  };
  function open(i, j) {
    here = [i, j];
    const problem = data.problems[i], samples = data.cells[i][j];
    panel.replaceChildren();
    const head = make("div", null, "panel-head"), names = make("div");
    names.style.flex = "1";
    const title = make("h2", `${problem.id} ${problem.title}`.trim());
    title.id = "panel-title";
    names.append(title, make("p", data.columns[j]));
    const step = (text, label, by) => {
      const button = make("button", text);
      button.type = "button";
      button.title = label;
      button.setAttribute("aria-label", label);
      button.disabled = j + by < 0 || j + by >= data.columns.length;
      button.addEventListener("click", () => open(i, j + by));
      return button;
    };
    const close = make("button", w("grid.close"));
    close.type = "button";
    close.addEventListener("click", () => panel.close());
    head.append(names, step("←", w("grid.previous"), -1), step("→", w("grid.next"), 1), close);
    const body = make("div", null, "panel-body");
    if (!samples.length) body.append(make("p", w("verdict.missing")));
    samples.forEach((shown, n) => sample(body, shown, problem, n, samples.length > 1));
    if (problem.statement) {
      const details = make("details");
      details.append(make("summary", w("grid.statement")), make("pre", problem.statement));
      details.open = true;
      body.append(details);
    }
    panel.append(head, body);
    if (!panel.open) panel.showModal();
    panel.scrollTop = 0;
    close.focus();
  }
  panel.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && here[1] + by >= 0 && here[1] + by < data.columns.length) { open(here[0], here[1] + by); event.preventDefault(); }
  });
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
  panel.addEventListener("close", () => focus(at(...here)));

  draw();
})();
