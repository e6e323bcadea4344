// A PNG mask to a PNG image, by a bundle's sampler.onnx (seggd-rt export --loop STEPS) and onnxruntime-node alone.
//
//   npm install --ignore-scripts     (the scripts would only fetch CUDA's libraries)
//   node generate.mjs cardiac.seggd mask.png image.png [SEED [CLASS,...]]
//
// The mask's pixels are class ids: 8-bit grey, or palette indices. CLASSes are those to keep, all by default.
// The image is the one that `seggd-rt generate --mask mask.png --seed SEED --steps STEPS` draws in fp32.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { decode, encode } from "fast-png";
import ort from "onnxruntime-node";
import { normal } from "./noise.mjs";

/** Class ids of a PNG, one a pixel: samples of less than 8 bits are packed, and each row begins a byte. */
function classIds({ width, height, depth, channels, data }) {
  if (channels !== 1 || depth > 8) throw new Error("the mask must be a PNG of 8-bit grey or of palette indices");
  const stride = Math.ceil((width * depth) / 8);
  return Uint8Array.from({ length: width * height }, (_, k) => {
    const bit = (k % width) * depth;
    const byte = data[Math.floor(k / width) * stride + (bit >> 3)];
    return (byte >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
  });
}

const [bundle, maskFile, imageFile, seed = "0", kept] = process.argv.slice(2);
if (!imageFile) throw new Error("usage: node generate.mjs BUNDLE MASK.png IMAGE.png [SEED [CLASS,...]]");
const manifest = JSON.parse(await readFile(join(bundle, "bundle.json"), "utf8"));
const { channels, height, width } = manifest.image;
const loop = manifest.extensions?.sampler;
if (!loop) throw new Error(`${bundle} has no sampler.onnx: export it with --loop STEPS`);

const mask = decode(await readFile(maskFile));
if (mask.height !== height || mask.width !== width) throw new Error(`the mask must be ${width}x${height} pixels`);
const names = manifest.classes.map((known) => known.name);
const keep = kept?.split(",") ?? names;
for (const name of keep) if (!names.includes(name)) throw new Error(`there is no class '${name}': there are ${names}`);

const session = await ort.InferenceSession.create(join(bundle, loop.files[0].path));
const { image } = await session.run({
  label_map: new ort.Tensor("uint8", classIds(mask), [1, height, width]),
  keep: new ort.Tensor("bool", names.map((name) => keep.includes(name)), [names.length]),
  noise: new ort.Tensor("float32", normal(seed, channels * height * width), [1, channels, height, width]),
});

// (1, C, H, W) float32 in [0, 1] to (H, W, C) bytes.
const plane = height * width;
const pixels = Uint8Array.from({ length: plane * channels }, (_, k) =>
  Math.round(255 * image.data[(k % channels) * plane + Math.floor(k / channels)]),
);
await writeFile(imageFile, encode({ width, height, channels, data: pixels }));
