// The photo on its canvas: drawing, zoom, and what a pointer does there. It knows nothing of the server.

const MAX_SCALE = 40; // screen pixels for one of the photo
const TAP = 5; // pixels that a finger may move while it taps
const NEAR = 16; // pixels around the line between before and after that take hold of it

const CIVIDIS = [[0, 34, 78], [66, 78, 108], [124, 123, 120], [188, 174, 108], [254, 232, 56]];

export const COLOURS = ["#2dd4a7", "#ffb224", "#5aa9ff", "#ff7ab6", "#b48cff", "#ffe14d", "#4fd8eb", "#ff8a5c"];
const MARKS = { inside: "#2dd47f", outside: "#ff4d5e" };

export class View {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.scene = null; // { bitmap, width, height, objects: [{key, colour, before, after}], marks }
    this.chosen = null;
    this.hovered = null;
    this.tool = "choose";
    this.mode = "outline";
    this.compare = false;
    this.divider = 0.5;
    this.radius = 16; // of the brush, in screen pixels
    this.marking = "inside";
    this.zoom = 1; // 1: the whole photo
    this.centre = { x: 0, y: 0 }; // the point of the photo in the middle of the canvas
    // What the page does: tap(point), box([x0, y0, x1, y1]), stroke({points, radius}), changed(), divided(share).
    this.on = {};
    this.pointers = new Map();
    this.gesture = null;
    this.pointer = null;
    this.spaced = false;
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Show another photo, as a whole. */
  show(scene) {
    this.scene = scene;
    this.hovered = null;
    this.fit();
  }

  fit() {
    this.zoom = 1;
    if (this.scene) this.centre = { x: this.scene.width / 2, y: this.scene.height / 2 };
    this.#moved();
  }

  /** Zoom by a factor; a point of the screen stays where it is. */
  zoomBy(factor, at = null) {
    if (!this.scene) return;
    const place = at ?? { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 };
    const before = this.toPhoto(place);
    const most = MAX_SCALE / this.#fitting();
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), Math.max(most, 1));
    const after = this.toPhoto(place);
    this.centre.x += before.x - after.x;
    this.centre.y += before.y - after.y;
    this.#moved();
  }

  /** Screen pixels for one of the photo. */
  get scale() {
    return this.#fitting() * this.zoom;
  }

  toPhoto({ x, y }) {
    return {
      x: this.centre.x + (x - this.canvas.clientWidth / 2) / this.scale,
      y: this.centre.y + (y - this.canvas.clientHeight / 2) / this.scale,
    };
  }

  toScreen({ x, y }) {
    return {
      x: (x - this.centre.x) * this.scale + this.canvas.clientWidth / 2,
      y: (y - this.centre.y) * this.scale + this.canvas.clientHeight / 2,
    };
  }

  /** The object at a point of the photo: the smallest one. */
  objectAt({ x, y }) {
    let found = null;
    for (const object of this.scene?.objects ?? []) {
      const { place: [left, top, width, height], alpha, columns, rows } = object.after;
      const u = Math.floor((x - left) / width * columns), v = Math.floor((y - top) / height * rows);
      if (u < 0 || v < 0 || u >= columns || v >= rows || alpha[v * columns + u] < 128) continue;
      if (!found || object.after.area < found.after.area) found = object;
    }
    return found;
  }

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.#draw();
    });
  }

  #fitting() {
    const { width, height } = this.scene;
    return Math.min(this.canvas.clientWidth / width, this.canvas.clientHeight / height) || 1;
  }

  #moved() {
    if (this.scene) {
      // The photo does not leave the canvas: where it is smaller it stays in the middle.
      for (const [axis, side, room] of [["x", "width", "clientWidth"], ["y", "height", "clientHeight"]]) {
        const half = this.canvas[room] / 2 / this.scale, whole = this.scene[side];
        this.centre[axis] = 2 * half >= whole ? whole / 2 : Math.min(Math.max(this.centre[axis], half), whole - half);
      }
    }
    this.#cursor();
    this.on.changed?.();
    this.draw();
  }

  // Drawing

  #draw() {
    const { canvas, context, scene } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      if (scene) this.#moved();
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!scene) return;
    const corner = this.toScreen({ x: 0, y: 0 });
    this.unit = 1 / this.scale; // one screen pixel, in pixels of the photo
    context.setTransform(this.scale * ratio, 0, 0, this.scale * ratio, corner.x * ratio, corner.y * ratio);
    context.imageSmoothingEnabled = this.scale < 6;
    context.imageSmoothingQuality = "high";

    const split = this.toPhoto({ x: this.divider * canvas.clientWidth, y: 0 }).x;
    if (this.compare) {
      this.#clipped(-1e7, split, () => this.#side("before"));
      this.#clipped(split, 1e7, () => this.#side("after"));
    } else {
      this.#side("after");
    }
    this.#marks();
    this.#gestures();
    if (this.compare) this.#line(ratio);
  }

  #clipped(x0, x1, draw) {
    this.context.save();
    this.context.beginPath();
    this.context.rect(x0, -1e7, x1 - x0, 2e7);
    this.context.clip();
    draw();
    this.context.restore();
  }

  #side(side) {
    const { context, scene } = this;
    const chosen = scene.objects.find((object) => object.key === this.chosen);
    if (this.mode === "cutout") {
      this.#checkers();
      context.drawImage(this.#cutout(side, chosen), 0, 0, scene.width, scene.height);
      return;
    }
    context.drawImage(scene.bitmap, 0, 0, scene.width, scene.height);
    if (this.mode === "certainty") {
      context.fillStyle = "rgb(0 34 78 / 0.75)";
      context.fillRect(0, 0, scene.width, scene.height);
      for (const object of chosen ? [chosen] : scene.objects) {
        const { heat, place: [x, y, width, height] } = tinted(object[side]);
        context.drawImage(heat, x, y, width, height);
      }
      return;
    }
    for (const object of scene.objects) if (object !== chosen) this.#outlined(object, side, object === this.hovered);
    if (chosen) {
      const rest = new Path2D(chosen[side].path);
      rest.rect(0, 0, scene.width, scene.height);
      context.fillStyle = "rgb(10 14 18 / 0.45)";
      context.fill(rest, "evenodd");
      this.#stroked(chosen[side].path, chosen.colour, 2.25);
    }
  }

  #outlined(object, side, hovered) {
    const path = object[side].path;
    this.context.globalAlpha = hovered ? 0.42 : 0.22;
    this.context.fillStyle = object.colour;
    this.context.fill(path, "evenodd");
    this.context.globalAlpha = 1;
    this.#stroked(path, object.colour, hovered ? 2.25 : 1.5);
  }

  #stroked(path, colour, width) {
    const { context } = this;
    context.lineJoin = "round";
    context.strokeStyle = "rgb(0 0 0 / 0.45)";
    context.lineWidth = (width + 1.5) * this.unit;
    context.stroke(path);
    context.strokeStyle = colour;
    context.lineWidth = width * this.unit;
    context.stroke(path);
  }

  #checkers() {
    const { context, scene } = this;
    this.pattern ??= checkers(context);
    this.pattern.setTransform(new DOMMatrix().scale(this.unit));
    context.fillStyle = this.pattern;
    context.fillRect(0, 0, scene.width, scene.height);
  }

  /** The photo with the alpha of the objects, at the size of its picture. */
  #cutout(side, chosen) {
    const { scene } = this;
    const objects = chosen ? [chosen] : scene.objects;
    const key = side + objects.map((object) => object[side].number).join();
    scene.cutouts ??= {};
    if (scene.cutouts[side]?.key === key) return scene.cutouts[side].picture;
    const picture = new OffscreenCanvas(scene.bitmap.width, scene.bitmap.height);
    const context = picture.getContext("2d");
    context.scale(picture.width / scene.width, picture.height / scene.height);
    for (const object of objects) {
      const { cover, place: [x, y, width, height] } = tinted(object[side]);
      context.drawImage(cover, x, y, width, height);
    }
    context.globalCompositeOperation = "source-in";
    context.drawImage(scene.bitmap, 0, 0, scene.width, scene.height);
    scene.cutouts[side] = { key, picture };
    return picture;
  }

  #marks() {
    for (const side of ["outside", "inside"]) {
      for (const stroke of this.scene.marks[side]) this.#stroke(stroke, MARKS[side]);
    }
  }

  #stroke({ points, radius }, colour) {
    const { context } = this;
    context.strokeStyle = colour;
    context.globalAlpha = 0.7;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * radius;
    context.beginPath();
    context.moveTo(...points[0]);
    for (const point of points) context.lineTo(...point);
    if (points.length === 1) context.lineTo(points[0][0] + 1e-3, points[0][1]);
    context.stroke();
    context.globalAlpha = 1;
  }

  #gestures() {
    const { context, gesture } = this;
    if (gesture?.kind === "box" && gesture.moved) {
      const { start, end } = gesture;
      context.fillStyle = "rgb(45 212 167 / 0.15)";
      context.strokeStyle = "#2dd4a7";
      context.lineWidth = 2 * this.unit;
      context.fillRect(start.x, start.y, end.x - start.x, end.y - start.y);
      context.strokeRect(start.x, start.y, end.x - start.x, end.y - start.y);
    }
    if (gesture?.kind === "stroke") this.#stroke(gesture.stroke, this.#brushColour());
    if (this.pointer && this.#brushes() && gesture?.kind !== "pan") {
      const at = this.toPhoto(this.pointer);
      context.beginPath();
      context.arc(at.x, at.y, this.radius * this.unit, 0, 2 * Math.PI);
      context.strokeStyle = "rgb(0 0 0 / 0.6)";
      context.lineWidth = 3 * this.unit;
      context.stroke();
      context.strokeStyle = "#fff";
      context.lineWidth = 1.5 * this.unit;
      context.stroke();
    }
  }

  #line(ratio) {
    const { context, canvas } = this;
    const x = this.divider * canvas.clientWidth, y = canvas.clientHeight / 2;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#fff";
    context.shadowColor = "rgb(0 0 0 / 0.5)";
    context.shadowBlur = 6;
    context.fillRect(x - 1, 0, 2, canvas.clientHeight);
    context.beginPath();
    context.arc(x, y, 15, 0, 2 * Math.PI);
    context.fill();
    context.shadowBlur = 0;
    context.strokeStyle = "#333";
    context.lineWidth = 2;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    for (const turn of [-1, 1]) {
      context.moveTo(x + 4 * turn, y - 4);
      context.lineTo(x + 8 * turn, y);
      context.lineTo(x + 4 * turn, y + 4);
    }
    context.stroke();
    context.font = "600 12px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const [text, turn] of [["Before", -1], ["After", 1]]) {
      const wide = context.measureText(text).width + 16;
      const left = turn < 0 ? x - 12 - wide : x + 12;
      context.fillStyle = "rgb(20 22 24 / 0.7)";
      context.beginPath();
      context.roundRect(left, 12, wide, 24, 12);
      context.fill();
      context.fillStyle = "#fff";
      context.fillText(text, left + 8, 24.5);
    }
  }

  // Pointers

  #brushes() {
    return this.tool === "add" || this.tool === "erase" || this.tool === "mark";
  }

  #brushColour() {
    if (this.tool === "mark") return MARKS[this.marking];
    return this.tool === "add" ? MARKS.inside : MARKS.outside;
  }

  #cursor() {
    const moves = this.spaced || this.gesture?.kind === "pan";
    this.canvas.style.cursor = moves ? "grabbing"
      : this.#brushes() ? "none" : this.tool === "box" ? "crosshair" : this.hovered ? "pointer" : "default";
    // A finger scrolls the page past a photo that is shown as a whole, unless it has something to do there.
    this.canvas.style.touchAction = this.tool === "choose" && this.zoom === 1 && !this.compare ? "pan-y" : "none";
  }

  #listen() {
    const { canvas } = this;
    const here = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.scene || (event.pointerType === "mouse" && event.button === 2)) return;
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, here(event));
      if (this.pointers.size === 2) this.gesture = this.#pinch();
      else if (this.pointers.size === 1) this.gesture = this.#began(here(event), event.button === 1);
      this.#cursor();
      this.draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.scene) return;
      this.pointer = here(event);
      if (this.pointers.has(event.pointerId)) {
        this.pointers.set(event.pointerId, this.pointer);
        // Fast movements have more points than events.
        const points = event.getCoalescedEvents?.() ?? [];
        this.#moves(points.length ? points.map(here) : [this.pointer]);
      } else {
        this.hovered = this.tool === "choose" ? this.objectAt(this.toPhoto(this.pointer)) : null;
        this.#cursor();
      }
      this.draw();
    });
    const ended = (event) => {
      if (!this.pointers.delete(event.pointerId)) return;
      const { gesture } = this;
      if (gesture?.kind === "pinch" && this.pointers.size) return; // the other finger does nothing
      if (this.pointers.size) return;
      this.gesture = null;
      if (event.type === "pointerup" && gesture) this.#ended(gesture);
      if (event.pointerType !== "mouse") this.pointer = null;
      this.#cursor();
      this.draw();
    };
    canvas.addEventListener("pointerup", ended);
    canvas.addEventListener("pointercancel", ended);
    canvas.addEventListener("pointerleave", () => {
      this.pointer = this.hovered = null;
      this.draw();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === 1 ? 16 * event.deltaY : event.deltaY;
      this.zoomBy(Math.exp(-pixels / (event.ctrlKey ? 120 : 400)), here(event));
    }, { passive: false });
    canvas.addEventListener("dblclick", () => {
      if (this.tool === "choose" && this.zoom > 1) this.fit();
    });
  }

  #began(at, middle) {
    const start = this.toPhoto(at);
    if (middle || this.spaced) return { kind: "pan", last: at };
    if (this.compare && Math.abs(at.x - this.divider * this.canvas.clientWidth) < NEAR) return { kind: "divide" };
    if (this.tool === "box") return { kind: "box", from: at, start, end: start, moved: false };
    if (this.#brushes()) {
      return { kind: "stroke", stroke: { points: [[start.x, start.y]], radius: this.radius / this.scale } };
    }
    return { kind: "tap", from: at, last: at, moved: false };
  }

  #pinch() {
    const [a, b] = [...this.pointers.values()];
    return { kind: "pinch", apart: Math.hypot(a.x - b.x, a.y - b.y), middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 } };
  }

  #moves(points) {
    const { gesture } = this;
    const at = points[points.length - 1];
    if (gesture?.kind === "pinch") {
      if (this.pointers.size < 2) return;
      const now = this.#pinch();
      this.#pan(gesture.middle, now.middle);
      this.zoomBy(now.apart / (gesture.apart || 1), now.middle);
      this.gesture = now;
    } else if (gesture?.kind === "divide") {
      this.divider = Math.min(Math.max(at.x / this.canvas.clientWidth, 0), 1);
      this.on.divided?.(this.divider);
    } else if (gesture?.kind === "pan") {
      this.#pan(gesture.last, at);
      gesture.last = at;
    } else if (gesture?.kind === "box") {
      gesture.moved ||= Math.hypot(at.x - gesture.from.x, at.y - gesture.from.y) > TAP;
      gesture.end = this.#within(this.toPhoto(at));
      gesture.start = this.#within(gesture.start);
    } else if (gesture?.kind === "stroke") {
      for (const point of points) {
        const { x, y } = this.toPhoto(point);
        gesture.stroke.points.push([x, y]);
      }
    } else if (gesture?.kind === "tap") {
      gesture.moved ||= Math.hypot(at.x - gesture.from.x, at.y - gesture.from.y) > TAP;
      if (gesture.moved) this.#pan(gesture.last, at);
      gesture.last = at;
    }
  }

  #ended(gesture) {
    if (gesture.kind === "tap" && !gesture.moved) this.on.tap?.(this.toPhoto(gesture.from));
    if (gesture.kind === "box" && !gesture.moved) this.on.tap?.(gesture.start);
    if (gesture.kind === "box" && gesture.moved) {
      const { start, end } = gesture;
      this.on.box?.([Math.min(start.x, end.x), Math.min(start.y, end.y), Math.max(start.x, end.x), Math.max(start.y, end.y)]);
    }
    if (gesture.kind === "stroke") this.on.stroke?.(gesture.stroke);
  }

  #pan(from, to) {
    this.centre.x -= (to.x - from.x) / this.scale;
    this.centre.y -= (to.y - from.y) / this.scale;
    this.#moved();
  }

  #within({ x, y }) {
    return { x: Math.min(Math.max(x, 0), this.scene.width), y: Math.min(Math.max(y, 0), this.scene.height) };
  }
}

/** The pictures of a matte that two of the views need, made when they are first shown. */
function tinted(matte) {
  if (!matte.heat) {
    const { alpha, columns, rows } = matte;
    const [heat, cover] = [new ImageData(Math.max(columns, 1), Math.max(rows, 1)), new ImageData(Math.max(columns, 1), Math.max(rows, 1))];
    for (let i = 0; i < columns * rows; i++) {
      const place = alpha[i] / 255 * 4, stop = Math.min(Math.floor(place), 3), t = place - stop;
      for (let c = 0; c < 3; c++) {
        heat.data[4 * i + c] = CIVIDIS[stop][c] * (1 - t) + CIVIDIS[stop + 1][c] * t;
        cover.data[4 * i + c] = 255;
      }
      heat.data[4 * i + 3] = 217 * Math.min(1, alpha[i] / 64);
      cover.data[4 * i + 3] = alpha[i];
    }
    matte.heat = picture(heat);
    matte.cover = picture(cover);
  }
  return matte;
}

function picture(data) {
  const canvas = new OffscreenCanvas(data.width, data.height);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

function checkers(context) {
  const tile = new OffscreenCanvas(24, 24), paint = tile.getContext("2d");
  paint.fillStyle = "#fff";
  paint.fillRect(0, 0, 24, 24);
  paint.fillStyle = "#d9dcdf";
  paint.fillRect(0, 0, 12, 12);
  paint.fillRect(12, 12, 12, 12);
  return context.createPattern(tile, "repeat");
}
