// Dropout with a counter-based generator: Philox4x64-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy
// as 1, 2, 3", 2011). It is the same as NumPy's, so masks are the same on every device and need not be saved.
#include "common.cuh"

typedef unsigned long long Word;

struct Words {
    Word at[4];
};

__device__ inline Words philox(Word counter, Word key) {
    Words words = {{counter, 0, 0, 0}};
    Word key_0 = key, key_1 = 0;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const Word a = 0xD2E7470EE14C6C93ull, b = 0xCA5A826395121157ull;
        const Word low_0 = a * words.at[0], high_0 = __umul64hi(a, words.at[0]);
        const Word low_1 = b * words.at[2], high_1 = __umul64hi(b, words.at[2]);
        words = {{high_1 ^ words.at[1] ^ key_0, low_1, high_0 ^ words.at[3] ^ key_1, low_0}};
        key_0 += 0x9E3779B97F4A7C15ull, key_1 += 0xBB67AE8584CAA73Bull;
    }
    return words;
}

// out = x times `scale` if 32 random bits are at least `threshold`, otherwise 0. A thread computes the eight elements of
// one counter value.
extern "C" __global__ void dropout(const Real* x, Real* out, double scale, Index threshold, Index key, Index size) {
    const Index count = thread_number();
    if (count * 8 >= size) return;
    const Words words = philox(count + 1, key);
#pragma unroll
    for (int first = 0; first < 8; first += WIDTH) {
        const Index begin = count * 8 + first, left = size - begin;
        if (left <= 0) return;
        Pack pack = load(x + begin, left);
#pragma unroll
        for (int k = 0; k < WIDTH; ++k) {
            const int j = first + k;
            const Index bits = words.at[j / 2] >> (j % 2 * 32) & 0xffffffffull;
            pack.at[k] = bits >= threshold ? (Wide)pack.at[k] * (Wide)scale : (Wide)0;
        }
        store(out + begin, pack, left);
    }
}
