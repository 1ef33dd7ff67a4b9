// A softmax policy you can push: entropy, the covariance's prediction of its change, and the change that happens.

(() => {
  "use strict";

  const f = Exhibits.formulas;
  const { announcement, button, calm, canvas, choice, data, dataTable, make, slider, spell } = Exhibits.kit;
  const Plot = Exhibits.Plot;

  const QUADRANTS = {
    exploit: "exploit: likely and good, entropy falls",
    explore: "explore: unlikely and good, entropy rises",
    correct: "correct: likely and bad, entropy rises",
    confirm: "confirm: unlikely and bad, entropy falls",
  };

  async function exhibit() {
    const { actions: NAMES, ...START } = await data("policy");
    let { logits, rewards, step } = structuredClone(START);
    let [natural, made, timer] = [false, 0, null];
    let path = [f.entropy(logits)];
    let foretold = [f.entropy(logits)];

    const look = () => {
      const advantage = f.advantages(logits, rewards);
      const delta = f.logitChange(logits, advantage, step, natural);
      const logP = f.logPolicy(logits);
      const meanLogP = -f.entropy(logits);
      const shares = f.covarianceTerms(logits, logP, delta);
      const { predicted, exact, moved } = f.entropyChange(logits, delta);
      const actions = NAMES.map((name, a) => ({
        name,
        probability: Math.exp(logP[a]),
        advantage: advantage[a],
        change: -shares[a],
        quadrant: f.quadrant(logP[a] - meanLogP, advantage[a]),
      }));
      return { actions, predicted, exact, moved };
    };

    const words = announcement();
    const table = dataTable();
    const bars = canvas(
      () => `Bars: ${look().actions.map(({ name, probability }) => `${name} ${spell(probability, 2)}`).join(", ")}`,
      (width) =>
        Plot.plot({
          width,
          height: 190,
          marginLeft: 44,
          x: { label: null, domain: NAMES },
          y: { label: "probability", domain: [0, 1], ticks: 4, grid: true },
          marks: [
            Plot.barY(look().actions, { x: "name", y: "probability", fill: "var(--hue-blue)" }),
            Plot.ruleY([0]),
            Plot.text(look().actions, { x: "name", y: "probability", text: (a) => a.quadrant, dy: -8, fill: "currentColor" }),
          ],
        }),
    );
    const effects = canvas(
      () => `Shares of the entropy change: ${look().actions.map(({ name, change }) => `${name} ${spell(change)}`).join(", ")}`,
      (width) =>
        Plot.plot({
          width,
          height: 150,
          marginLeft: 44,
          x: { label: null, domain: NAMES },
          y: { label: "share of the entropy change (nat)", ticks: 4, grid: true, nice: true },
          marks: [
            Plot.barY(look().actions, {
              x: "name",
              y: "change",
              fill: (a) => (a.change < 0 ? "var(--hue-orange)" : "var(--hue-green)"),
            }),
            Plot.ruleY([0]),
          ],
        }),
    );
    const history = canvas(
      () => `Entropy over ${made} steps: from ${spell(path[0])} to ${spell(path[path.length - 1])} nat`,
      (width) =>
        Plot.plot({
          width,
          height: 170,
          marginLeft: 44,
          x: { label: "step", domain: [0, Math.max(10, made)], tickFormat: "d" },
          y: { label: "entropy (nat)", domain: [0, Math.log(NAMES.length)], grid: true, ticks: 4 },
          marks: [
            Plot.line(foretold.map((y, x) => ({ x, y })), { x: "x", y: "y", stroke: "var(--hue-orange)", strokeDasharray: "4 3" }),
            Plot.line(path.map((y, x) => ({ x, y })), { x: "x", y: "y", stroke: "var(--hue-blue)", strokeWidth: 2 }),
          ],
        }),
    );

    const show = () => {
      const { actions, predicted, exact } = look();
      words.textContent =
        `Entropy is ${spell(f.entropy(logits))} nat. The next step changes it by ${spell(exact, 4)}; ` +
        `the covariance predicts ${spell(predicted, 4)}.`;
      table.update(
        ["action", "probability", "advantage", "quadrant", "share of the change (nat)"],
        actions.map((a) => [a.name, spell(a.probability), spell(a.advantage), QUADRANTS[a.quadrant], spell(a.change, 4)]),
      );
      for (const drawing of [bars, effects, history]) drawing.redraw();
    };

    const advance = () => {
      const { predicted, moved } = look();
      foretold = [...foretold, path[path.length - 1] + predicted];
      logits = moved;
      path = [...path, f.entropy(logits)];
      made += 1;
      show();
    };
    const begin = () => {
      [made, path, foretold] = [0, [f.entropy(logits)], [f.entropy(logits)]];
      show();
    };
    const play = button("Play", () => {
      if (timer) return stop();
      play.textContent = "Pause";
      timer = setInterval(() => (made < 200 ? advance() : stop()), calm ? 600 : 120);
    });
    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    };

    const sliders = NAMES.map((name, a) => [
      slider(`logit of ${name}`, {
        ...{ min: -4, max: 4, step: 0.1, value: logits[a], spell: (v) => spell(v, 1) },
        oninput: (value) => {
          logits = logits.map((logit, k) => (k === a ? value : logit));
          begin();
        },
      }),
      slider(`reward of ${name}`, {
        ...{ min: 0, max: 1, step: 0.05, value: rewards[a], spell: (v) => spell(v, 2) },
        oninput: (value) => {
          rewards = rewards.map((reward, k) => (k === a ? value : reward));
          begin();
        },
      }),
    ]);
    const reset = button("Start again", () => {
      stop();
      ({ logits, rewards } = structuredClone(START));
      sliders.forEach(([logit, reward], a) => {
        logit.set(logits[a]);
        reward.set(rewards[a]);
      });
      begin();
    });
    const settings = [
      choice("gradient", { policy: "policy gradient", natural: "natural policy gradient" }, "policy", (value) => {
        natural = value === "natural";
        begin();
      }),
      slider("size of a step", {
        ...{ min: 0.05, max: 3, step: 0.05, value: step, spell: (v) => spell(v, 2) },
        oninput: (value) => {
          step = value;
          begin();
        },
      }),
    ];
    show();
    return make(
      "div",
      {},
      make("div", { class: "exhibit-columns" }, make("div", {}, bars, effects), make("div", {}, history, words)),
      make("div", { class: "exhibit-buttons" }, button("One step", advance), play, reset),
      make("div", { class: "exhibit-controls" }, ...settings),
      make("details", {}, make("summary", {}, "Logits and rewards"), make("div", { class: "exhibit-controls" }, ...sliders.flat())),
      table,
    );
  }

  Exhibits.policy = exhibit;
})();
