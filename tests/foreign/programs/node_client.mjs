// @grpc/grpc-js: see test_clients.py. Its packages are those of examples/node.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, path, proto] = process.argv.slice(2);
const images = readFileSync(path);
const large = { images: Buffer.concat(Array(4096).fill(images.subarray(0, 784))) };
const definition = loader.loadSync("mlpserve/v1/classifier.proto", { includeDirs: [proto] });
const { ClassifierService } = grpc.loadPackageDefinition(definition).mlpserve.v1;
const client = new ClassifierService(address, grpc.credentials.createInsecure(), {
  "grpc.max_send_message_length": -1,
});
const name = (code) => Object.keys(grpc.status).find((key) => grpc.status[key] === code && key.length > 2);
const predict = (request, milliseconds, begun = () => {}) =>
  new Promise((resolve) => {
    const options = { deadline: Date.now() + milliseconds };
    begun(client.predict(request, options, (error, answer) => resolve({ error, answer })));
  });

const found = { answer: (await predict({ images }, 30_000)).answer.classIds };
found.deadline = name((await predict(large, 20)).error.code);
const refused = (await predict({ images: Buffer.from("x") }, 30_000)).error;
const details = refused.metadata.get("grpc-status-details-bin")[0].toString("latin1");
found.error = [name(refused.code), ...details.match(/google\.rpc\.\w+/g)];
let call;
const ended = predict(large, 30_000, (begun) => (call = begun));
await sleep(100);
call.cancel();
found.cancelled = name((await ended).error.code);
client.close();
console.log(JSON.stringify(found));
