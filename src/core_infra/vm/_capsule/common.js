const page = document.getElementById("page");
function make(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}
function add(parent, ...found) { parent.append(...found); return parent; }
function heading(text) { page.append(make("h2", "", text)); }
function moment(unix) { return new Date(unix * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC"; }

// A timeline that zooms, with lanes of the given names, from 0 to *end* seconds. paint(bar) draws it:
// bar(lane, from, took, key, title, attributes, least pixels). A click on a bar calls chosen(key). Returns mark(key).
function timeline(name, lanes, end, note, paint, chosen) {
  const ns = "http://www.w3.org/2000/svg", chart = make("div"), controls = make("div", "bar");
  const lane = 26, top = 20, left = lanes.length > 1 ? 70 : 10, right = 12, height = top + lane * lanes.length + 8;
  let zoom = 1, marked;
  function put(parent, tag, attributes, text) {
    const e = document.createElementNS(ns, tag);
    for (const key in attributes) e.setAttribute(key, attributes[key]);
    if (text !== undefined) e.textContent = text;
    parent.append(e);
    return e;
  }
  function draw() {
    const width = Math.max(280, chart.clientWidth) * zoom, x = t => left + t / end * (width - left - right);
    const svg = document.createElementNS(ns, "svg");
    for (const [key, value] of [["width", width], ["height", height], ["role", "img"], ["aria-label", name]]) svg.setAttribute(key, value);
    const raw = end / (width / 90), power = 10 ** Math.floor(Math.log10(raw)), unit = [1, 2, 5, 10].map(n => n * power).find(n => n >= raw);
    for (let t = 0; t <= end; t += unit) {
      put(svg, "line", { x1: x(t), x2: x(t), y1: top - 4, y2: height });
      put(svg, "text", { x: x(t) + 3, y: 12 }, +t.toFixed(4) + " s");
    }
    if (lanes.length > 1) lanes.forEach((text, n) => put(svg, "text", { x: 4, y: top + n * lane + 17 }, text));
    paint((row, from, took, key, title, attributes, least = 3) => {
      const place = { x: x(from), y: top + row * lane + 3, width: Math.max(least, x(from + took) - x(from)), height: lane - 8, rx: 2, "data-key": key };
      const bar = put(svg, "rect", { ...place, ...attributes });
      put(bar, "title", {}, title);
      bar.addEventListener("click", () => chosen(key));
    });
    chart.replaceChildren(svg);
    mark(marked);
  }
  function mark(key) {
    marked = key;
    chart.querySelectorAll("rect").forEach(e => e.classList.toggle("on", e.dataset.key === String(key)));
  }
  function scale(factor) {
    const middle = (chart.scrollLeft + chart.clientWidth / 2) / chart.scrollWidth;
    zoom = factor ? Math.min(200, Math.max(1, zoom * factor)) : 1;
    draw();
    chart.scrollLeft = middle * chart.scrollWidth - chart.clientWidth / 2;
  }
  for (const [sign, factor, label] of [["+", 2, "zoom in"], ["−", 0.5, "zoom out"], ["all", 0, "show all"]]) {
    const button = make("button", "", sign);
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => scale(factor));
    controls.append(button);
  }
  controls.append(make("span", "dim", note));
  chart.id = "chart";
  chart.tabIndex = 0;  // the arrow keys scroll it
  chart.setAttribute("role", "region");
  chart.setAttribute("aria-label", name);
  chart.addEventListener("wheel", e => { if (e.ctrlKey) { e.preventDefault(); scale(e.deltaY < 0 ? 1.3 : 1 / 1.3); } }, { passive: false });
  page.append(controls, chart);
  draw();
  new ResizeObserver(draw).observe(page);
  return mark;
}
