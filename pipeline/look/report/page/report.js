"use strict";
(() => {
  const root = document.documentElement;
  const drawn = new Set();
  const colours = () => {
    const style = getComputedStyle(root);
    return (name) => style.getPropertyValue("--" + name.slice(1)).trim();
  };
  const filled = (value, colour, name = "") => { // a host may be called $kept, too
    if (typeof value === "string") return name.endsWith("color") && value.startsWith("$") ? colour(value) : value;
    if (Array.isArray(value)) return value.map((one) => filled(one, colour, name));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, filled(one, colour, key)]));
    }
    return value;
  };
  const draw = (place) => {
    const figure = JSON.parse(document.getElementById("data-" + place.dataset.chart).textContent);
    const colour = colours();
    const { data, layout } = filled(figure, colour);
    const text = colour("$text"), line = colour("$line"), muted = colour("$muted");
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { color: muted, size: 11 } };
    const whole = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, family: getComputedStyle(document.body).fontFamily, size: 12 },
      hoverlabel: { bgcolor: colour("$card"), bordercolor: line, font: { color: text }, align: "left" },
      ...layout, autosize: true,
      xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
    };
    drawn.add(place);
    place.style.minHeight = layout.height + "px";
    return Plotly.react(place, data, whole, { displayModeBar: false }).then(() => {
      place.dataset.drawn = "yes";
      sized.observe(place);
    });
  };
  const widths = new Map();
  const sized = new ResizeObserver((entries) => entries.forEach(({ target, contentRect }) => {
    const before = widths.get(target);
    widths.set(target, contentRect.width);
    if (before && contentRect.width && before !== contentRect.width) Plotly.Plots.resize(target);
  }));
  const shown = (place) => place.offsetParent !== null;
  const places = [...document.querySelectorAll("[data-chart]")];
  const next = () => {
    const place = places.find((one) => !drawn.has(one) && shown(one));
    if (!place) { root.dataset.ready = "yes"; return; }
    draw(place).then(() => setTimeout(next, 0));
  };
  next();
  document.addEventListener("toggle", next, true);
  window.addEventListener("resize", next);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));

  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const number = Number(text.replace(/[,%\s]/g, ""));
    return text === "" || text === "–" ? -Infinity : Number.isNaN(number) ? text : number;
  };
  document.querySelectorAll("table.sort").forEach((table) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => head.addEventListener("click", () => {
      const first = head.classList.contains("r") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      [...table.tHead.rows[0].cells].forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (typeof x === typeof y) return sign * (x < y ? -1 : x > y ? 1 : 0);
        return typeof x === "number" ? -1 : 1;
      });
      body.append(...rows);
    }));
  });
  const opened = () => {
    const place = location.hash && document.getElementById(location.hash.slice(1));
    for (let one = place; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    if (place) place.scrollIntoView();
  };
  window.addEventListener("hashchange", opened);
  opened();
  window.addEventListener("beforeprint", next);
  const links = [...document.querySelectorAll("nav a")];
  const watch = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (!entry.isIntersecting) return;
    links.forEach((link) => link.classList.toggle("here", link.hash === "#" + entry.target.id));
  }), { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("section").forEach((section) => watch.observe(section));
})();
