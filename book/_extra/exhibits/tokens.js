// Who is selected: a recorded rollout as a map of its tokens, and the sets that methods and their rivals would take.

(() => {
  "use strict";

  const f = Exhibits.formulas;
  const { announcement, choice, data, dataTable, make, percent, slider, spell } = Exhibits.kit;

  const SHADES = { covariance: "covariance", logProb: "log-probability", advantage: "advantage", entropy: "entropy" };

  async function exhibit() {
    const { responses } = await data("rollout");
    const tokens = responses.flatMap((response, row) => response.map((token) => ({ ...token, row })));
    const pool = {
      logProbs: tokens.map((t) => t.logProb),
      advantage: tokens.map((t) => t.advantage),
      entropies: tokens.map((t) => t.entropy),
    };
    pool.covariances = f.tokenCovariance(pool.logProbs, pool.advantage);
    tokens.forEach((token, i) => Object.assign(token, { covariance: pool.covariances[i] }));

    let [method, shade, fraction, low, high, coefficient, ratio, current] = ["kl", "covariance", 0.02, 1, 5, 1, 1.3, 0];
    const select = () => {
      if (method === "clip") return f.selectBand(pool.covariances, fraction, low, high);
      const scores = f.RIVALS[method === "kl" ? "covariance" : method](pool);
      return new Set([...f.selectTop(scores, fraction)].filter((i) => scores[i] > -Infinity));
    };
    let selected = select();

    const words = announcement();
    const bound = make("p", { class: "exhibit-note" });
    const table = dataTable("The selected tokens as a table");
    const detail = announcement();
    const cells = tokens.map((token, i) =>
      make("button", { type: "button", class: "exhibit-token", tabindex: i ? "-1" : "0", onclick: () => focus(i) }, token.text),
    );
    const map = make(
      "div",
      { class: "exhibit-map", role: "group", "aria-label": "Tokens of the rollout, a row per response; arrow keys move" },
      ...responses.map((_, row) => make("div", {}, ...cells.filter((cell, i) => tokens[i].row === row))),
    );
    map.addEventListener("keydown", (event) => {
      const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const across = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!along && !across) return;
      event.preventDefault();
      if (along) return focus(Math.min(Math.max(current + along, 0), tokens.length - 1));
      const row = tokens.map((t, i) => [t, i]).filter(([t]) => t.row === tokens[current].row + across);
      if (row.length) focus(row[Math.min(tokens[current].position, row.length - 1)][1]);
    });

    const explain = () => {
      const token = tokens[current];
      const terms = f.tokenTerms(ratio, token.advantage, selected.has(current), { coefficient });
      detail.textContent =
        `"${token.text}": probability ${spell(Math.exp(token.logProb))}, advantage ${spell(token.advantage, 2)}, ` +
        `covariance ${spell(token.covariance, 2)}${selected.has(current) ? ", selected" : ""}. At a ratio of ${spell(ratio, 2)} ` +
        `its term is ${spell(terms.grpo)} in GRPO, ${spell(terms.clipCov)} in Clip-Cov and ${spell(terms.klCov)} in KL-Cov.`;
    };
    const focus = (place) => {
      cells[current].tabIndex = -1;
      current = place;
      cells[place].tabIndex = 0;
      cells[place].focus({ preventScroll: true });
      explain();
    };
    const refresh = () => {
      selected = select();
      const values = tokens.map((token) => token[shade]);
      const [least, most] = [Math.min(...values), Math.max(...values)];
      const largest = Math.max(-least, most) || 1;
      cells.forEach((cell, i) => {
        const strength = Math.min(1, Math.sqrt(Math.abs(values[i]) / largest));
        cell.style.setProperty("--shade", `${Math.round(75 * strength)}%`);
        cell.classList.toggle("negative", values[i] < 0);
        cell.classList.toggle("selected", selected.has(i));
        cell.setAttribute("aria-pressed", selected.has(i));
      });
      const taken = [...selected].sort((i, k) => pool.covariances[k] - pool.covariances[i]).map((i) => tokens[i]);
      const positive = taken.filter((token) => token.advantage > 0).length;
      words.textContent =
        `${taken.length} of ${tokens.length} tokens (${percent(taken.length / tokens.length, 1)}) are selected; ` +
        `${positive} of them have a positive advantage.`;
      bound.textContent =
        `No token of positive advantage can have a covariance above ${spell(f.positiveBound(pool.logProbs, pool.advantage), 2)} ` +
        "here: the largest advantage above the mean, times the mean of \u2212log p, for no log-probability is above 0.";
      table.update(
        ["token", "probability", "advantage", "covariance"],
        taken.slice(0, 50).map((t) => [t.text, spell(Math.exp(t.logProb)), spell(t.advantage, 2), spell(t.covariance, 2)]),
      );
      explain();
    };
    const methods = { kl: "KL-Cov: highest covariance", clip: "Clip-Cov: a draw from the band" };
    for (const rival of Object.keys(f.RIVALS).slice(1)) methods[rival] = `rival: ${rival}`;
    const set = (change) => (value) => {
      change(value);
      refresh();
    };
    const controls = [
      choice("selector", methods, method, set((value) => (method = value))),
      choice("shade by", SHADES, shade, set((value) => (shade = value))),
      slider("fraction", {
        ...{ min: -4, max: -0.5, step: 0.05, value: Math.log10(fraction) },
        spell: (v) => percent(10 ** v, 2),
        oninput: set((value) => (fraction = Number((10 ** value).toPrecision(3)))),
      }),
      slider("band from", { min: 0, max: 5, step: 0.1, value: low, spell: (v) => spell(v, 1), oninput: set((v) => (low = v)) }),
      slider("band to", { min: 0, max: 8, step: 0.1, value: high, spell: (v) => spell(v, 1), oninput: set((v) => (high = v)) }),
      slider("KL-Cov's coefficient", { min: 0, max: 5, step: 0.1, value: coefficient, spell: (v) => spell(v, 1), oninput: set((v) => (coefficient = v)) }),
      slider("ratio of new to old", { min: 0.2, max: 3, step: 0.05, value: ratio, spell: (v) => spell(v, 2), oninput: set((v) => (ratio = v)) }),
    ];
    refresh();
    return make("div", {}, make("div", { class: "exhibit-controls" }, ...controls), map, words, detail, bound, table);
  }

  Exhibits.tokens = exhibit;
})();
