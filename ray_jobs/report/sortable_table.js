const table = document.querySelector("table.sortable");
const body = table.tBodies[0];
const rows = [...body.rows];
const filter = document.getElementById("filter");
const status = document.getElementById("filtered");
const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;

for (const [column, cell] of [...table.tHead.rows[0].cells].entries()) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...cell.childNodes);
  cell.append(button);
  button.addEventListener("click", () => {
    const falling = cell.getAttribute("aria-sort") === (column ? "descending" : "ascending") ? !column : !!column;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const compare = column
      ? (a, b) => Number(value(a, column)) - Number(value(b, column))
      : (a, b) => value(a, 0).localeCompare(value(b, 0));
    rows.sort((a, b) => (falling ? compare(b, a) : compare(a, b)));
    body.append(...rows);
  });
}

filter.parentElement.hidden = false;
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  let shown = 0;
  for (const row of rows) {
    row.hidden = !value(row, 0).toLowerCase().includes(wanted);
    shown += !row.hidden;
  }
  status.textContent = `${shown} of ${rows.length}`;
});
