// Bring your own: a log is read and fitted in the page, and nothing of it leaves the machine.

(() => {
  "use strict";

  const f = Exhibits.formulas;
  const { lawView } = Exhibits.lawview;
  const { announcement, choice, make } = Exhibits.kit;

  function exhibit() {
    const words = announcement();
    words.textContent = "No file yet. It is read here, by this page, and sent nowhere.";
    const place = make("div");
    const columns = make("div", { class: "exhibit-controls" });
    let told = {};
    let [rows, name] = [[], ""];

    const fit = () => {
      try {
        const found = f.recognise(rows, told);
        const names = Object.fromEntries([...new Set(rows.flatMap(Object.keys))].map((one) => [one, one]));
        columns.replaceChildren(
          ...Object.entries(found).map(([role, column]) =>
            choice(role, names, column, (value) => {
              told = { ...told, [role]: value };
              fit();
            }),
          ),
        );
        const points = f.trajectory(rows, found);
        if (points.length < 4) throw new Error(`only ${points.length} rows have a step, an entropy and a score; the law needs at least four`);
        if (points.some((point) => point.entropy < 0)) throw new Error("an entropy is negative; choose the column that has it in nats per token");
        words.textContent = `${name}: ${points.length} points, from step ${points[0].step} to ${points[points.length - 1].step}.`;
        const view = lawView();
        view.show(points, name);
        place.replaceChildren(view.element);
      } catch (error) {
        words.textContent = `${name}: ${error.message}.`;
        place.replaceChildren();
      }
    };
    const read = async (file) => {
      if (!file) return;
      [name, told] = [file.name, {}];
      columns.replaceChildren();
      try {
        if (file.size > 50e6) throw new Error("the file is over 50 MB; leave out the columns that are not needed");
        rows = f.readLog(await file.text());
      } catch (error) {
        words.textContent = `${name}: ${error.message}.`;
        place.replaceChildren();
        return;
      }
      fit();
    };
    const chosen = () => {
      read(input.files[0]);
      input.value = ""; // So that the same file, once it is mended, can be chosen again.
    };
    const input = make("input", { id: "own-file", type: "file", accept: ".csv,.tsv,.jsonl,.json,.txt", onchange: chosen });
    const drop = make(
      "div",
      {
        class: "exhibit-drop",
        ondragover: (event) => event.preventDefault(),
        ondrop: (event) => {
          event.preventDefault();
          read(event.dataTransfer.files[0]);
        },
      },
      make("label", { for: "own-file" }, "A CSV or JSONL file with steps, entropy and a score: "),
      input,
    );
    return make("div", {}, drop, columns, words, place);
  }

  Exhibits.own = exhibit;
})();
