// Texts from models reach the page only through textContent; nothing here builds markup from strings.
const data = JSON.parse(document.getElementById("page-data").textContent);
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
  c.mark = c.rule = { color: ink };
  copy.width = "container";
  return copy;
};
let drawing = 0;
const views = new Map(), seeds = document.getElementById("seeds");
const withSeeds = () => !seeds || seeds.checked;
const isFolded = (node) => node.closest("details:not([open])") !== null;
// A folded chart has no width; it is drawn when it is opened.
const draw = async () => {
  const mine = ++drawing;
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    if (mine !== drawing || !window.kiyasEmbed) return;
    if (isFolded(figure)) { delete figure.dataset.drawn; continue; }
    const plot = figure.querySelector(".plot");
    try {
      const made = await window.kiyasEmbed(plot, themed(data.charts[figure.dataset.chart]), {
        ast: true, actions: false, renderer: "svg", tooltip: { theme: dark() ? "dark" : "light" },
      });
      views.set(figure, made.view);
      // The label of the plot says it all; single marks would be read one by one.
      for (const child of plot.children) child.setAttribute("aria-hidden", "true");
      await made.view.signal("seeds", withSeeds()).runAsync();
      figure.dataset.drawn = "yes";
    } catch (error) {
      figure.dataset.drawn = "no";
      console.error(error);
    }
  }
  document.body.dataset.ready = "yes";
};
for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", () => {
  if ([...details.querySelectorAll("figure[data-chart]:not([data-drawn])")].some((figure) => !isFolded(figure))) draw();
});
if (seeds) seeds.addEventListener("change", () => {
  for (const view of views.values()) view.signal("seeds", withSeeds()).runAsync();
});
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  try { localStorage.setItem("kiyas-theme", root.dataset.theme); } catch (_) { /* as above */ }
  draw();
});
wanted.addEventListener("change", draw);

// --- where am I
const links = [...document.querySelectorAll("nav a")];
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) for (const a of links) {
    const here = a.hash === "#" + entry.target.id;
    a.classList.toggle("here", here);
    if (here) a.parentElement.scrollTo({ left: a.offsetLeft - a.parentElement.offsetLeft - 24 });
  }
}, { rootMargin: "-20% 0px -70% 0px" });
document.querySelectorAll("main > section").forEach((section) => seen.observe(section));

// --- what a link leads to is opened
const unfold = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (const part of target.querySelectorAll(":scope > details.part")) part.open = true;
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
for (const link of links) link.addEventListener("click", () => { if (link.hash === location.hash) unfold(); });
unfold();

// --- tables wider than the screen say so
const cue = new ResizeObserver((entries) => {
  for (const { target } of entries) target.classList.toggle("wide-table", target.scrollWidth > target.clientWidth + 1);
});
document.querySelectorAll(".scroll").forEach((box) => cue.observe(box));
