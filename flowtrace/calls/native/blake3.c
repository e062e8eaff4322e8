/* BLAKE3 of a short text: of one chunk, up to 1,024 bytes, plain and with 32 bytes of output.
 *
 * The library takes longer to be called than a short text takes to be hashed. Longer texts are hashed by it. The names
 * are those of the specification (https://github.com/BLAKE3-team/BLAKE3-specs, section 2). */
#include "native.h"
#include <string.h>

enum { BLOCK = 64, WORDS = 16, ROUNDS = 7, CHUNK_START = 1, CHUNK_END = 2, ROOT = 8 };

static const uint32_t IV[8] = {
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
};
/* Which word of the message each round takes in which place: the permutation of the specification, applied each time. */
static const uint8_t SCHEDULE[ROUNDS][WORDS] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1}, {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4}, {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

static inline uint32_t rotated(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

#define G(a, b, c, d, x, y) \
    a += b + (x); d = rotated(d ^ a, 16); c += d; b = rotated(b ^ c, 12); \
    a += b + (y); d = rotated(d ^ a, 8); c += d; b = rotated(b ^ c, 7)

/* Compress one block of a chunk into its chaining value. */
static void compress(uint32_t chain[8], const unsigned char block[BLOCK], uint32_t length, uint32_t flags)
{
    uint32_t m[WORDS], v[WORDS] = {
        chain[0], chain[1], chain[2], chain[3], chain[4], chain[5], chain[6], chain[7],
        IV[0], IV[1], IV[2], IV[3], 0, 0, length, flags,  /* the counter is that of the first chunk: 0 */
    };
    for (int at = 0; at < WORDS; at++)
        m[at] = (uint32_t)block[4 * at] | (uint32_t)block[4 * at + 1] << 8 | (uint32_t)block[4 * at + 2] << 16
            | (uint32_t)block[4 * at + 3] << 24;
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 7
#endif
    for (int round = 0; round < ROUNDS; round++) {
        const uint8_t *s = SCHEDULE[round];
        G(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
        G(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
        G(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
        G(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
        G(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
        G(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
        G(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
        G(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
    }
    for (int at = 0; at < 8; at++) chain[at] = v[at] ^ v[at + 8];
}

/* Hash a text of at most SHORT_TEXT bytes. */
void hash_short(const unsigned char *text, Py_ssize_t size, unsigned char digest[DIGEST])
{
    uint32_t chain[8], flags = CHUNK_START;
    memcpy(chain, IV, sizeof(chain));
    for (; size > BLOCK; text += BLOCK, size -= BLOCK, flags = 0) compress(chain, text, BLOCK, flags);
    unsigned char last[BLOCK] = {0};
    memcpy(last, text, (size_t)size);
    compress(chain, last, (uint32_t)size, flags | CHUNK_END | ROOT);
    for (int at = 0; at < DIGEST; at++) digest[at] = (unsigned char)(chain[at / 4] >> (8 * (at % 4)));
}
