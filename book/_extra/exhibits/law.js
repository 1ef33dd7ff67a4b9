// The law and its rivals on a recorded run: how much is seen decides what they say of the end.

(() => {
  "use strict";

  const { lawView } = Exhibits.lawview;
  const { choice, data, make } = Exhibits.kit;

  async function exhibit() {
    const runs = await data("runs");
    const names = Object.keys(runs);
    const view = lawView();
    const pick = (name) => view.show(runs[name].points, runs[name].title);
    pick(names[0]);
    const titles = Object.fromEntries(names.map((name) => [name, runs[name].title]));
    return make("div", {}, make("div", { class: "exhibit-controls" }, choice("run", titles, names[0], pick)), view.element);
  }

  Exhibits.law = exhibit;
})();
