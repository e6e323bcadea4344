// Counter-based normal noise: seggd_rt/diffusion/noise.py, number for number.
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) of
//   key = seed, low word first;  counter = (element index / 4, step, stream, 0)
// and Box-Muller in double, rounded to float once.
#pragma once

#include "portable.cuh"

namespace seggd {

enum Stream : Word { kStart = 0, kStep = 1, kSeed = 3, kSubset = 4 };

struct Words {
  Word at[4];
};

struct Quad {
  float at[4];
};

SEGGD_FUNCTION Words philox(LongWord key, Word c0, Word c1, Word c2, Word c3) {
  Word k0 = static_cast<Word>(key), k1 = static_cast<Word>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const LongWord p0 = static_cast<LongWord>(0xD2511F53u) * c0;
    const LongWord p1 = static_cast<LongWord>(0xCD9E8D57u) * c2;
    c0 = static_cast<Word>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<Word>(p1);
    c2 = static_cast<Word>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<Word>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A word as a number in (0, 1).
SEGGD_FUNCTION double uniform(Word word) { return (static_cast<double>(word) + 0.5) * (1.0 / 4294967296.0); }

// The normal numbers of elements 4 * quad to 4 * quad + 3 of an image.
SEGGD_FUNCTION Quad normal(LongWord seed, Word quad, Word step, Stream stream) {
  const Words words = philox(seed, quad, step, stream, 0);
  Quad z;
  for (int pair = 0; pair < 4; pair += 2) {
    const double radius = sqrt(-2.0 * log(uniform(words.at[pair])));
    const double angle = 2.0 * 3.141592653589793 * uniform(words.at[pair + 1]);
    z.at[pair] = static_cast<float>(radius * cos(angle));
    z.at[pair + 1] = static_cast<float>(radius * sin(angle));
  }
  return z;
}

}  // namespace seggd
