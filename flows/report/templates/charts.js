// Replaces the drawn charts with interactive ones. Expressions are interpreted, not compiled: the page forbids eval.
const page = document.getElementById("charts");
const specs = page ? JSON.parse(page.textContent) : {};
for (const [name, spec] of Object.entries(specs)) {
  const place = document.getElementById(name);
  const drawn = place.firstElementChild;
  const alive = document.createElement("div");
  alive.className = "alive";
  place.append(alive);
  const legend = { ...spec.config.legend, columns: place.clientWidth < 500 ? 1 : 3 };
  vegaEmbed(alive, { ...spec, width: "container", config: { ...spec.config, legend } }, {
    actions: false, ast: true, defaultStyle: false, mode: "vega-lite", renderer: "svg",
    tooltip: { disableDefaultStyle: true },
  }).then(() => { drawn.remove(); place.dataset.alive = "yes"; }, (error) => { alive.remove(); console.error(error); });
}
