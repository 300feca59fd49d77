"use strict";
{
  // Everything here is an addition: without this script the page shows the same numbers.
  const make = (tag, attributes, ...inside) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...inside);
    return element;
  };

  // -- tables that sort ----------------------------------------------------------------------------------------

  const numberOf = cell => {
    if ("value" in cell.dataset) return Number(cell.dataset.value);
    const text = cell.textContent.trim().replace("−", "-");
    return text === "–" || text === "" ? NaN : text.endsWith("inf") ? (text[0] === "-" ? -Infinity : Infinity) : Number(text);
  };

  const comparison = (column, numeric, direction) => (one, other) => {
    const [first, second] = [one.cells[column], other.cells[column]];
    if (numeric) {
      const [a, b] = [numberOf(first), numberOf(second)];
      // What is missing comes last, whichever way the others go.
      return isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) : direction * (a === b ? 0 : a - b);
    }
    const [a, b] = [first.textContent, second.textContent];
    if (a === "–" || b === "–") return (a === "–") - (b === "–");
    return direction * a.localeCompare(b, undefined, {numeric: true});
  };

  const makeSortable = table => {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    if (original.length <= 1) return;
    heads.forEach((head, column) => {
      const numeric = !head.classList.contains("text");
      const button = make("button", {type: "button"}, ...head.childNodes);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const next = {ascending: "descending", descending: null}[head.getAttribute("aria-sort")] ?? "ascending";
        const stop = head.getAttribute("aria-sort") === "descending";
        heads.forEach(other => other.removeAttribute("aria-sort"));
        const rows = [...original];
        if (!stop) {
          head.setAttribute("aria-sort", next);
          rows.sort(comparison(column, numeric, next === "ascending" ? 1 : -1));
        }
        body.append(...rows);
      });
    });
  };

  // -- heat maps to read values off ----------------------------------------------------------------------------

  const decode = text => {
    const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float32Array.from({length: bytes.length / 4}, (_, index) => view.getFloat32(4 * index, true));
  };

  const makeExplorable = (place, number) => {
    const about = JSON.parse(place.dataset.explorer);
    place.removeAttribute("data-explorer");
    place.querySelector(".drawn")?.remove(); // it changes from now on
    const values = decode(about.values);
    const [nRows, nColumns] = about.shape;
    const [[rowName, rows], [columnName, columns]] = about.axes;
    const picks = about.choices.map(([name, labels]) => {
      const options = labels.map((label, index) => make("option", {value: index}, label));
      return make("select", {"aria-label": name}, ...options);
    });
    const chosen = () => picks.reduce((plane, pick) => plane * pick.options.length + Number(pick.value), 0);
    const at = (row, column) => values[(chosen() * nRows + row) * nColumns + column];

    const readout = make("output", {class: "readout", id: `readout-${number}`});
    const hint = "Point at a cell to read its value, or move with the arrow keys.";
    readout.textContent = hint;
    const mark = make("div", {class: "cell"});
    const pixels = make("canvas", {width: nColumns, height: nRows, "aria-hidden": "true"});
    const surface = make("div", {
      class: "surface", tabindex: "0", role: "application", "aria-roledescription": "heat map",
      "aria-label": `Values of ${about.name || "the heat map"}: arrow keys move between cells`, "aria-describedby": readout.id,
    }, pixels, mark);
    const drawing = place.querySelector("svg, img").parentElement === place ? place : place.querySelector("svg, img").parentElement;
    const frame = make("div", {class: "frame"}, ...drawing.childNodes, surface);
    drawing.append(frame);
    if (picks.length) {
      const labels = picks.map(pick => make("label", {}, `${pick.getAttribute("aria-label")} `, pick));
      place.before(make("div", {class: "picks"}, ...labels));
    }
    place.after(readout);
    ["left", "top", "width", "height"].forEach((side, index) => { surface.style[side] = `${about.place[index]}%`; });

    let cell = null;
    const show = () => {
      if (!cell) return;
      const [row, column] = cell;
      const value = at(row, column);
      Object.assign(mark.style, {
        display: "block", left: `${100 * column / nColumns}%`, top: `${100 * row / nRows}%`,
        width: `${100 / nColumns}%`, height: `${100 / nRows}%`,
      });
      const number = isNaN(value) ? "no value" : String(Number(value.toPrecision(4))).replace("-", "−");
      readout.replaceChildren(`${rowName} `, make("b", {}, rows[row]), `, ${columnName} `, make("b", {}, columns[column]), ": ", make("b", {}, number));
    };
    const paint = () => {
      const [low, high] = about.range;
      const context = pixels.getContext("2d");
      for (let row = 0; row < nRows; row++) {
        for (let column = 0; column < nColumns; column++) {
          const share = high > low ? (at(row, column) - low) / (high - low) : 0;
          const step = Math.round(Math.min(1, Math.max(0, share)) * (about.colours.length - 1));
          context.fillStyle = isNaN(share) ? "#c9ccd1" : about.colours[step];
          context.fillRect(column, row, 1, 1);
        }
      }
      show();
    };
    picks.forEach(pick => pick.addEventListener("change", paint));
    const limit = (index, size) => Math.min(size - 1, Math.max(0, index));
    const point = event => {
      const box = surface.getBoundingClientRect();
      cell = [
        limit(Math.floor((event.clientY - box.top) / box.height * nRows), nRows),
        limit(Math.floor((event.clientX - box.left) / box.width * nColumns), nColumns),
      ];
      show();
    };
    surface.addEventListener("pointermove", point);
    surface.addEventListener("pointerdown", point);
    surface.addEventListener("focus", () => { cell ??= [0, 0]; show(); });
    surface.addEventListener("keydown", event => {
      const [row, column] = cell ?? [0, 0];
      const moved = {
        ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1],
        ArrowRight: [row, column + 1], Home: [row, 0], End: [row, nColumns - 1],
      }[event.key];
      if (!moved) return;
      event.preventDefault();
      cell = [limit(moved[0], nRows), limit(moved[1], nColumns)];
      show();
    });
  };

  // -- the rest ------------------------------------------------------------------------------------------------

  const drawPlotly = place => {
    const {data, layout} = JSON.parse(place.dataset.figure);
    place.removeAttribute("data-figure");
    // Named one by one, because plotly's own set has a button that uploads the data.
    const modeBarButtons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
    Plotly.newPlot(place, data, layout, {displaylogo: false, responsive: true, modeBarButtons});
  };

  // What is cut fades out on the side where there is more.
  const fade = place => {
    const before = place.scrollLeft > 1, after = place.scrollLeft + place.clientWidth < place.scrollWidth - 1;
    place.classList.toggle("more-before", before);
    place.classList.toggle("more-after", after);
  };

  // What scrolls can be reached by key, and says that it scrolls.
  const reachScrolling = () => {
    for (const place of document.querySelectorAll("div.table, .canvas, .run")) {
      const said = place.nextElementSibling?.matches(".sideways") ? place.nextElementSibling : null;
      const sideways = place.scrollWidth > place.clientWidth + 1;
      if (sideways && !said) {
        place.after(make("p", {class: "sideways", "aria-hidden": "true"}, "Scroll sideways to see the rest ⟷"));
        place.addEventListener("scroll", () => fade(place), {passive: true});
      }
      if (!sideways) said?.remove();
      fade(place);
      const scrolls = place.scrollWidth > place.clientWidth || place.scrollHeight > place.clientHeight + 1;
      const name = place.querySelector("caption")?.textContent ?? "figure";
      for (const [attribute, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", `${name}, scrolls`]]) {
        if (scrolls) place.setAttribute(attribute, value);
        else place.removeAttribute(attribute);
      }
    }
  };

  document.querySelectorAll("main table").forEach(makeSortable);
  document.querySelectorAll("[data-explorer]").forEach(makeExplorable);
  document.querySelectorAll("[data-figure]").forEach(drawPlotly);
  reachScrolling();
  addEventListener("resize", reachScrolling);
  document.addEventListener("toggle", reachScrolling, true);
  addEventListener("beforeprint", () => {
    for (const place of document.querySelectorAll("details.provenance, details.block")) place.open = true;
  });
}
