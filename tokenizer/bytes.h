/* GPT-2's map between bytes and characters that print, which ByteLevel goes by: bytes that print stand for themselves, the others
 * take the characters from U+0100 on, in order. All are below TK_LOW_CODES. */
#ifndef MOSSC_TOKENIZER_BYTES_H
#define MOSSC_TOKENIZER_BYTES_H

#include <stdbool.h>
#include <stdint.h>

enum { TK_LOW_CODES = 0x180 };

static inline bool tk_byte_prints(uint32_t byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

/* The bytes that do not print are 0x00 to 0x20, 0x7F to 0xA0 and 0xAD: the first 33, the next 34, the last. */
static inline uint32_t tk_char_of_byte(uint8_t byte) {
    if (tk_byte_prints(byte)) return byte;
    return 0x100u + (byte <= 0x20 ? byte : byte == 0xAD ? 67u : byte - 0x7Fu + 33u);
}

/* -1: it stands for no byte. */
static inline int tk_byte_of_char(uint32_t code) {
    if (code < 0x100) return tk_byte_prints(code) ? (int)code : -1;
    uint32_t place = code - 0x100;
    return place < 33 ? (int)place : place < 67 ? (int)(place - 33 + 0x7F) : place == 67 ? 0xAD : -1;
}

#endif
