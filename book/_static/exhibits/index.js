// Puts the page's exhibits in the place of their static fallbacks, which stay where something fails.

const KNOWN = ["policy", "law", "tokens", "replay", "own"];

for (const place of document.querySelectorAll("[data-exhibit]")) {
  const name = place.dataset.exhibit;
  if (!KNOWN.includes(name)) continue;
  import(`./${name}.js`)
    .then(({ default: exhibit }) => exhibit(place))
    .then((element) => {
      place.querySelector(".exhibit-fallback")?.remove();
      place.prepend(element);
      place.dataset.ready = "yes";
    })
    .catch((error) => {
      place.dataset.ready = "failed";
      console.warn(`exhibit ${name} stays a picture: ${error.message}`);
    });
}
