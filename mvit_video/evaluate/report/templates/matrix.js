// The confusion matrix. Its canvas is only as large as the window onto it and is drawn anew as one scrolls, so any number
// of classes can be enlarged to any size.

const FONT = "12px system-ui, sans-serif";
const LARGEST_CELL = 44; // pixels, as the next ones
const NAMED_CELL = 13; // from here on rows and columns have their names
const COUNTED_CELL = 22; // from here on cells have their numbers
const FINGER = 12; // smaller cells are found from this far away

class Counts {
  constructor({ names, cells, similar }) {
    this.names = names;
    this.size = names.length;
    this.totals = new Array(this.size).fill(0);
    this.cells = [];
    this.videos = new Map();
    for (let i = 0; i < cells.length; i += 3) {
      const [label, answer, videos] = cells.slice(i, i + 3);
      this.cells.push({ label, answer, videos });
      this.totals[label] += videos;
      this.videos.set(label * this.size + answer, videos);
    }
    const label = names.map((_, i) => i);
    const accuracy = (i) => (this.totals[i] ? this.at(i, i) / this.totals[i] : 2);
    this.orders = { label, similar, accuracy: [...label].sort((a, b) => accuracy(a) - accuracy(b)) };
  }

  at(label, answer) {
    return this.videos.get(label * this.size + answer) || 0;
  }

  describe({ label, answer }) {
    const [videos, total] = [this.at(label, answer), this.totals[label]];
    const share = total ? ` (${((100 * videos) / total).toFixed(1)} %)` : "";
    if (label === answer) return `${this.names[label]}\nright: ${videos} of ${total} videos${share}`;
    return (
      `${this.names[label]}\ntaken for ${this.names[answer]}: ${videos} of ${total} videos${share}\n` +
      `the other way round: ${this.at(answer, label)} of ${this.totals[answer]}`
    );
  }
}

class Matrix {
  constructor(box, counts) {
    this.box = box;
    this.counts = counts;
    this.canvas = box.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.room = box.appendChild(document.createElement("div")); // what the box scrolls over
    this.zoom = 0; // pixels of a cell; 0 fits them into the box
    this.cursor = null;
    this.setOrder("label");
    this.layOut();
    this.listen();
  }

  setOrder(name) {
    this.order = this.counts.orders[name];
    this.place = new Array(this.counts.size);
    this.order.forEach((label, position) => (this.place[label] = position));
  }

  setZoom(pixels) {
    this.zoom = pixels;
    this.cursor = null;
    hideTip();
    this.layOut();
  }

  layOut() {
    const available = this.box.parentElement.clientWidth - 2;
    const square = Math.min(available, Math.max(innerHeight * 0.9, 480), 760); // to be seen as a whole
    const names = Math.min(this.longestName(), 160, available * 0.3);
    const fitting = (width) => Math.min(width / this.counts.size, LARGEST_CELL);
    this.scale = this.zoom || fitting(square - names);
    this.gutter = this.scale >= NAMED_CELL ? names : 0;
    if (!this.zoom && !this.gutter) this.scale = fitting(square);
    const full = Math.ceil(this.gutter + this.counts.size * this.scale);
    this.width = Math.min(available, full);
    this.height = this.zoom ? Math.min(full, Math.max(320, innerHeight * 0.8)) : full;
    this.canvas.width = Math.round(this.width * devicePixelRatio);
    this.canvas.height = Math.round(this.height * devicePixelRatio);
    this.canvas.style.cssText = `width:${this.width}px;height:${this.height}px`;
    this.box.style.cssText = `width:${this.width + 2}px;height:${this.height + 2}px`;
    this.room.style.cssText = `width:${full}px;height:${full - this.height}px`;
    document.querySelector("[data-zoom=out]").disabled = !this.zoom;
    document.querySelector("[data-zoom=in]").disabled = this.scale >= LARGEST_CELL;
    this.draw();
  }

  longestName() {
    this.context.font = FONT;
    return Math.max(...this.counts.names.map((name) => this.context.measureText(name).width)) + 14;
  }

  x(answer) {
    return this.gutter + this.place[answer] * this.scale - this.box.scrollLeft;
  }

  y(label) {
    return this.gutter + this.place[label] * this.scale - this.box.scrollTop;
  }

  draw() {
    const style = getComputedStyle(document.documentElement);
    this.colour = (name) => style.getPropertyValue(name).trim();
    this.context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    this.context.clearRect(0, 0, this.width, this.height);
    this.context.font = FONT;
    this.context.textBaseline = "middle";
    this.drawCells();
    if (this.cursor) this.drawCursor();
    if (this.gutter) this.drawNames();
  }

  drawCells() {
    const { context, counts, gutter, scale } = this;
    const size = Math.max(scale - (scale > 5 ? 1 : 0), 1.2);
    context.textAlign = "center";
    for (const cell of counts.cells) {
      const [x, y] = [this.x(cell.answer), this.y(cell.label)];
      if (Math.min(x, y) < gutter - scale || x > this.width || y > this.height) continue;
      const strength = 0.12 + 0.88 * Math.sqrt(cell.videos / counts.totals[cell.label]);
      const hue = this.colour(cell.label === cell.answer ? "--right" : "--wrong");
      context.fillStyle = `rgb(${hue} / ${strength})`;
      context.fillRect(x, y, size, size);
      if (scale < COUNTED_CELL) continue;
      context.fillStyle = this.colour(strength > 0.55 ? "--card" : "--text");
      context.fillText(cell.videos, x + size / 2, y + size / 2, size - 2);
    }
  }

  drawCursor() {
    const { context, scale } = this;
    const [x, y] = [this.x(this.cursor.answer), this.y(this.cursor.label)];
    context.strokeStyle = this.colour("--text");
    context.globalAlpha = 0.35;
    context.beginPath();
    context.moveTo(x + scale / 2, 0);
    context.lineTo(x + scale / 2, this.height);
    context.moveTo(0, y + scale / 2);
    context.lineTo(this.width, y + scale / 2);
    context.stroke();
    context.globalAlpha = 1;
    context.strokeRect(x - 1, y - 1, Math.max(scale, 3) + 1, Math.max(scale, 3) + 1);
  }

  drawNames() {
    const { context, gutter, scale, counts } = this;
    context.fillStyle = this.colour("--card");
    context.fillRect(0, 0, this.width, gutter);
    context.fillRect(0, 0, gutter, this.height);
    const middle = (scale - 1) / 2;
    for (const label of this.order) {
      const name = counts.names[label];
      const [x, y] = [this.x(label), this.y(label)];
      if (y > gutter - middle && y < this.height) {
        this.drawName(name, "label", label, "right", gutter - 6, y + middle, 0);
      }
      if (x > gutter - middle && x < this.width) {
        this.drawName(name, "answer", label, "left", x + middle, gutter - 6, -Math.PI / 2);
      }
    }
  }

  drawName(name, side, label, align, x, y, angle) {
    const { context } = this;
    const isMarked = this.cursor && this.cursor[side] === label;
    context.save();
    context.fillStyle = this.colour(isMarked ? "--text" : "--muted");
    context.textAlign = align;
    context.translate(x, y);
    context.rotate(angle);
    context.fillText(this.shortened(name), 0, 0);
    context.restore();
  }

  shortened(name) {
    const fits = (text) => this.context.measureText(text).width <= this.gutter - 12;
    if (fits(name)) return name;
    let length = name.length;
    while (length > 1 && !fits(name.slice(0, length) + "…")) length--;
    return name.slice(0, length) + "…";
  }

  // The cell under a point; where cells are smaller than a fingertip, the nearest that holds videos.
  cellAt(x, y) {
    if (this.scale < FINGER) return this.nearestCell(x, y);
    if (x < this.gutter || y < this.gutter) return null;
    const answer = this.order[Math.floor((x - this.gutter + this.box.scrollLeft) / this.scale)];
    const label = this.order[Math.floor((y - this.gutter + this.box.scrollTop) / this.scale)];
    return answer === undefined || label === undefined ? null : { label, answer };
  }

  nearestCell(x, y) {
    let [best, least] = [null, FINGER ** 2];
    for (const cell of this.counts.cells) {
      const distance =
        (this.x(cell.answer) + this.scale / 2 - x) ** 2 + (this.y(cell.label) + this.scale / 2 - y) ** 2;
      if (distance < least) [best, least] = [cell, distance];
    }
    return best;
  }

  point(event) {
    const frame = this.canvas.getBoundingClientRect();
    this.cursor = this.cellAt(event.clientX - frame.left, event.clientY - frame.top);
    this.draw();
    if (this.cursor) showTip(this.counts.describe(this.cursor), event.clientX, event.clientY);
    else hideTip();
  }

  leave() {
    this.cursor = null;
    hideTip();
    this.draw();
  }

  goTo({ label, answer }) {
    const { box, gutter, scale } = this;
    const [x, y] = [this.place[answer] * scale, this.place[label] * scale];
    const [wide, high] = [this.width - gutter, this.height - gutter];
    if (x < box.scrollLeft || x + scale > box.scrollLeft + wide) box.scrollLeft = x - wide / 2;
    if (y < box.scrollTop || y + scale > box.scrollTop + high) box.scrollTop = y - high / 2;
    this.cursor = { label, answer };
    this.draw();
    const frame = this.canvas.getBoundingClientRect();
    showTip(this.counts.describe(this.cursor), frame.left + this.x(answer) + scale, frame.top + this.y(label) + scale);
  }

  // To the next cell with videos in this row (left, right) or column (up, down).
  walk(event) {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const from = this.cursor || { label: this.order[0], answer: this.order[0] };
    const [fixed, moving] = /Left|Right/.test(event.key) ? ["label", "answer"] : ["answer", "label"];
    const ahead = (cell) => step * (this.place[cell[moving]] - this.place[from[moving]]);
    const next = this.counts.cells
      .filter((cell) => cell[fixed] === from[fixed] && ahead(cell) > 0)
      .sort((a, b) => ahead(a) - ahead(b))[0];
    this.goTo(this.cursor && next ? next : from);
  }

  find(name) {
    const label = this.counts.names.indexOf(name);
    if (label < 0) return;
    if (this.scale < NAMED_CELL) this.setZoom(NAMED_CELL + 3);
    this.canvas.focus({ preventScroll: true });
    this.goTo({ label, answer: label });
  }

  listen() {
    const on = (target, name, action, options) => target.addEventListener(name, action, options);
    const byMouse = (action) => (event) => event.pointerType === "mouse" && action(event);
    on(this.canvas, "pointermove", byMouse((event) => this.point(event)));
    on(this.canvas, "pointerleave", byMouse(() => this.leave()));
    on(this.canvas, "click", (event) => this.point(event));
    on(this.canvas, "keydown", (event) => this.walk(event));
    on(this.canvas, "blur", hideTip);
    on(this.box, "scroll", () => this.draw(), { passive: true });
    const zoomed = {
      in: () => Math.min(Math.max(this.scale * 2, 4), LARGEST_CELL),
      out: () => (this.counts.size * this.scale > 2 * this.width ? this.scale / 2 : 0),
      fit: () => 0,
    };
    for (const [name, pixels] of Object.entries(zoomed)) {
      on(document.querySelector(`[data-zoom=${name}]`), "click", () => this.setZoom(pixels()));
    }
    on(document.getElementById("order"), "change", (event) => {
      this.setOrder(event.target.value);
      this.leave();
    });
    on(document.getElementById("find-class"), "change", (event) => this.find(event.target.value));
    on(matchMedia("(prefers-color-scheme: dark)"), "change", () => this.draw());
    on(window, "resize", () => this.layOut());
  }
}

const matrix = document.getElementById("matrix");
if (matrix) new Matrix(matrix, new Counts(JSON.parse(document.getElementById("matrix-data").textContent)));
