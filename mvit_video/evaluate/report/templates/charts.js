"use strict";
// The tip: one box for whatever is pointed at, on the page as a whole.

const tip = document.getElementById("tip");
const FAR = 20; // pixels that the page may scroll before a tip belongs to another place
let tipShownAt = 0;

function showTip(text, x, y) {
  tip.textContent = text;
  tipShownAt = scrollY;
  const box = tip.getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth ? x - 14 - box.width : x + 14;
  const top = y + 14 + box.height > innerHeight ? y - 14 - box.height : y + 14;
  tip.style.transform = `translate(${Math.max(left, 4)}px, ${Math.max(top, 4)}px)`;
}

function hideTip() {
  tip.textContent = "";
}

addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
addEventListener("scroll", () => Math.abs(scrollY - tipShownAt) > FAR && hideTip(), { passive: true });

// Charts: a line at the nearest x, and what every curve is there. Arrow keys go from point to point.

class ChartReader {
  constructor(figure) {
    this.svg = figure.querySelector("svg.plot");
    this.data = JSON.parse(figure.querySelector("script").textContent);
    const all = this.data.lines.flatMap((line) => line.points.map((point) => point[0]));
    this.places = [...new Set(all)].sort((a, b) => a - b);
    this.at = this.places.length - 1;
    this.cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
    this.cursor.setAttribute("class", "cursor");
    this.svg.append(this.cursor);
    for (const name of ["pointermove", "pointerdown"]) this.svg.addEventListener(name, (event) => this.follow(event));
    this.svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.hide());
    this.svg.addEventListener("blur", () => this.hide());
    this.svg.addEventListener("keydown", (event) => this.walk(event));
  }

  get unitsPerPixel() {
    return this.svg.viewBox.baseVal.width / this.svg.getBoundingClientRect().width;
  }

  follow(event) {
    const x = (event.clientX - this.svg.getBoundingClientRect().left) * this.unitsPerPixel;
    const distances = this.places.map((place) => Math.abs(place - x));
    this.at = distances.indexOf(Math.min(...distances));
    this.show(event.clientX, event.clientY);
  }

  walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.at = Math.min(Math.max(this.at + step, 0), this.places.length - 1);
    const box = this.svg.getBoundingClientRect();
    this.show(box.left + this.places[this.at] / this.unitsPerPixel, box.top + box.height / 3);
  }

  show(clientX, clientY) {
    const place = this.places[this.at];
    const { x, unit, lines } = this.data;
    const reach = Math.max(8, this.svg.viewBox.baseVal.width / this.places.length / 2);
    const away = (point) => Math.abs(point[0] - place);
    const read = lines
      .map((line) => [line.name, line.points.reduce((best, point) => (away(point) < away(best) ? point : best))])
      .filter(([, point]) => away(point) <= reach);
    const nearest = read.map(([, point]) => point).reduce((best, point) => (away(point) < away(best) ? point : best));
    const rows = read.map(([name, point]) => `${name ? name + ": " : ""}${point[3]} ${unit}`.trim());
    this.cursor.setAttribute("d", `M${place} 0V${this.svg.viewBox.baseVal.height - 32}`);
    showTip([`${x} ${nearest[2]}`, ...rows].join("\n"), clientX, clientY);
  }

  hide() {
    this.cursor.removeAttribute("d");
    hideTip();
  }
}

document.querySelectorAll("figure.chart").forEach((figure) => new ChartReader(figure));
