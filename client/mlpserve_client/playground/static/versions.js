// The versions of the store: which one answers, and all of them side by side.

import { part, percent } from "./answer.js";

const find = (id) => document.getElementById(id);
const STATES = {
  serving: "serving",
  kept: "answers when named",
  available: "in the store",
  refused: "refused",
  unreadable: "unreadable",
};

export const chosen = () => Number(find("version").value || 0);
export const sideBySide = () => find("side-by-side").checked && !find("side-by-side").disabled;
export const answering = (model) => model.versions.filter((one) => one.answers).map((one) => one.version);

export function showVersions(model) {
  const before = find("version").value;
  const options = [["0", `the one that is served (${model.served.version})`]];
  for (const one of model.versions) if (one.answers) options.push([String(one.version), `version ${one.version}`]);
  find("version").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  find("version").value = options.some(([value]) => value === before) ? before : "0";
  find("side-by-side").disabled = answering(model).length < 2;
  showTable(model, []);
}

// One row for each version; `answers` are those to the same picture.
export function showTable(model, answers) {
  const byVersion = new Map(answers.map((answer) => [answer.version, answer]));
  const columns = ["version", ...(answers.length ? ["answer", "probability"] : []), "state", "test accuracy"];
  const head = document.createElement("tr");
  for (const name of columns) {
    const cell = part("th", name);
    cell.scope = "col";
    head.append(cell);
  }
  const served = byVersion.get(model.served.version);
  const rows = model.versions.map((one) => {
    const row = document.createElement("tr");
    const cells = [`${one.version}${one.promoted ? " (promoted)" : ""}`];
    const answer = byVersion.get(one.version);
    if (answer) cells.push(model.labels[answer.classId], percent(answer.probabilities[answer.classId]));
    else if (answers.length) cells.push("", "");
    cells.push(STATES[one.state] ?? one.state, one.testAccuracy ? `${(100 * one.testAccuracy).toFixed(2)} %` : "");
    row.append(...cells.map((text) => part("td", text)));
    row.title = one.detail || one.digest;
    row.classList.toggle("differs", Boolean(answer && served && answer.classId !== served.classId));
    return row;
  });
  find("versions").tHead.replaceChildren(head);
  find("versions").tBodies[0].replaceChildren(...rows);
}
