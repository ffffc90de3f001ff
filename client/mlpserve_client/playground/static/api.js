// The page's requests. Every failure becomes an Error with a `kind`, whether the playground or the model server is away.

export class Failure extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("Gone", "The playground itself has ended. Start it again: mlpserve playground");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: null }));
  throw new Failure(error?.kind ?? "Failed", error?.message ?? `${response.status} ${response.statusText}`);
}

export const model = async () => (await call("/api/model")).json();
export const gallery = async () => (await call("/api/gallery")).json();

// A picture is what the client is to prepare, {file: Blob}, or what the model is to see, {pixels: Uint8Array}.
export async function predict(picture, versions) {
  const raw = picture.pixels ? "&raw=1" : "";
  const path = `/api/predict?versions=${versions.join(",")}${raw}`;
  return (await call(path, { method: "POST", body: picture.pixels ?? picture.file })).json();
}

export async function* burst(pixels, requests, inFlight, job, signal) {
  const path = `/api/burst?requests=${requests}&inFlight=${inFlight}&job=${job ? 1 : 0}&raw=1`;
  const response = await call(path, { method: "POST", body: pixels, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

export const unpack = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
