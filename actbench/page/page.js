"use strict";
// Sorts and filters the table of networks, and chooses the axes of heat maps. Without it the page tells the same.
(() => {
  document.documentElement.classList.add("script");

  const table = document.querySelector(".networks table");
  if (table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const texts = new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent.toLowerCase())]));
    const heads = [...table.tHead.rows[0].cells];
    const words = document.getElementById("filter-text");
    const choices = [...document.querySelectorAll("select[data-column]")];
    const count = document.getElementById("count");
    const number = (n) => n.toLocaleString("en");

    const filter = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const cells = texts.get(row);
        const fits = wanted.every((word) => cells.some((text) => text.includes(word)))
          && choices.every((choice) => !choice.selectedIndex || cells[choice.dataset.column] === choice.value.toLowerCase());
        row.hidden = !fits;
        shown += fits;
      }
      count.textContent = `${number(shown)} of ${number(rows.length)} rows`;
    };

    const key = (row, column) => {
      const cell = row.cells[column];
      const value = cell.dataset.v || cell.textContent;
      const parsed = Number(value);
      return value !== "" && !Number.isNaN(parsed) ? parsed : value;
    };
    const compare = (one, other) => {
      const kinds = [typeof one, typeof other];
      if (kinds[0] === "number" && kinds[1] === "number") return one - other;
      return kinds[0] === kinds[1] ? one.localeCompare(other, "en") : kinds[0] === "number" ? -1 : 1;
    };
    const missing = (value) => value === "" || value === "–";
    const sort = (column) => {
      const down = heads[column].getAttribute("aria-sort") === "ascending";
      heads.forEach((head) => head.removeAttribute("aria-sort"));
      heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row, place) => [key(row, column), place, row]);
      keyed.sort(([one, first], [other, second]) => {
        if (missing(one) || missing(other)) return missing(one) - missing(other) || first - second; // last, either way
        return (down ? -1 : 1) * compare(one, other) || first - second;
      });
      body.append(...keyed.map(([, , row]) => row));
    };

    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(column));
      head.replaceChildren(button);
    });
    words.addEventListener("input", filter);
    choices.forEach((choice) => choice.addEventListener("change", filter));
    filter();
  }

  // what is scrolled can be reached by keyboard; what is not, need not be
  const regions = [...document.querySelectorAll("[tabindex='0']")];
  const mark = () => {
    const scrolled = regions.map((one) => one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight);
    regions.forEach((one, place) => (scrolled[place] ? one.setAttribute("tabindex", "0") : one.removeAttribute("tabindex")));
  };
  addEventListener("resize", mark);
  document.addEventListener("toggle", mark, true);
  mark();

  const pairs = [...document.querySelectorAll("details.pair")];
  const [tall, wide] = ["map-one", "map-other"].map((id) => document.getElementById(id));
  if (pairs.length && tall) {
    const pairOf = (one, other) => pairs.find((pair) => [`${one} ${other}`, `${other} ${one}`].includes(pair.dataset.axes));
    const show = (changed) => {
      for (const option of wide.options) option.disabled = !pairOf(tall.value, option.value);
      if (!pairOf(tall.value, wide.value)) wide.value = [...wide.options].find((option) => !option.disabled).value;
      const chosen = pairOf(tall.value, wide.value);
      for (const pair of pairs) {
        pair.hidden = pair !== chosen;
        pair.open = pair === chosen;
      }
    };
    for (const choice of [tall, wide]) choice.addEventListener("change", show);
    show();
  }
})();
