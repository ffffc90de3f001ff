// A sheet of paper: strokes of a mouse, finger, pen or the keyboard. It knows nothing of digits.

const WIDTH = 22; // of the pen, on a sheet of 280 units
const STEP = 8; // of an arrow key

export class Paper {
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.context = canvas.getContext("2d");
    this.strokes = [];
    this.picture = null; // an opened file, shown under the strokes
    this.drawing = new Map(); // pointer → its stroke: two fingers may draw at once
    this.cursor = null; // of the keyboard
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.#up(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#lift());
    this.#paint();
  }

  get empty() {
    return this.strokes.length === 0 && this.picture === null;
  }

  undo() {
    if (this.strokes.length) this.strokes.pop();
    else this.picture = null;
    this.#changed();
  }

  clear() {
    this.strokes = [];
    this.picture = null;
    this.#changed();
  }

  // Shows a picture as large as it fits; the file itself is what is sent, as long as nothing is drawn on it.
  show(picture) {
    this.strokes = [];
    this.picture = picture;
    this.#changed();
  }

  // Paper and ink as a picture file, without the keyboard's cursor.
  async file() {
    this.#paint(false);
    const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
    this.#paint();
    return blob;
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * this.canvas.width) / box.width,
      ((event.clientY - box.top) * this.canvas.height) / box.height,
    ];
  }

  #down(event) {
    if (event.button !== 0) return;
    this.cursor = null;
    this.canvas.setPointerCapture(event.pointerId);
    const stroke = [this.#place(event)];
    this.drawing.set(event.pointerId, stroke);
    this.strokes.push(stroke);
    this.#changed();
  }

  #move(event) {
    const stroke = this.drawing.get(event.pointerId);
    if (!stroke) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) stroke.push(this.#place(one));
    this.#changed();
  }

  #up(event) {
    this.drawing.delete(event.pointerId);
  }

  #key(event) {
    const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") this.undo();
    else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else if (event.key === " ") this.#pen();
    else if (moves[event.key]) this.#step(moves[event.key]);
    else return;
    event.preventDefault();
  }

  #pen() {
    this.cursor ??= { at: [this.canvas.width / 2, this.canvas.height / 2], stroke: null };
    if (this.cursor.stroke) return this.#lift();
    this.cursor.stroke = [[...this.cursor.at]];
    this.strokes.push(this.cursor.stroke);
    this.#changed();
  }

  #lift() {
    if (this.cursor) this.cursor.stroke = null;
    this.#paint();
  }

  #step([x, y]) {
    this.cursor ??= { at: [this.canvas.width / 2, this.canvas.height / 2], stroke: null };
    const within = (value, most) => Math.min(Math.max(value, 0), most);
    this.cursor.at = [
      within(this.cursor.at[0] + x, this.canvas.width),
      within(this.cursor.at[1] + y, this.canvas.height),
    ];
    if (!this.cursor.stroke) return this.#paint();
    this.cursor.stroke.push([...this.cursor.at]);
    this.#changed();
  }

  #changed() {
    // What was undone or cleared while the pen is down is gone; the pen goes on with a stroke of its own.
    if (this.cursor?.stroke && !this.strokes.includes(this.cursor.stroke)) this.cursor.stroke = null;
    this.#paint();
    this.onChange();
  }

  #paint(withCursor = true) {
    const { context, canvas } = this;
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (this.picture) {
      const scale = Math.min(canvas.width / this.picture.width, canvas.height / this.picture.height);
      const [width, height] = [this.picture.width * scale, this.picture.height * scale];
      context.drawImage(this.picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    }
    Object.assign(context, { strokeStyle: "#111", fillStyle: "#111", lineWidth: WIDTH, lineCap: "round", lineJoin: "round" });
    for (const [first, ...rest] of this.strokes) {
      context.beginPath();
      context.arc(...first, WIDTH / 2, 0, 2 * Math.PI); // a line of no length would draw nothing
      context.fill();
      context.beginPath();
      context.moveTo(...first);
      for (const point of rest) context.lineTo(...point);
      context.stroke();
    }
    if (withCursor && this.cursor) {
      context.lineWidth = 2;
      context.strokeStyle = this.cursor.stroke ? "#a84b00" : "#0b6e64";
      context.beginPath();
      context.arc(...this.cursor.at, WIDTH / 2 + 3, 0, 2 * Math.PI);
      context.stroke();
    }
  }
}
