// Shows one answer: bars, the picture that the model sees, where the time went, what answered.

const find = (id) => document.getElementById(id);
const milliseconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} ms`;
const percent = (value) => `${(100 * value).toFixed(1)} %`;

export function showClasses(labels) {
  find("bars").replaceChildren(
    ...labels.map((label) => {
      const row = document.createElement("li");
      row.append(part("span", label, "label"), track(), part("span", "", "percent"));
      return row;
    }),
  );
}

function part(tag, text, name = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = name;
  return element;
}

function track() {
  const element = part("span", "", "track");
  element.append(part("div", "", "fill"));
  return element;
}

export function showAnswer(labels, answer) {
  const best = answer.classId;
  const verdict = `${labels[best]}, ${percent(answer.probabilities[best])}`;
  if (find("verdict").textContent !== verdict) find("verdict").textContent = verdict;
  [...find("bars").children].forEach((row, number) => {
    const share = answer.probabilities[number] ?? 0;
    row.classList.toggle("best", number === best);
    row.querySelector(".fill").style.width = percent(share).replace(" ", "");
    row.querySelector(".percent").textContent = percent(share);
  });
  showTime(answer);
}

export function showNothing() {
  find("verdict").textContent = "Draw something";
  for (const row of find("bars").children) {
    row.classList.remove("best");
    row.querySelector(".fill").style.width = "0";
    row.querySelector(".percent").textContent = "";
  }
  const seen = find("seen");
  seen.getContext("2d").clearRect(0, 0, seen.width, seen.height);
  seen.setAttribute("aria-label", "Nothing yet");
  find("time").replaceChildren();
  find("time").setAttribute("aria-label", "No answer yet");
  find("facts").replaceChildren();
}

function showTime(answer) {
  const parts = [];
  if (answer.queueMs !== null) {
    parts.push(["queue", "waiting in the queue", answer.queueMs], ["run", "running in its batch", answer.runMs]);
  }
  const inside = parts.reduce((sum, [, , value]) => sum + value, 0);
  parts.push(["rest", "on the way there and back", Math.max(answer.totalMs - inside, 0)]);
  find("time").replaceChildren(
    ...parts.map(([name, , value]) => {
      const element = part("div", "", name);
      element.style.flexGrow = value;
      return element;
    }),
  );
  find("time").setAttribute("aria-label", parts.map(([, what, value]) => `${what} ${milliseconds(value)}`).join(", "));
  const facts = parts.map(([name, what, value]) => [what, milliseconds(value), name]);
  facts.push(["answered by", `${answer.name} version ${answer.version}`], ["digest", answer.digest.slice(0, 16)]);
  facts.push(["provider", answer.provider]);
  if (answer.batch !== null) facts.push(["in a batch of", answer.batch === 1 ? "1 image" : `${answer.batch} images`]);
  find("facts").replaceChildren(
    ...facts.flatMap(([name, value, swatch]) => {
      const term = part("dt", ` ${name}`);
      if (swatch) term.prepend(part("span", "", `swatch ${swatch}`));
      return [term, part("dd", value)];
    }),
  );
}

export function paintPixels(canvas, pixels, rows, cols) {
  canvas.width = cols;
  canvas.height = rows;
  const image = new ImageData(cols, rows);
  pixels.forEach((value, number) => image.data.set([value, value, value, 255], 4 * number));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

export function showSeen(pixels, rows, cols) {
  paintPixels(find("seen"), pixels, rows, cols);
  const inked = pixels.reduce((count, value) => count + (value > 64), 0);
  find("seen").setAttribute("aria-label", `${rows} by ${cols} pixels, ${inked} of them inked`);
}

export { part, percent };
