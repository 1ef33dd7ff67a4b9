// What the exhibits share: controls, drawings that follow the page's width and colours, tables of what is drawn.

(() => {
  "use strict";

  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

  /** An element with attributes and children; null children are left out. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  let labels = 0;

  /** A slider with its label and its value in words. */
  function slider(label, { min, max, step, value, spell = String, oninput }) {
    const id = `exhibit-${(labels += 1)}`;
    const shown = make("output", { for: id }, spell(value));
    const input = make("input", { id, type: "range", min, max, step, value, "aria-valuetext": spell(value) });
    input.addEventListener("input", () => {
      const now = Number(input.value);
      shown.textContent = spell(now);
      input.setAttribute("aria-valuetext", spell(now));
      oninput(now);
    });
    const row = make("div", { class: "exhibit-control" }, make("label", { for: id }, label), input, shown);
    row.set = (now) => {
      input.value = now;
      shown.textContent = spell(now);
      input.setAttribute("aria-valuetext", spell(now));
    };
    return row;
  }

  /** A choice among a few. `options` maps values to words. */
  function choice(label, options, value, onchange) {
    const id = `exhibit-${(labels += 1)}`;
    const entries = Object.entries(options).map(([key, words]) =>
      make("option", { value: key, selected: key === value }, words),
    );
    const select = make("select", { id, onchange: () => onchange(select.value) }, ...entries);
    return make("div", { class: "exhibit-control" }, make("label", { for: id }, label), select);
  }

  const button = (label, onclick) => make("button", { type: "button", onclick }, label);

  /** A folded table of the numbers behind a drawing; `update(columns, rows)` fills it. */
  function dataTable(title = "The numbers as a table") {
    const body = make("div", { class: "exhibit-table", tabindex: "0", role: "region", "aria-label": title });
    const element = make("details", {}, make("summary", {}, title), body);
    element.update = (columns, rows) => {
      const cells = (values, tag) => make("tr", {}, ...values.map((value) => make(tag, {}, value)));
      body.replaceChildren(
        make("table", {}, make("thead", {}, cells(columns, "th")), make("tbody", {}, ...rows.map((row) => cells(row, "td")))),
      );
    };
    return element;
  }

  /** A place for a drawing that is made again when its width changes. `draw(width)` gives an element. */
  function canvas(describe, draw) {
    const element = make("div", { class: "exhibit-canvas", role: "img" });
    let width = 0;
    element.redraw = () => {
      if (!width) return;
      element.setAttribute("aria-label", describe());
      element.replaceChildren(draw(width));
      // The drawing has one description; those that Plot gives its groups say less, where no role allows them.
      for (const part of element.querySelectorAll("svg [aria-label]")) part.removeAttribute("aria-label");
    };
    new ResizeObserver(([entry]) => {
      const now = Math.floor(entry.contentRect.width);
      if (now && now !== width) {
        width = now;
        element.redraw();
      }
    }).observe(element);
    return element;
  }

  /** A line that screen readers are told when it changes. */
  function announcement() {
    return make("p", { class: "exhibit-words", role: "status", "aria-live": "polite" });
  }

  /** Numbers in words: three digits, a real minus sign. */
  function spell(value, digits = 3) {
    if (!Number.isFinite(value)) return "none";
    const text = Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(1) : value.toFixed(digits);
    return text.replace("-", "\u2212");
  }

  const percent = (share, digits = 0) => `${(100 * share).toFixed(digits).replace("-", "\u2212")} %`;

  /** The data of that name: a script, not JSON, so that a book opened from a folder can load it too. */
  const data = async (name) => {
    await Exhibits.load(`data/${name}`);
    return Exhibits.data[name];
  };

  Exhibits.kit = { calm, make, slider, choice, button, dataTable, canvas, announcement, spell, percent, data };
})();
