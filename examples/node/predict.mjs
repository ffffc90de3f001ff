// A gRPC client in Node, from the .proto files alone: no generated code, none of this project's Python.
//
//     npm install --prefix examples/node
//     node examples/node/predict.mjs 127.0.0.1:50051 trainer/mlpserve_trainer/mnist/t10k-images-idx3-ubyte.gz 10
//
// classifies the first 10 images of an IDX file (MNIST's format, gzipped or not), one line for each.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";

import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const PROTO = process.env.MLPSERVE_PROTO ?? join(dirname(fileURLToPath(import.meta.url)), "../../proto");
const TIMEOUT_MS = 10_000; // for a whole call with its retries

// gRPC's own retries: Predict is idempotent, and UNAVAILABLE means that nothing was computed.
const SERVICE_CONFIG = {
  methodConfig: [
    {
      name: [{ service: "mlpserve.v1.ClassifierService" }],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.1s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

function connect(address) {
  const definition = loader.loadSync("mlpserve/v1/classifier.proto", { includeDirs: [PROTO], longs: Number });
  const { ClassifierService } = grpc.loadPackageDefinition(definition).mlpserve.v1;
  const options = { "grpc.service_config": JSON.stringify(SERVICE_CONFIG) };
  const client = new ClassifierService(address, grpc.credentials.createInsecure(), options);
  const call = (method) => {
    const send = promisify(client[method].bind(client));
    return (request) => send(request, { deadline: Date.now() + TIMEOUT_MS });
  };
  return { getModel: call("getModel"), predict: call("predict"), close: () => client.close() };
}

function readIdx(path) {
  const content = readFileSync(path);
  const bytes = content.readUInt16BE(0) === 0x1f8b ? gunzipSync(content) : content;
  if (bytes.readUInt32BE(0) !== 0x803) throw new Error(`${path}: not an IDX file of images`);
  const [count, rows, cols] = [4, 8, 12].map((offset) => bytes.readUInt32BE(offset));
  return { count, rows, cols, pixels: bytes.subarray(16) };
}

async function main([address, path, wanted = "10"]) {
  if (!path) throw new Error("usage: node predict.mjs HOST:PORT IMAGES [COUNT]");
  const images = readIdx(path);
  const client = connect(address);
  try {
    const { manifest } = await client.getModel({});
    const { rows, cols } = manifest.image;
    if (images.rows !== rows || images.cols !== cols) {
      throw new Error(`${path} has images of ${images.rows}x${images.cols}; the model takes ${rows}x${cols}`);
    }
    const count = Math.min(Number(wanted), images.count);
    const answer = await client.predict({ images: images.pixels.subarray(0, count * rows * cols) });
    answer.classIds.forEach((id, row) => {
      console.log(`${row} ${manifest.labels[id]} ${(100 * answer.scores[row]).toFixed(1)}%`);
    });
  } finally {
    client.close();
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`predict.mjs: ${error.message}`);
  process.exitCode = 1;
}
