// The page: what is on the paper goes to the server, and what comes back is shown.

import * as api from "./api.js";
import { paintPixels, part, showAnswer, showClasses, showNothing, showSeen } from "./answer.js";
import { connectLoad } from "./load.js";
import { Paper } from "./paper.js";
import { answering, chosen, showTable, showVersions, sideBySide } from "./versions.js";

const find = (id) => document.getElementById(id);
const POLL = 2000; // milliseconds between two looks at what is served

let model = null; // what is served; null while nobody says
let opened = null; // a picture file or a tile of the gallery that is on the paper
let pixels = null; // what the model saw last
let asking = false;
let waiting = false; // something changed while an answer was on its way
let away = false; // the last answer was that the server does not answer

const paper = new Paper(find("paper"), () => {
  if (paper.strokes.length || !paper.picture) opened = null;
  find("undo").disabled = find("clear").disabled = paper.empty;
  ask();
});

// One question at a time: what is drawn meanwhile is asked when the answer is there.
async function ask() {
  if (asking) {
    waiting = true;
    return;
  }
  asking = true;
  try {
    do {
      waiting = false;
      await askOnce();
    } while (waiting);
  } finally {
    asking = false;
    document.body.dataset.settled = String(Number(document.body.dataset.settled ?? 0) + 1);
  }
}

async function askOnce() {
  if (paper.empty && !opened) {
    pixels = null;
    find("start").disabled = true;
    showNothing();
    if (model) showTable(model, []);
    return;
  }
  if (!model) return;
  const versions = sideBySide() ? [chosen(), ...answering(model)] : [chosen()];
  try {
    const result = await api.predict(opened ?? { file: await paper.file() }, versions);
    pixels = api.unpack(result.pixels);
    showSeen(pixels, result.rows, result.cols);
    showAnswer(model.labels, result.answers[0]);
    showTable(model, result.answers.slice(1));
    find("start").disabled = false;
    complain(null);
  } catch (error) {
    complain(error);
  }
}

function complain(error) {
  const notice = find("notice");
  notice.hidden = error === null;
  away = error !== null && ["Unavailable", "DeadlineExceeded", "Server"].includes(error.kind);
  if (error === null) return;
  const text = away
    ? `The model server does not answer (${error.message}). Is it running? Start it with: mlpserve-server --store STORE. ` +
      "This page looks again every two seconds."
    : error.message;
  if (notice.textContent !== text) notice.textContent = text;
}

async function look() {
  try {
    const now = await api.model();
    const changed = JSON.stringify(now) !== JSON.stringify(model);
    // A question that was asked while the server was away may have failed after it came back.
    const wasAway = away || model === null;
    if (changed) {
      const sameClasses = model && JSON.stringify(model.labels) === JSON.stringify(now.labels);
      const newVersion = model?.served.digest !== now.served.digest;
      model = now;
      showServed();
      if (!sameClasses) showClasses(model.labels);
      showVersions(model);
      if (newVersion) showGallery();
    }
    if (wasAway) complain(null);
    if (changed || wasAway) ask();
  } catch (error) {
    model = null;
    complain(error);
  }
  setTimeout(look, POLL);
}

function showServed() {
  const { served, layers, data, testAccuracy, target } = model;
  const accuracy = testAccuracy ? `, ${(100 * testAccuracy).toFixed(2)} % on its test set` : "";
  find("served").textContent =
    `${served.name} version ${served.version} (${layers.join("-")}, trained on ${data}${accuracy}) on ${target}, ` +
    `${served.provider}, ${served.precision}`;
}

async function showGallery() {
  try {
    const { items, images, wrong } = await api.gallery();
    if (!items.length) return;
    const mistakes = wrong === null ? "" : `; it is wrong about ${wrong.toLocaleString("en")}`;
    find("gallery-help").textContent = `Of ${images.toLocaleString("en")} images the ${items.length} that version
      ${model.served.version} is least sure of${mistakes}. Press one to ask again.`;
    find("gallery").replaceChildren(...items.map(tile));
  } catch (error) {
    find("gallery-help").textContent = error.message;
  }
}

function tile(item) {
  const button = document.createElement("button");
  button.type = "button";
  const picture = document.createElement("canvas");
  picture.setAttribute("aria-hidden", "true");
  const bytes = api.unpack(item.pixels);
  paintPixels(picture, bytes, model.rows, model.cols);
  const label = item.target === null ? "" : `is ${model.labels[item.target]}, `;
  const text = part("span", `${label}said ${model.labels[item.answer]} ${(100 * item.score).toFixed(0)} %`);
  text.classList.toggle("wrong", item.target !== null && item.target !== item.answer);
  button.append(picture, text);
  button.addEventListener("click", () => {
    opened = { pixels: bytes };
    paper.show(picture);
    find("paper").scrollIntoView({ block: "nearest" });
  });
  const element = document.createElement("li");
  element.append(button);
  return element;
}

async function openFile(file) {
  const picture = await createImageBitmap(file).catch(() => null); // the client knows more formats than browsers do
  if (!picture) paper.clear();
  opened = { file };
  if (picture) paper.show(picture);
  else ask();
  find("clear").disabled = false;
}

find("undo").addEventListener("click", () => paper.undo());
find("clear").addEventListener("click", () => {
  opened = null;
  paper.clear();
});
find("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) openFile(file);
  event.target.value = "";
});
for (const id of ["version", "side-by-side"]) find(id).addEventListener("change", ask);
connectLoad(() => pixels, complain);
look();
