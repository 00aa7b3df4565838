// Sorts and filters the table of releases; without this script the table is complete, latest audit first.
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
      const matches = (!verdict.value || row.verdict === verdict.value) && words.every((word) => row.text.includes(word));
      row.element.hidden = !matches;
      count += matches;
    }
    shown.textContent = `${count} of ${rows.length} releases`;
  };

  const sort = (index, down) => {
    const sign = down ? -1 : 1;
    rows.sort((left, right) => {
      const a = left.cells[index], b = right.cells[index];
      if (typeof a === "string") return sign * order(a, b);
      return Number.isNaN(a) - Number.isNaN(b) || sign * (a - b);  // unknown values come last either way
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
      heads.forEach((other) => other.removeAttribute("aria-sort"));
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
