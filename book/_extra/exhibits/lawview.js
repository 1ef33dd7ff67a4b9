// One run against its entropy and against its steps, with the law, the sigmoid and the last value, for a part seen.

(() => {
  "use strict";

  const f = Exhibits.formulas;
  const { announcement, canvas, dataTable, make, slider, spell } = Exhibits.kit;
  const Plot = Exhibits.Plot;

  const attempt = (fit) => {
    try {
      return fit();
    } catch {
      return null;
    }
  };

  /** A view whose `show(points, title)` takes points {step, entropy, reward} in the order of training. */
  function lawView() {
    let [points, title, share] = [[], "", 0.2];
    let state = null;

    const measure = () => {
      const count = Math.max(3, Math.round(share * points.length));
      const [seen, rest] = [points.slice(0, count), points.slice(count)];
      const [entropies, rewards] = [seen.map((p) => p.entropy), seen.map((p) => p.reward)];
      const law = attempt(() => f.fitLaw(entropies, rewards));
      const sigmoid = f.fitSigmoid(seen.map((p) => p.step), rewards);
      const last = rewards[rewards.length - 1];
      const forms = {
        law: law && ((p) => law.predict(p.entropy)),
        sigmoid: sigmoid && ((p) => sigmoid.predict(p.step)),
        "last value": () => last,
      };
      const errors = Object.entries(forms).map(([name, predict]) => {
        const misses = predict ? rest.map((p) => predict(p) - p.reward) : [];
        return { name, predict, rmse: misses.length ? Math.sqrt(f.mean(misses.map((miss) => miss * miss))) : NaN };
      });
      const interval = law && f.ceilingInterval(entropies, law);
      return { count, law, errors, interval };
    };

    const words = announcement();
    const table = dataTable("How each form does on the rest");
    const byEntropy = canvas(
      () => `${title}: score against entropy, with the law fitted to the first ${state.count} of ${points.length} points`,
      (width) => {
        const top = Math.max(...points.map((p) => p.entropy));
        const curve = Array.from({ length: 60 }, (_, i) => (i * top) / 59);
        return Plot.plot({
          width,
          height: 240,
          marginLeft: 48,
          x: { label: "entropy (nat)", reverse: true, grid: true },
          y: { label: "score", grid: true, nice: true },
          marks: [
            state.interval && Plot.link([state.interval], { x1: 0, x2: 0, y1: (i) => i[0], y2: (i) => i[1], stroke: "var(--hue-orange)", strokeWidth: 5, strokeOpacity: 0.5 }),
            state.law && Plot.line(curve, { x: (h) => h, y: state.law.predict, stroke: "var(--hue-orange)" }),
            Plot.dot(points, { x: "entropy", y: "reward", r: 3, stroke: "var(--hue-blue)", fill: (p, i) => (i < state.count ? "var(--hue-blue)" : "none") }),
          ].filter(Boolean),
        });
      },
    );
    const byStep = canvas(
      () => `${title}: score against steps; the rest as the law, a sigmoid and the last value predict it`,
      (width) => {
        const rest = points.slice(Math.max(0, state.count - 1));
        const marks = state.errors.filter(({ predict }) => predict).map(({ name, predict }) =>
          Plot.line(rest, { x: "step", y: predict, stroke: () => name, strokeDasharray: name === "law" ? null : "5 3" }),
        );
        return Plot.plot({
          width,
          height: 240,
          marginLeft: 48,
          x: { label: "step", grid: true },
          y: { label: "score", grid: true, nice: true },
          color: { domain: ["law", "sigmoid", "last value"], range: ["var(--hue-orange)", "var(--hue-green)", "var(--hue-pink)"], legend: true },
          marks: [
            Plot.ruleX([points[state.count - 1].step], { strokeDasharray: "2 3" }),
            ...marks,
            Plot.dot(points, { x: "step", y: "reward", r: 2.5, stroke: "var(--hue-blue)", fill: (p, i) => (i < state.count ? "var(--hue-blue)" : "none") }),
          ],
        });
      },
    );

    const refresh = () => {
      state = measure();
      const { law, interval, errors, count } = state;
      words.textContent = law
        ? `From ${count} of ${points.length} points: a = ${spell(law.a)}, b = ${spell(law.b)}, ceiling b \u2212 a = ${spell(law.ceiling)}` +
          (interval ? ` (${spell(interval[0])} to ${spell(interval[1])}).` : " (an interval needs eight points).")
        : "Entropy does not vary over what is seen, so the law cannot be fitted.";
      table.update(["form", "root mean square error on the rest"], errors.map(({ name, rmse }) => [name, spell(rmse, 4)]));
      for (const drawing of [byEntropy, byStep]) drawing.redraw();
    };
    const seen = slider("how much is seen", {
      ...{ min: 0.05, max: 1, step: 0.01, value: share, spell: (v) => `${Math.round(100 * v)} %` },
      oninput: (value) => {
        share = value;
        refresh();
      },
    });
    const element = make(
      "div",
      {},
      make("div", { class: "exhibit-controls" }, seen),
      make("div", { class: "exhibit-columns" }, byEntropy, byStep),
      words,
      make("p", { class: "exhibit-note" }, "The law is told the entropy of the points that it predicts, as in the paper; the sigmoid and the last value are not. The thick bar is the 95 % interval of the ceiling along this one run."),
      table,
    );
    const show = (newPoints, newTitle) => {
      [points, title] = [newPoints, newTitle];
      refresh();
    };
    return { element, show };
  }

  Exhibits.lawview = { lawView };
})();
