// Puts the page's exhibits in the place of their static fallbacks, which stay where something fails. Scripts are loaded
// only by pages that have exhibits, one after the other, and work in a book that is opened from a folder.

(() => {
  "use strict";

  const NEEDS = { policy: [], law: ["lawview"], tokens: [], replay: [], own: ["lawview"] };
  const home = new URL("../exhibits/", document.currentScript.src);
  const loading = new Map();
  const Exhibits = (globalThis.Exhibits = globalThis.Exhibits || {});
  Exhibits.data = {};

  Exhibits.load = (name) => {
    if (!loading.has(name)) {
      const done = new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = new URL(`${name}.js`, home);
        script.onload = resolve;
        script.onerror = () => reject(new Error(`${name}.js cannot be loaded`));
        document.head.append(script);
      });
      loading.set(name, done);
    }
    return loading.get(name);
  };

  const show = async (place) => {
    const name = [...place.classList].find((one) => one.startsWith("exhibit-")).slice("exhibit-".length);
    try {
      for (const script of ["formulas", "plot", "kit", ...NEEDS[name], name]) await Exhibits.load(script);
      const element = await Exhibits[name](place);
      place.replaceChildren(element);
      place.dataset.ready = "yes";
    } catch (error) {
      place.dataset.ready = "failed";
      console.warn(`exhibit ${name} stays a picture: ${error.message}`);
    }
  };
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".exhibit").forEach(show));
})();
