// Training replayed: entropy and accuracy of the study's methods, up to the step where the slider stands.

(() => {
  "use strict";

  const { announcement, button, calm, canvas, choice, data, dataTable, make, percent, slider, spell } = Exhibits.kit;
  const Plot = Exhibits.Plot;

  async function exhibit() {
    const groups = await data("curves");
    const names = Object.keys(groups);
    let [group, place, timer] = [names[0], 0, null];
    const arms = () => groups[group].arms;
    const steps = () => groups[group].steps;

    const words = announcement();
    const table = dataTable();
    const panel = (quantity, label, format) =>
      canvas(
        () => `${label} of ${arms().map((arm) => arm.title).join(", ")} up to step ${steps()[place]}`,
        (width) => {
          const points = arms().flatMap(({ title, [quantity]: values }) =>
            values.slice(0, place + 1).map((value, i) => ({ title, step: steps()[i], value })),
          );
          const all = arms().flatMap((arm) => arm[quantity]);
          return Plot.plot({
            width,
            height: 230,
            marginLeft: 48,
            x: { label: "step", domain: [0, steps()[steps().length - 1]] },
            y: { label, grid: true, domain: [Math.min(0, ...all), Math.max(...all)], nice: true, tickFormat: format },
            color: { legend: quantity === "entropy", domain: arms().map((arm) => arm.title), range: arms().map((arm) => arm.colour) },
            marks: [
              Plot.line(points, { x: "step", y: "value", stroke: "title", strokeWidth: 2 }),
              Plot.dot(points.filter(({ step }) => step === steps()[place]), { x: "step", y: "value", fill: "title", r: 3 }),
            ],
          });
        },
      );
    const drawings = [panel("entropy", "entropy (nat)"), panel("accuracy", "accuracy", "%")];

    const show = () => {
      words.textContent = `Step ${steps()[place]}: ${arms()
        .map((arm) => `${arm.title} ${spell(arm.entropy[place])} nat, ${percent(arm.accuracy[place])}`)
        .join("; ")}.`;
      table.update(
        ["step", ...arms().flatMap((arm) => [`${arm.title}, entropy (nat)`, `${arm.title}, accuracy`])],
        steps().map((step, i) => [step, ...arms().flatMap((arm) => [spell(arm.entropy[i]), percent(arm.accuracy[i], 1)])]),
      );
      for (const drawing of drawings) drawing.redraw();
    };
    let time = null;
    const timeline = () =>
      slider("evaluation", {
        ...{ min: 0, max: steps().length - 1, step: 1, value: place, spell: (v) => `step ${steps()[v]}` },
        oninput: (value) => {
          place = value;
          show();
        },
      });
    const holder = make("div", { class: "exhibit-controls" });
    const rewind = (now) => {
      [group, place] = [now, groups[now].steps.length - 1];
      time = timeline();
      holder.replaceChildren(picker, time);
      show();
    };
    const picker = choice("runs", Object.fromEntries(names.map((name) => [name, groups[name].title])), group, rewind);
    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    };
    const play = button("Play", () => {
      if (timer) return stop();
      play.textContent = "Pause";
      if (place === steps().length - 1) place = 0;
      timer = setInterval(() => {
        if (place >= steps().length - 1) return stop();
        place += 1;
        time.set(place);
        show();
      }, calm ? 1000 : 250);
    });
    rewind(group);
    return make("div", {}, holder, make("div", { class: "exhibit-buttons" }, play), make("div", { class: "exhibit-columns" }, ...drawings), words, table);
  }

  Exhibits.replay = exhibit;
})();
