// The load panel: a bounded burst, drawn while it runs.

import { burst } from "./api.js";

const find = (id) => document.getElementById(id);
const [HEIGHT, LEFT, BOTTOM, TOP] = [110, 44, 18, 10]; // CSS pixels, as everything in a chart

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
      const job = find("job").checked;
      find("beside").hidden = !job;
      for await (const point of burst(pixels, requests, inFlight, job, abort.signal)) {
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
    ` batches of ${point.batch.toFixed(1)} images, the largest ${point.largestBatch}` +
    jobSummary(point.job)
  );
}

function jobSummary(job) {
  if (!job) return "";
  const failed = Object.entries(job.failed).map(([code, count]) => `, ${count} requests ${code}`);
  return `; the job beside them: ${Math.round(job.perSecond).toLocaleString("en")} images a second${failed.join("")}`;
}

function draw(points) {
  const answered = points.filter((point) => point.answered);
  chart(find("batch-chart"), answered, [["", (point) => point.batch]], (value) => value.toFixed(1), "images in a batch");
  const lines = [
    ["p50", (point) => point.p50Ms],
    ["p99", (point) => point.p99Ms],
  ];
  chart(find("latency-chart"), answered, lines, (value) => `${value.toFixed(1)} ms`, "latency");
  const whole = (value) => Math.round(value).toLocaleString("en");
  chart(find("rate-chart"), points, [["", (point) => point.perSecond]], whole, "answers a second");
  if (points[0]?.job) chart(find("job-chart"), points, [["job", (point) => point.job.perSecond]], whole, "the job's images a second");
}

function chart(svg, points, lines, format, what) {
  const width = Math.max(svg.clientWidth, 160);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const seconds = Math.max(...points.map((point) => point.seconds), 0.1);
  const most = top(Math.max(...lines.flatMap(([, value]) => points.map(value)), 1));
  const x = (point) => LEFT + ((width - LEFT - 4) * point.seconds) / seconds;
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const shapes = [];
  for (const value of [0, most / 2, most]) {
    shapes.push(shape("line", { x1: LEFT, x2: width, y1: y(value), y2: y(value) }));
    shapes.push(shape("text", { x: LEFT - 3, y: y(value) + 4, "text-anchor": "end" }, tick(value)));
  }
  shapes.push(shape("text", { x: width - 2, y: HEIGHT - 3, "text-anchor": "end" }, `${seconds.toFixed(1)} s`));
  for (const [name, value] of lines) {
    const path = points.map((point) => `${x(point).toFixed(1)},${y(value(point)).toFixed(1)}`).join(" ");
    shapes.push(shape("polyline", { class: name, points: path }));
  }
  svg.replaceChildren(...shapes);
  const last = points.at(-1);
  const values = last ? lines.map(([name, value]) => `${name} ${format(value(last))}`.trim()).join(", ") : "none yet";
  svg.setAttribute("aria-label", `${what} over ${seconds.toFixed(1)} seconds; last: ${values}`);
}

// What stands beside an axis, short enough for its place.
function tick(value) {
  return value.toLocaleString("en", value >= 10_000 ? { notation: "compact" } : {});
}

// The end of an axis: the next of 2, 4, 6, 8, 10, 20, 40 …, whose half is a whole number too.
function top(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const found = [2, 4, 6, 8, 10].find((factor) => factor * power >= value);
  return found * power;
}

function shape(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}
