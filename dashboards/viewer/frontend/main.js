// Window, zoom, slices and shares of the images that Python sent. Nothing that happens here goes back to it.
import { at, largest, strongest, unpack } from "./images.js";
import { Scene } from "./scene.js";
import { connect, fit } from "./streamlit.js";

const HU_PRESETS = { lung: [-600, 1500], soft: [40, 400], bone: [500, 2000], brain: [40, 80] };
const LISTED = 8;
const $ = (id) => document.getElementById(id);
const stage = $("stage");
const scene = new Scene();
const ready = scene.attach($("canvas"));
let shown = ""; // the digest of what Python sent last
let images = [];
let texts = {};
let language = "en";
let image;
let state;
let pointer = null;
let frame = 0;

connect(async (args, theme) => {
  texts = args.texts;
  language = args.language;
  document.documentElement.lang = language;
  paint(theme);
  translate();
  if (args.digest !== shown) {
    shown = args.digest;
    await ready;
    images = unpack(args.images, args.pixels, args.shares);
    $("viewer").hidden = false;
    list();
    await choose(0);
  }
});

function paint(theme) {
  const names = { text: "textColor", back: "backgroundColor", second: "secondaryBackgroundColor", font: "font" };
  for (const [name, key] of Object.entries(names)) if (theme?.[key]) document.body.style.setProperty(`--${name}`, theme[key]);
  // Blue that can be told from either background.
  document.body.style.setProperty("--primary", theme?.base === "dark" ? "#56b4e9" : "#0072b2");
  document.documentElement.style.colorScheme = theme?.base ?? "light";
}

function translate() {
  document.title = texts.title;
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = texts[each.dataset.text];
  $("strip").setAttribute("aria-label", texts.title);
  stage.setAttribute("aria-describedby", "keys");
}

function list() {
  const buttons = images.map(({ title }, place) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: title });
    button.addEventListener("click", () => choose(place));
    return button;
  });
  $("strip").replaceChildren(...buttons);
}

async function choose(place) {
  image = images[place];
  [...$("strip").children].forEach((button, each) => button.setAttribute("aria-pressed", each === place));
  stage.setAttribute("aria-label", image.title);
  $("slice").max = image.names.length - 1;
  document.querySelector(".slices").hidden = image.names.length === 1;
  const presets = image.unit === "HU" ? HU_PRESETS : {};
  const offered = ["file", ...Object.keys(presets)].map((name) => new Option(texts[name], name));
  $("preset").replaceChildren(...offered, new Option(texts.own, "own"));
  const windows = [image.window, ...Object.values(presets)];
  const low = Math.min(image.low, ...windows.map(([centre, width]) => centre - width / 2));
  const high = Math.max(image.high, ...windows.map(([centre, width]) => centre + width / 2));
  Object.assign($("centre"), { min: low, max: high });
  Object.assign($("width"), { min: (high - low) / 1000, max: 2 * (high - low) });
  const [lowers, , raises] = $("legend").children;
  lowers.textContent = signed(-largest(image), 2);
  raises.textContent = signed(largest(image), 2);
  pointer = null;
  await scene.open(image);
  reset();
}

function reset() {
  const [centre, width] = image.window;
  state = { slice: image.first, centre, width, preset: "file", x: 0, y: 0, zoom: 1 };
  scene.heat($("heat").checked ? Number($("opacity").value) : 0);
  turnTo(state.slice);
  moved();
}

function turnTo(slice) {
  state.slice = Math.min(Math.max(slice, 0), image.names.length - 1);
  draw();
  const rows = strongest(image, state.slice, LISTED).map(({ row, column, share }) => {
    const line = document.createElement("tr");
    for (const text of [named(row, column), signed(share, 3)]) line.append(Object.assign(document.createElement("td"), { textContent: text }));
    return line;
  });
  document.querySelector("#numbers tbody").replaceChildren(...rows);
  $("unseen").hidden = !Number.isNaN(at(image, state.slice, 0, 0).share);
  tell();
}

function setWindow(centre, width, preset = "own") {
  const within = (value, { min, max }) => Math.min(Math.max(value, Number(min)), Number(max));
  Object.assign(state, { centre: within(centre, $("centre")), width: within(width, $("width")), preset });
  draw();
  tell();
}

function moved() {
  const reach = (1 - 1 / state.zoom) / 2;
  const within = (place, side) => Math.min(Math.max(place, -reach * side), reach * side);
  Object.assign(state, { x: within(state.x, image.width), y: within(state.y, image.height) });
  scene.move(state);
  tell();
}

function zoomTo(zoom) {
  state.zoom = Math.min(Math.max(zoom, 1), 8);
  moved();
}

function showHeat() {
  scene.heat($("heat").checked ? Number($("opacity").value) : 0);
  tell();
}

/** Draw once per frame, however often a hand moves. */
function draw() {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => scene.show(state));
}

// What is said

function tell() {
  const { slice, centre, width, preset, zoom } = state;
  const several = image.names.length > 1;
  $("where").textContent = `${several ? `${image.names[slice]}\n` : ""}${texts.centre} ${plain(centre)}  ${texts.width} ${plain(width)}`;
  for (const [id, value, text] of [
    ["slice", slice, `${slice + 1} / ${image.names.length}`],
    ["centre", centre, plain(centre)],
    ["width", width, plain(width)],
    ["zoom", zoom, `${zoom.toLocaleString(language, { maximumFractionDigits: 1 })}×`],
    ["opacity", $("opacity").value, Number($("opacity").value).toLocaleString(language, { style: "percent" })],
  ]) {
    $(id).value = value;
    $(id).setAttribute("aria-valuetext", id === "slice" ? image.names[slice] : text);
    document.querySelector(`output[for="${id}"]`).textContent = text;
  }
  $("preset").value = preset;
  under();
}

function under() {
  const place = pointer && scene.place(...pointer);
  if (!place) return void ($("under").textContent = "");
  const { value, row, column, share } = at(image, state.slice, place.x, place.y);
  const said = Number.isNaN(share) ? texts.unseen : `${named(row, column)}: ${signed(share, 3)} ${texts.logodds}`;
  $("under").textContent = `${texts.value} ${plain(value)}${image.unit ? ` ${image.unit}` : ""}\n${said}`;
}

function named(row, column) {
  return texts.place.replace("{row}", row).replace("{column}", column);
}

function plain(value) {
  return value.toLocaleString(language, image.step < 0.1 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 });
}

function signed(share, digits) {
  const said = { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: "exceptZero" };
  return share.toLocaleString(language, said).replace("-", "\u2212");
}

// Hands

$("slice").addEventListener("input", ({ target }) => turnTo(Number(target.value)));
$("centre").addEventListener("input", ({ target }) => setWindow(Number(target.value), state.width));
$("width").addEventListener("input", ({ target }) => setWindow(state.centre, Number(target.value)));
$("zoom").addEventListener("input", ({ target }) => zoomTo(Number(target.value)));
$("heat").addEventListener("change", showHeat);
$("opacity").addEventListener("input", showHeat);
$("reset").addEventListener("click", reset);
$("preset").addEventListener("change", ({ target }) => {
  const [centre, width] = HU_PRESETS[target.value] ?? (target.value === "file" ? image.window : [state.centre, state.width]);
  setWindow(centre, width, target.value);
});
$("panel").addEventListener("submit", (event) => event.preventDefault());
new ResizeObserver(fit).observe($("viewer"));

let dragged = null;
stage.addEventListener("contextmenu", (event) => event.preventDefault());
stage.addEventListener("pointerdown", (event) => {
  const moves = event.button !== 0 || event.shiftKey || $("drag").value === "move";
  dragged = { x: event.clientX, y: event.clientY, moves };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  pointer = [event.clientX, event.clientY];
  if (!dragged) return under();
  const x = event.clientX - dragged.x;
  const y = event.clientY - dragged.y;
  Object.assign(dragged, { x: event.clientX, y: event.clientY });
  const side = stage.clientWidth;
  if (dragged.moves) {
    state.x += (x / side / state.zoom) * image.width;
    state.y -= (y / side / state.zoom) * image.height;
    return moved();
  }
  // Across the whole picture, a hand goes through twice the window of the file.
  const scale = (2 * image.window[1]) / side;
  setWindow(state.centre + y * scale, state.width + x * scale);
});
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => (dragged = null));
stage.addEventListener("pointerleave", () => {
  pointer = null;
  under();
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const down = Math.sign(event.deltaY);
  if (image.names.length > 1 && !event.ctrlKey) turnTo(state.slice + down);
  else zoomTo(state.zoom * 1.15 ** -down);
}, { passive: false });
stage.addEventListener("keydown", (event) => {
  const act = keys(event);
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});

function keys({ key, shiftKey }) {
  const step = image.window[1] / 20;
  const by = (x, y) => () => {
    Object.assign(state, { x: state.x + x * image.width / 20, y: state.y + y * image.height / 20 });
    moved();
  };
  const arrows = shiftKey
    ? { ArrowUp: by(0, -1), ArrowDown: by(0, 1), ArrowLeft: by(1, 0), ArrowRight: by(-1, 0) }
    : {
        ArrowUp: () => setWindow(state.centre + step, state.width),
        ArrowDown: () => setWindow(state.centre - step, state.width),
        ArrowLeft: () => setWindow(state.centre, state.width - step),
        ArrowRight: () => setWindow(state.centre, state.width + step),
      };
  return {
    ...arrows,
    PageUp: () => turnTo(state.slice - 1),
    PageDown: () => turnTo(state.slice + 1),
    Home: () => turnTo(0),
    End: () => turnTo(image.names.length - 1),
    "+": () => zoomTo(state.zoom * 1.25),
    "-": () => zoomTo(state.zoom / 1.25),
    h: () => {
      $("heat").checked = !$("heat").checked;
      showHeat();
    },
    r: reset,
  }[key.length === 1 ? key.toLowerCase() : key];
}
