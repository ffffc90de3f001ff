// The load panel: a bounded burst, drawn while it runs.

import { burst } from "./api.js";

const find = (id) => document.getElementById(id);
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [320, 90, 34, 14, 8];

export function connectLoad(currentPixels, onFailure) {
  let abort = null;
  find("stop").addEventListener("click", () => abort?.abort());
  find("burst").addEventListener("submit", async (event) => {
    event.preventDefault();
    const pixels = currentPixels();
    if (!pixels || abort) return;
    abort = new AbortController();
    find("stop").hidden = false;
    find("start").disabled = true;
    find("burst-result").textContent = "Sending …";
    const points = [];
    try {
      const [requests, inFlight] = [Number(find("requests").value), Number(find("in-flight").value)];
      for await (const point of burst(pixels, requests, inFlight, abort.signal)) {
        if (point.done) find("burst-result").textContent = summary(point);
        else points.push(point);
        draw(points);
      }
    } catch (error) {
      if (error.name === "AbortError") find("burst-result").textContent = "Stopped.";
      else {
        find("burst-result").textContent = "";
        onFailure(error);
      }
    } finally {
      abort = null;
      find("stop").hidden = true;
      find("start").disabled = false;
    }
  });
}

function summary(point) {
  const failed = Object.entries(point.failed).map(([code, count]) => `, ${count} ${code}`);
  return (
    `${point.answered.toLocaleString("en")} answers in ${point.seconds.toFixed(2)} s` +
    ` (${Math.round(point.perSecond).toLocaleString("en")} a second)${failed.join("")};` +
    ` median ${point.p50Ms.toFixed(1)} ms, 99th percentile ${point.p99Ms.toFixed(1)} ms;` +
    ` batches of ${point.batch.toFixed(1)} images, the largest ${point.largestBatch}`
  );
}

function draw(points) {
  const answered = points.filter((point) => point.answered);
  chart(find("batch-chart"), answered, [["", (point) => point.batch]], (value) => value.toFixed(0), "images in a batch");
  const lines = [
    ["p50", (point) => point.p50Ms],
    ["p99", (point) => point.p99Ms],
  ];
  chart(find("latency-chart"), answered, lines, (value) => `${value.toFixed(0)} ms`, "latency in milliseconds");
}

function chart(svg, points, lines, format, what) {
  const seconds = Math.max(...points.map((point) => point.seconds), 0.1);
  const most = Math.max(...lines.flatMap(([, value]) => points.map(value)), 1) * 1.1;
  const x = (point) => LEFT + ((WIDTH - LEFT - 4) * point.seconds) / seconds;
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const shapes = [];
  for (const value of [0, most / 2.2, most / 1.1]) {
    shapes.push(shape("line", { x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }));
    shapes.push(shape("text", { x: LEFT - 3, y: y(value) + 3, "text-anchor": "end" }, format(value)));
  }
  shapes.push(shape("text", { x: WIDTH - 2, y: HEIGHT - 3, "text-anchor": "end" }, `${seconds.toFixed(1)} s`));
  for (const [name, value] of lines) {
    const path = points.map((point) => `${x(point).toFixed(1)},${y(value(point)).toFixed(1)}`).join(" ");
    shapes.push(shape("polyline", { class: name, points: path }));
  }
  svg.replaceChildren(...shapes);
  const last = points.at(-1);
  const values = last ? lines.map(([name, value]) => `${name} ${format(value(last))}`.trim()).join(", ") : "none yet";
  svg.setAttribute("aria-label", `${what} over ${seconds.toFixed(1)} seconds; last: ${values}`);
}

function shape(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}
