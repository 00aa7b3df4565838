// Sorting and filtering of the fleet's table; without it the table is complete and in the order of time.
{
  const table = document.getElementById("fleet");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (element) => ({
    element,
    text: element.textContent.toLowerCase(),
    verdict: element.dataset.verdict,
    cells: Array.from(element.cells, (cell) => {
      const value = cell.dataset.value;
      return value === undefined ? cell.textContent : value === "" ? NaN : Number(value);
    }),
  }));
  const filter = document.getElementById("filter");
  const verdict = document.getElementById("verdict");
  const shown = document.getElementById("shown");
  const order = new Intl.Collator("en", { numeric: true }).compare;

  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const wanted = (!verdict.value || row.verdict === verdict.value) && words.every((word) => row.text.includes(word));
      row.element.hidden = !wanted;
      count += wanted;
    }
    shown.textContent = `${count} of ${rows.length} releases`;
  };

  const sort = (index, down) => {
    const sign = down ? -1 : 1;
    rows.sort((one, other) => {
      const a = one.cells[index], b = other.cells[index];
      if (typeof a === "string") return sign * order(a, b);
      return Number.isNaN(a) - Number.isNaN(b) || sign * (a - b);  // what is unknown stands last either way
    });
    body.append(...rows.map((row) => row.element));
  };

  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(index, down);
    });
  });
  const controls = document.getElementById("controls");
  controls.addEventListener("input", show);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.hidden = false;
  show();
}
