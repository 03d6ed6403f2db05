/* Words: x as tensor cores take it, numbers of the weights' type W.
 *
 * Of a row and t, a chunk's two quads (k = 4 t … of either panel) become the words that a lane multiplies with: words[half] are `high`
 * and `low` of that half's four k; FAST: words[0] are `high` of both halves. */

/* The words of four k: `high`, and `low` of what is left. */
template <class W, bool FAST> INLINE uint2 high_words(float4 v) {
    if (FAST) return {W::pack(v.x, v.y), W::pack(v.z, v.w)};
    return {W::pack_high(v.x, v.y), W::pack_high(v.z, v.w)};
}
template <class W> INLINE uint2 low_words(float4 v, uint2 high) {
    return {W::pack(v.x - W::low(high.x), v.y - W::high(high.x)), W::pack(v.z - W::low(high.y), v.w - W::high(high.y))};
}
template <class W> INLINE uint4 both_words(float4 v) {
    const uint2 high = high_words<W, false>(v), low = low_words<W>(v, high);
    return {high.x, high.y, low.x, low.y};
}

template <class W, bool FAST> INLINE void round_quads(float4 a, float4 b, uint4 *first, uint4 *second) {
    if (FAST) {
        const uint2 of_a = high_words<W, true>(a), of_b = high_words<W, true>(b);
        *first = uint4{of_a.x, of_a.y, of_b.x, of_b.y};
        return;
    }
    *first = both_words<W>(a);
    *second = both_words<W>(b);
}

/* What linear layers alone multiply by tensor cores, four k at a time, is made of words where it is made ("words" in emit.h). A panel's 16 values of a row
 * are 64 bytes, four quads of words, `high` and `low` of four k. FAST: 64 bytes are the `high` of two panels' values, those of four k
 * of either side by side, and half of the place is empty. A row of x lies where it would lie in float. */

template <class W, bool FAST> INLINE void put_quad(float *words, u64 ld, u64 row, u64 panel, u32 q, float4 v) {
    if (FAST)
        ((uint2 *)words)[((panel / 2 * ld + row) * 4 + q) * 2 + panel % 2] = high_words<W, true>(v);
    else
        ((uint4 *)words)[(panel * ld + row) * 4 + q] = both_words<W>(v);
}

/* Element i of a row. */
template <class W, bool FAST> INLINE void put_number(float *words, u64 ld, u64 row, u32 i, float v) {
    const u32 high = FAST ? W::pack(v, 0) : W::pack_high(v, 0), q = i % 16 / 4;
    const u64 panel = i / 16;
    if (FAST) {
        ((u16 *)words)[(((panel / 2 * ld + row) * 4 + q) * 2 + panel % 2) * 4 + i % 4] = (u16)high;
        return;
    }
    u16 *at = (u16 *)words + ((panel * ld + row) * 4 + q) * 8 + i % 4;
    at[0] = (u16)high;
    at[4] = (u16)W::pack(v - W::low(high), 0);
}

/* What x is when it comes. */
enum Inputs { FLOATS, WORDS, HIGH_WORDS /* of FAST */ };

/* Of the 16 bytes of words of a row, those of k: the words of four k from k on, with HIGH_WORDS also of four from k + 16 on. Past K, a
 * multiple of 4, lies whatever was there. */
template <Inputs X> INLINE u32 word_bytes(u32 k, u32 K) {
    if (X == HIGH_WORDS && k + 16 >= K) return k < K ? 8 : 0;
    return k < K ? 16 : 0;
}
