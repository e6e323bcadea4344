// Runs a bundle's sampler.onnx on raw files: node sampler.mjs FOLDER N C H W CLASSES, for test_sampler_node.py.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const ort = createRequire(new URL("../../../examples/node/package.json", import.meta.url))("onnxruntime-node");
const [folder, ...sizes] = process.argv.slice(2);
const [n, c, h, w, classes] = sizes.map(Number);
const bytes = (name) => new Uint8Array(readFileSync(join(folder, name)));

const session = await ort.InferenceSession.create(join(folder, "sampler.onnx"), { intraOpNumThreads: 1 });
const { image } = await session.run({
  label_map: new ort.Tensor("uint8", bytes("label_map"), [n, h, w]),
  keep: new ort.Tensor("bool", bytes("keep"), [classes]),
  noise: new ort.Tensor("float32", new Float32Array(bytes("noise").buffer), [n, c, h, w]),
});
writeFileSync(join(folder, "image"), image.data);
