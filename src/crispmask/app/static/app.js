// The page: what its controls do. The photo is drawn by view.js, the requests are made by server.js.

import { contour } from "./contour.js";
import { ask, Queue } from "./server.js";
import { COLOURS, View } from "./view.js";

const element = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];

const view = new View(element("canvas"));
const queue = new Queue(); // of the edits, for all photos
const photos = [];
let current = null;
let known = null; // what /settings says
let steps = 0; // numbers what undo takes back as one

/** A photo that was chosen; it is open once it has an id. */
class Photo {
  constructor(file) {
    this.file = file;
    this.name = file.name || "photo";
    this.id = null;
    this.failed = null;
    this.mattes = new Map();
    this.objects = [];
    this.chosen = null;
    this.marks = { inside: [], outside: [] };
    this.markStep = null;
    this.colours = new Map();
    this.thumbnail = null;
    this.changes = 0; // that were asked for
  }

  /**
   * Take over what the server says of the photo.
   * @param {object} state
   * @param {number} changes how many were asked for then: of later ones, the settings are newer here.
   */
  async take(state, changes = this.changes) {
    for (const [number, { place, png }] of Object.entries(state.mattes)) {
      this.mattes.set(Number(number), await decoded(Number(number), place, png));
    }
    this.objects = state.objects.map((object) => ({
      ...object,
      colour: this.colour(object.key),
      before: this.mattes.get(object.before),
      after: this.mattes.get(object.after),
    }));
    const used = new Set(state.objects.flatMap((object) => [object.before, object.after]));
    for (const number of this.mattes.keys()) if (!used.has(number)) this.mattes.delete(number);
    if (changes === this.changes) this.settings = state.settings;
    Object.assign(this, { command: state.command, undoable: state.can_undo, redoable: state.can_redo });
    if (state.made !== null) this.chosen = state.made;
    if (!this.objects.some((object) => object.key === this.chosen)) this.chosen = null;
  }

  colour(key) {
    if (!this.colours.has(key)) this.colours.set(key, COLOURS[this.colours.size % COLOURS.length]);
    return this.colours.get(key);
  }

  get object() {
    return this.objects.find((object) => object.key === this.chosen) ?? null;
  }
}

async function decoded(number, place, png) {
  const matte = { number, place, columns: 0, rows: 0, alpha: new Uint8Array(0), path: new Path2D(), area: 0 };
  if (!png) return matte;
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
  const [columns, rows] = [picture.width, picture.height];
  const context = new OffscreenCanvas(columns, rows).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  picture.close();
  const { data } = context.getImageData(0, 0, columns, rows);
  const alpha = new Uint8Array(columns * rows);
  for (let i = 0; i < alpha.length; i++) {
    alpha[i] = data[4 * i];
    matte.area += alpha[i] > 127;
  }
  const [x, y, width, height] = place;
  const [sx, sy] = [width / columns, height / rows];
  // Pixels of the photo: an object counts as small or large in them.
  return Object.assign(matte, { columns, rows, alpha, area: matte.area * sx * sy, path: contour(alpha, columns, rows, { x, y, sx, sy }) });
}

// Opening photos

async function open(files) {
  const added = [...files].filter((file) => file.size || file.name).map((file) => new Photo(file));
  if (!added.length) return;
  photos.push(...added);
  document.body.classList.remove("empty");
  if (!current) choose(added[0]);
  refresh();
  for (const photo of added) {
    await queue.add(() => upload(photo));
    if (photo.failed && photos.includes(photo)) {
      remove(photo);
      say(`${photo.name}: ${photo.failed}`, true);
    } else if (photo === current || current?.failed) {
      choose(photo);
    }
  }
}

/** Send a photo to the server, which finds the objects. */
async function upload(photo) {
  const form = new FormData();
  form.append("image", photo.file, photo.name);
  const like = photo.settings ?? current?.settings;
  if (like) form.append("settings", JSON.stringify(like));
  busy(photo === current ? "Looking for objects" : `Looking for objects in ${photo.name}`);
  try {
    const state = await (await ask("/photos", { method: "POST", body: form })).json();
    Object.assign(photo, { id: state.id, width: state.width, height: state.height });
    const shown = await (await ask(`/photos/${photo.id}/shown`)).blob();
    photo.bitmap = await createImageBitmap(shown);
    photo.thumbnail ??= URL.createObjectURL(shown);
    photo.mattes.clear();
    await photo.take(state);
  } catch (error) {
    photo.failed = error.message;
  }
  busy(null);
  refresh();
}

function choose(photo) {
  const other = photo !== current;
  current = photo;
  if (photo?.bitmap && (other || view.scene?.bitmap !== photo.bitmap)) {
    element("view").style.setProperty("--ratio", `${photo.width} / ${photo.height}`);
    view.show(photo);
  } else if (!photo?.bitmap) {
    view.scene = null;
    view.draw();
  }
  refresh();
  hint();
}

function remove(photo) {
  const place = photos.indexOf(photo);
  photos.splice(place, 1);
  if (photo.id) close(photo);
  if (photo.thumbnail) URL.revokeObjectURL(photo.thumbnail);
  if (photo === current) choose(photos[Math.min(place, photos.length - 1)] ?? null);
  document.body.classList.toggle("empty", !photos.length);
  refresh();
}

/** Let the server forget a photo; also while the page is left. */
function close(photo) {
  const headers = { "content-type": "application/json" };
  fetch(`/photos/${photo.id}/edit`, { method: "POST", headers, body: '{"do": "close"}', keepalive: true }).catch(() => {});
}

// Edits

/**
 * Ask the server to change the photo.
 * @param {object} request see crispmask.app.edits
 * @param {string | null} kind waiting requests of the same kind are dropped
 */
function edit(request, kind = null) {
  const photo = current;
  if (!photo?.id) return queue.settled();
  const changes = ++photo.changes;
  return queue.add(async () => {
    const late = setTimeout(() => busy("Working"), 400);
    try {
      await photo.take(await send(photo, request), changes);
      if (photo === current) quiet();
    } catch (error) {
      say(error.message, true);
      if (error.status === 404) {
        await upload(photo);
        if (photo === current) choose(photo);
        say("The server had closed this photo, since others were opened. It is open again, as at first.", true);
      }
    }
    clearTimeout(late);
    busy(null);
    refresh();
  }, kind && `${kind} ${photo.id}`);
}

async function send(photo, request) {
  const body = JSON.stringify({ ...request, have: [...photo.mattes.keys()] });
  const headers = { "content-type": "application/json" };
  return (await ask(`/photos/${photo.id}/edit`, { method: "POST", headers, body })).json();
}

/** The number of the step that a control makes: the same until it is let go. */
function stepOf(control) {
  control.step_number ??= ++steps;
  return control.step_number;
}

function letGo(control) {
  control.step_number = undefined;
}

function choosing(key) {
  if (!current) return;
  current.chosen = key;
  refresh();
}

function deleteChosen() {
  if (current?.object) edit({ do: "delete", object: current.chosen });
}

// The canvas

view.on.tap = (point) => {
  const inside = point.x >= 0 && point.y >= 0 && point.x < current.width && point.y < current.height;
  const found = view.objectAt(point);
  if (view.tool === "choose" && found) choosing(found.key === current.chosen ? null : found.key);
  else if (view.tool === "choose" && current.chosen !== null) choosing(null);
  else if (inside) edit({ do: "click", at: [point.x, point.y] });
};

view.on.box = (box) => edit({ do: "box", box });

view.on.stroke = (stroke) => {
  if (view.tool === "mark") {
    current.marks[view.marking].push(stroke);
    marked();
  } else if (current.object) {
    edit({ do: "paint", object: current.chosen, add: view.tool === "add", strokes: [stroke] });
  } else if (current.objects.length === 1) {
    choosing(current.objects[0].key);
    edit({ do: "paint", object: current.chosen, add: view.tool === "add", strokes: [stroke] });
  } else {
    const object = view.objectAt({ x: stroke.points[0][0], y: stroke.points[0][1] });
    if (object) {
      choosing(object.key);
      edit({ do: "paint", object: object.key, add: view.tool === "add", strokes: [stroke] });
    } else {
      say("Choose an object first: click it in the list, or begin the stroke on it.", true);
    }
  }
};

view.on.changed = () => {
  element("zoom-fit").textContent = view.scene ? `${Math.round(100 * view.scale)}%` : "100%";
};

view.on.divided = (share) => {
  element("divider").value = share;
};

/** A mark was made: what is missing is said, or the object is made. */
function marked() {
  const { inside, outside } = current.marks;
  if (inside.length && outside.length) {
    current.markStep ??= ++steps;
    edit({ do: "marks", inside, outside, step: current.markStep }, "marks");
  }
  hint();
}

function unmark() {
  if (!current) return;
  current.marks = { inside: [], outside: [] };
  current.markStep = null;
  hint();
  view.draw();
}

function setMarking(side) {
  view.marking = side;
  element("mark-inside").setAttribute("aria-checked", side === "inside");
  element("mark-outside").setAttribute("aria-checked", side === "outside");
  view.draw();
}

function setTool(tool) {
  if (view.tool === "mark" && tool !== "mark") unmark();
  view.tool = tool;
  view.hovered = null;
  for (const button of all("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
  element("brush-options").hidden = !["add", "erase", "mark"].includes(tool);
  element("mark-options").hidden = tool !== "mark";
  hint();
  view.zoomBy(1);
}

function setMode(mode) {
  view.mode = mode;
  for (const button of all("[data-mode]")) button.setAttribute("aria-checked", button.dataset.mode === mode);
  view.draw();
}

function setCompare(on) {
  view.compare = element("compare").checked = on;
  element("divider").hidden = !on;
  view.zoomBy(1);
}

function setBrush(pixels) {
  view.radius = Math.min(Math.max(pixels, 2), 80);
  element("brush").value = view.radius;
  view.draw();
}

// What the page says

let fading = null;

function show(text, wrong, lasting) {
  const line = element("hint");
  clearTimeout(fading);
  line.textContent = text;
  line.classList.toggle("wrong", wrong);
  line.classList.toggle("shown", Boolean(text));
  line.setAttribute("role", wrong ? "alert" : "status");
  element("welcome-wrong").textContent = wrong ? text : ""; // seen while no photo is open
  if (text && !lasting) fading = setTimeout(() => line.classList.remove("shown"), wrong ? 10000 : 6000);
}

const say = (text, wrong = false) => show(text, wrong, false);

/** An earlier complaint is settled. */
function quiet() {
  if (element("hint").classList.contains("wrong")) hint();
}

/** What to do with the tool. */
function hint() {
  if (!current?.id) return show("", false, false);
  const { inside, outside } = current.marks;
  const texts = {
    choose: "Click an object to choose it. Click anything else to make it an object.",
    box: "Click a thing, or draw a box around it.",
    add: "Paint what belongs to the object.",
    erase: "Paint what does not belong to the object.",
  };
  if (view.tool !== "mark") return show(texts[view.tool], false, false);
  if (inside.length && !outside.length) return show("Now mark some of the background too, in red.", false, true);
  if (outside.length && !inside.length) return show("Now mark some of the object too, in green.", false, true);
  return show(inside.length ? "Mark more where the edge is wrong." : "Mark some of the object in green, and some of the background in red.", false, false);
}

function busy(text) {
  element("busy").hidden = !text;
  element("busy").querySelector("span").textContent = text ?? "";
  document.body.setAttribute("aria-busy", Boolean(text));
}

/** Bring all controls up to date. */
function refresh() {
  view.chosen = current?.chosen ?? null;
  const ready = Boolean(current?.id), object = current?.object ?? null;
  element("undo").disabled = !current?.undoable;
  element("redo").disabled = !current?.redoable;
  for (const control of all(".panel input, .panel select, .panel button, .tool")) control.disabled = !ready;
  element("edge-title").textContent = object ? `Edge of ${object.label}` : current?.objects?.length === 1 ? "Edge" : "Edge of all objects";
  if (ready && element("edge").step_number === undefined) element("edge").value = object ? object.edge : common(current.objects, current.settings.edge);
  element("kept").hidden = !object?.kept;
  element("kept").textContent = object?.kept ? `Left as it was: ${object.kept}. Move the slider to refine it.` : "";
  element("nothing").hidden = !ready || current.objects.length > 0;
  element("download-title").textContent = object ? `Download ${object.label}` : "Download";
  for (const button of all("[data-file]")) button.disabled = !ready || !current.objects.length;
  element("zip").disabled = !ready || !photos.some((photo) => photo.id && photo.objects.length);
  element("zip").textContent = photos.length > 1 ? "Everything, all photos (ZIP)" : "Everything (ZIP)";
  objectList();
  strip();
  if (ready) advanced();
  view.draw();
}

/** The position of the slider that all objects share, or else the one for new objects. */
function common(objects, otherwise) {
  const edges = new Set(objects.map((object) => object.edge));
  return edges.size === 1 ? [...edges][0] : otherwise;
}

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function objectList() {
  const focused = document.activeElement?.dataset?.object;
  element("objects").replaceChildren(...(current?.objects ?? []).map((object) => {
    const dot = make("i", { className: "dot" });
    dot.style.background = object.colour;
    const sure = object.origin === "detector" ? `${Math.round(100 * object.score)}%` : "by hand";
    const pick = make("button", { type: "button", className: "pick" }, dot, make("span", { textContent: object.label }), make("small", { textContent: sure }));
    pick.dataset.object = object.key;
    pick.setAttribute("aria-pressed", object.key === current.chosen);
    pick.onclick = () => choosing(object.key === current.chosen ? null : object.key);
    pick.onmouseenter = () => { view.hovered = object; view.draw(); };
    pick.onmouseleave = () => { view.hovered = null; view.draw(); };
    const bin = make("button", { type: "button", className: "icon bin", title: "Delete", textContent: "×" });
    bin.setAttribute("aria-label", `Delete ${object.label}`);
    bin.onclick = () => edit({ do: "delete", object: object.key });
    return make("li", {}, pick, bin);
  }));
  if (focused) document.querySelector(`[data-object="${focused}"]`)?.focus();
}

function strip() {
  element("strip").hidden = photos.length < 2;
  element("strip").replaceChildren(...photos.map((photo) => {
    const button = make("button", { type: "button", title: photo.name });
    button.setAttribute("aria-label", photo.name);
    button.setAttribute("aria-current", photo === current);
    if (photo.thumbnail) button.append(make("img", { src: photo.thumbnail, alt: "" }));
    else button.append(make("i", { className: "spinner" }));
    button.onclick = () => { unmark(); choose(photo); };
    const bin = make("button", { type: "button", className: "icon bin", title: "Close", textContent: "×" });
    bin.setAttribute("aria-label", `Close ${photo.name}`);
    bin.onclick = () => remove(photo);
    return make("li", {}, button, bin);
  }));
}

// Advanced

const methodOf = (settings) => known.methods.find((method) => method.id === settings.method);

/** Bring the section up to date, but for the control that is being moved. */
function advanced() {
  const { settings } = current;
  const method = methodOf(settings);
  const values = { ...method.values, ...settings.values };
  const still = (control) => control.step_number === undefined && document.activeElement !== control;
  if (element("score").step_number === undefined) element("score").value = settings.score;
  output("score", Number(element("score").value), "%");
  if (still(element("classes"))) element("classes").value = settings.classes.join(", ");
  element("small").checked = settings.tiles > 1;
  element("method").value = settings.method;
  element("method-does").textContent = `${method.does[0].toUpperCase()}${method.does.slice(1)}.`;
  for (const item of known.controls) {
    const control = element(`param-${item.id}`);
    control.closest(".control").hidden = method.unused.includes(item.id);
    if (item.id === "theta_alpha") {
      const [low, high, step] = values.theta_alpha_scale === "pixel" ? known.pixels : [item.low, item.high, item.step];
      Object.assign(control, { min: low, max: high, step });
    }
    if (item.kind === "switch") control.checked = values[item.id];
    else if (control.step_number === undefined) control.value = values[item.id];
    if (item.kind === "slider") output(control.id, Number(control.value));
  }
  element("command").textContent = current.object?.command ?? current.command;
}

function output(id, value, unit = "") {
  document.querySelector(`output[for="${id}"]`).textContent = unit ? `${Math.round(100 * value)}${unit}` : String(value);
}

function parameter(item) {
  const id = `param-${item.id}`;
  const head = [make("label", { htmlFor: id, textContent: item.name, title: item.help })];
  let control;
  if (item.kind === "slider") {
    control = make("input", { type: "range", min: item.low, max: item.high, step: item.step, id });
    const shown = make("output");
    shown.htmlFor.add(id);
    head.push(shown);
  } else if (item.kind === "switch") {
    control = make("input", { type: "checkbox", id });
    control.setAttribute("role", "switch");
    head.splice(0, 1, make("label", { className: "switch", title: item.help }, control, make("i"), item.name));
  } else {
    control = make("select", { id }, ...item.choices.map((choice) => make("option", { value: choice, textContent: choice })));
  }
  control.oninput = () => {
    const value = item.kind === "switch" ? control.checked : item.kind === "slider" ? Number(control.value) : control.value;
    const changed = { ...current.settings.values, [item.id]: value };
    if (item.id === "theta_alpha_scale") changed.theta_alpha = value === "pixel" ? 60 : known.methods[0].values.theta_alpha;
    const { values: defaults } = methodOf(current.settings);
    for (const [name, own] of Object.entries(changed)) if (own === defaults[name]) delete changed[name];
    current.settings = { ...current.settings, values: changed };
    edit({ do: "params", method: current.settings.method, values: changed, step: stepOf(control) }, "params");
    if (item.kind === "slider") output(id, value);
  };
  control.onchange = () => letGo(control);
  const does = make("p", { textContent: `${item.does[0].toUpperCase()}${item.does.slice(1)}.` });
  return make("div", { className: "control" }, ...head, ...(item.kind === "switch" ? [] : [control]), does);
}

function setMethod(method) {
  current.settings = { ...current.settings, method, values: {} };
  edit({ do: "params", method, values: {} });
}

function detect(changed, control = null) {
  const { score, classes, tiles } = current.settings;
  const wanted = { score, classes, tiles, ...changed };
  current.settings = { ...current.settings, ...wanted };
  edit({ do: "detect", ...wanted, ...(control && { step: stepOf(control) }) }, "detect");
}

function detectClasses() {
  const names = element("classes").value.split(",").map((name) => name.trim()).filter(Boolean);
  const found = names.map((name) => known.classes.find((other) => other.toLowerCase() === name.toLowerCase()));
  const missing = names.find((_, i) => !found[i]);
  element("classes-wrong").hidden = !missing;
  element("classes-wrong").textContent = missing ? `The detector knows no "${missing}".` : "";
  if (!missing) detect({ classes: found });
}

// Downloads: made by the server when they are asked for, after everything that is waiting

async function download(path, name) {
  await queue.settled();
  busy("Preparing the download");
  try {
    const link = make("a", { href: URL.createObjectURL(await (await ask(path)).blob()), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch (error) {
    say(error.message, true);
  }
  busy(null);
}

function downloadFile(file) {
  const object = current.object, stem = current.name.replace(/\.[^.]*$/, "");
  const name = [stem, object?.label.replace(/\s+/g, "_"), file].filter(Boolean).join("_");
  return download(`/photos/${current.id}/files/${file}${object ? `?object=${object.key}` : ""}`, name);
}

function downloadAll() {
  const open = photos.filter((photo) => photo.id && photo.objects.length);
  const name = open.length === 1 ? `${open[0].name.replace(/\.[^.]*$/, "")}.zip` : "crispmask.zip";
  return download(`/photos.zip?ids=${open.map((photo) => photo.id).join(".")}`, name);
}

// Events

function nextObject(turn) {
  const keys = current?.objects.map((object) => object.key) ?? [];
  if (!keys.length) return;
  const place = keys.indexOf(current.chosen);
  choosing(place < 0 ? keys[turn > 0 ? 0 : keys.length - 1] : keys[(place + turn + keys.length) % keys.length]);
}

const KEYS = {
  v: () => setTool("choose"), b: () => setTool("box"), p: () => setTool("add"), e: () => setTool("erase"), m: () => setTool("mark"),
  1: () => setMode("outline"), 2: () => setMode("cutout"), 3: () => setMode("certainty"), c: () => setCompare(!view.compare),
  "[": () => setBrush(view.radius / 1.25), "]": () => setBrush(view.radius * 1.25),
  "+": () => view.zoomBy(1.25), "=": () => view.zoomBy(1.25), "-": () => view.zoomBy(0.8), 0: () => view.fit(),
  ArrowLeft: () => nextObject(-1), ArrowRight: () => nextObject(1),
  Delete: deleteChosen, Backspace: deleteChosen,
  Escape: () => { unmark(); choosing(null); },
};

function listen() {
  const pick = (id, input) => { element(id).onclick = () => element(input).click(); };
  for (const id of ["open", "choose-files"]) pick(id, "files");
  pick("own", "own-file");
  element("files").onchange = (event) => { open(event.target.files); event.target.value = ""; };
  element("own-file").onchange = async (event) => {
    const [file] = event.target.files, photo = current;
    event.target.value = "";
    if (!file || !photo?.id) return;
    await queue.add(async () => {
      busy("Refining the mask");
      const form = new FormData();
      form.append("mask", file, "mask");
      try {
        await photo.take(await (await ask(`/photos/${photo.id}/mask`, { method: "POST", body: form })).json());
      } catch (error) {
        say(error.message, true);
      }
      busy(null);
      refresh();
    });
  };
  element("undo").onclick = () => { unmark(); edit({ do: "undo" }); };
  element("redo").onclick = () => edit({ do: "redo" });
  for (const button of all("[data-tool]")) button.onclick = () => setTool(button.dataset.tool);
  for (const button of all("[data-mode]")) button.onclick = () => setMode(button.dataset.mode);
  for (const button of all("[data-file]")) button.onclick = () => downloadFile(button.dataset.file);
  element("zip").onclick = downloadAll;
  element("compare").onchange = (event) => setCompare(event.target.checked);
  element("divider").oninput = (event) => { view.divider = Number(event.target.value); view.draw(); };
  element("brush").oninput = (event) => setBrush(Number(event.target.value));
  element("mark-inside").onclick = () => setMarking("inside");
  element("mark-outside").onclick = () => setMarking("outside");
  element("mark-clear").onclick = unmark;
  element("zoom-in").onclick = () => view.zoomBy(1.25);
  element("zoom-out").onclick = () => view.zoomBy(0.8);
  element("zoom-fit").onclick = () => view.fit();

  const edge = element("edge");
  edge.oninput = () => {
    const request = { do: "edge", edge: Number(edge.value), step: stepOf(edge) };
    edit(current.object ? { ...request, object: current.chosen } : request, "edge");
  };
  edge.onchange = () => letGo(edge);
  element("score").oninput = () => {
    output("score", Number(element("score").value), "%");
    detect({ score: Number(element("score").value) }, element("score"));
  };
  element("score").onchange = () => letGo(element("score"));
  element("classes").onchange = detectClasses;
  element("small").onchange = (event) => detect({ tiles: event.target.checked ? 2 : 1 });
  element("method").onchange = (event) => setMethod(event.target.value);
  element("reset").onclick = () => setMethod("learned");
  element("copy").onclick = async () => {
    try {
      await navigator.clipboard.writeText(element("command").textContent);
      say("Copied.");
    } catch { // browsers allow it on this computer and over HTTPS only
      getSelection().selectAllChildren(element("command"));
      say("Press Ctrl+C to copy.");
    }
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=text], select");
    const undoing = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    if (undoing && !typing) {
      event.preventDefault();
      element(event.shiftKey ? "redo" : "undo").click();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing || !current?.id) return;
    const ranged = event.target.matches("input[type=range]");
    if (ranged && event.key.startsWith("Arrow")) return;
    if (event.key === " " && event.target === element("canvas")) {
      event.preventDefault();
      view.spaced = true;
      return;
    }
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") view.spaced = false; });

  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const dropping = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dropping", depth > 0);
  };
  document.addEventListener("dragenter", (event) => { if (carries(event)) dropping(1); });
  document.addEventListener("dragleave", (event) => { if (carries(event)) dropping(-1); });
  document.addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    dropping(-depth);
    open(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => { if (event.clipboardData?.files.length) open(event.clipboardData.files); });
  window.addEventListener("pagehide", (event) => { if (!event.persisted) for (const photo of photos) if (photo.id) close(photo); });
}

async function start() {
  listen();
  try {
    known = await (await ask("/settings")).json();
  } catch (error) {
    return say(error.message, true);
  }
  element("samples").append(...known.samples.map((name) => {
    const title = name.replace(/\.jpg$/, "").replaceAll("_", " ");
    const button = make("button", { type: "button", title }, make("img", { src: `/samples/${name}`, alt: title }));
    button.onclick = async () => open([new File([await (await ask(`/samples/${name}`)).blob()], name, { type: "image/jpeg" })]);
    return button;
  }));
  element("class-names").append(...known.classes.map((name) => make("option", { value: name })));
  element("method").append(...known.methods.map((method) => make("option", { value: method.id, textContent: method.name })));
  element("controls").append(...known.controls.map(parameter));
  refresh();
  document.body.dataset.ready = "yes";
}

start();
