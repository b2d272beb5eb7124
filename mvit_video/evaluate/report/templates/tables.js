// Tables: a button in each head sorts by its column, again the other way round. Cells without a value come last.

function cellValue(cell) {
  if (!("value" in cell.dataset)) return cell.textContent;
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function sortTable(table, column, ascending) {
  const compare = ([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return ascending ? order : -order;
  };
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [cellValue(row.cells[column]), row]);
  body.append(...rows.sort(compare).map(([, row]) => row));
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
}

function filterTable(table, wanted, count) {
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  count.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
}

const classTable = document.getElementById("class-table");
if (classTable) {
  [...classTable.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      sortTable(classTable, column, head.getAttribute("aria-sort") !== "ascending");
    });
  });
  document.getElementById("filter").addEventListener("input", (event) => {
    filterTable(classTable, event.target.value.trim().toLowerCase(), document.getElementById("filter-count"));
  });
}
