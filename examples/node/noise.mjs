// The normal noise of seggd-rt: the same numbers for the same seed as in Python (`seggd_rt.diffusion.noise`).

const low = (n) => n & 0xffffffffn;
const high = (n) => n >> 32n;

/** The four words of Philox4x32-10 for a counter of four words and a key of two, all BigInt. */
function philox([c0, c1, c2, c3], [k0, k1]) {
  for (let round = 0; round < 10; round++) {
    const [p0, p1] = [0xd2511f53n * c0, 0xcd9e8d57n * c2];
    [c0, c1, c2, c3] = [high(p1) ^ c1 ^ k0, low(p1), high(p0) ^ c3 ^ k1, low(p0)];
    [k0, k1] = [low(k0 + 0x9e3779b9n), low(k1 + 0xbb67ae85n)];
  }
  return [c0, c1, c2, c3];
}

/** An image's start noise, `size` float32 numbers of mean 0 and variance 1, of a seed in [0, 2^64). */
export function normal(seed, size) {
  const key = [low(BigInt(seed)), high(BigInt(seed))];
  const noise = new Float32Array(size);
  for (let i = 0; i < size; i += 4) {
    const u = philox([BigInt(i / 4), 0n, 0n, 0n], key).map((word) => (Number(word) + 0.5) / 2 ** 32);
    for (const pair of [0, 2]) {
      const [radius, angle] = [Math.sqrt(-2 * Math.log(u[pair])), 2 * Math.PI * u[pair + 1]];
      noise.set([radius * Math.cos(angle), radius * Math.sin(angle)].slice(0, size - i - pair), i + pair);
    }
  }
  return noise;
}
