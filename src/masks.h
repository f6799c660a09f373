/* Masks, which say what of a row's panel is not zero, and the product of a matrix that has them.
 *
 * It takes two rows at a time: first the columns that both have, so that a row of b is loaded once for both, then those
 * of each alone (Wilkinson et al. 2023, Register Tiling for Unstructured Sparsity in Neural Network Inference). The
 * product is bound by loads: on Zen 4 this makes 99 GFLOP/s of 73, a tile of 0.4 non-zero values in L1. Rows of b that
 * are FM_PANEL apart have code of their own: with a variable distance most of the gain was gone, since each run's first
 * address waits for a multiplication. */

#ifndef NONZERO_LANES
/* A bit for each of LANES values. */
INLINE uint64_t nonzero_lanes(const float *x) {
    typedef int32_t lanes __attribute__((vector_size(4 * LANES)));
    const lanes found = load(x) != splat(0.0f);
    uint64_t bits = 0;
    UNROLL for (int lane = 0; lane < LANES; lane++) bits |= (uint64_t)(found[lane] & 1) << lane;
    return bits;
}
#endif

static void mask(uint64_t *masks, const float *x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++, x += FM_PANEL) {
        uint64_t bits = 0;
        for (int j = 0; j < FM_PANEL; j += LANES) bits |= nonzero_lanes(x + j) << j;
        masks[i] = bits;
    }
}

INLINE void add_masked(vec *sum, const float *x, uint64_t mask, const float *restrict b, ptrdiff_t ldb,
                       const int vecs) {
    for (; mask; mask &= mask - 1) {
        const ptrdiff_t p = __builtin_ctzll(mask);
        const vec value = splat(x[p]);
        UNROLL for (int v = 0; v < vecs; v++) sum[v] += value * load(b + p * ldb + v * LANES);
    }
}

/* sum += rows i and i + 1 of a, times b (k, vecs * LANES). */
INLINE void add_masked_pair(vec sum[2][PAIR_VECS], fm_masked a, ptrdiff_t i, const float *restrict b, ptrdiff_t ldb,
                            ptrdiff_t k, const int vecs) {
    const float *x = a.data + i * FM_PANEL;
    const uint64_t *masks = a.masks + i;
    for (; k > 0; k -= FM_PANEL, x += a.ld_panel, masks += a.ld_masks, b += FM_PANEL * ldb) {
        for (uint64_t both = masks[0] & masks[1]; both; both &= both - 1) {
            const ptrdiff_t p = __builtin_ctzll(both);
            const vec first = splat(x[p]), second = splat(x[FM_PANEL + p]);
            UNROLL for (int v = 0; v < vecs; v++) {
                const vec w = load(b + p * ldb + v * LANES);
                sum[0][v] += first * w;
                sum[1][v] += second * w;
            }
        }
        add_masked(sum[0], x, masks[0] & ~masks[1], b, ldb, vecs);
        add_masked(sum[1], x + FM_PANEL, masks[1] & ~masks[0], b, ldb, vecs);
    }
}

/* sum += row i of a, times b: the last row of an odd number. */
INLINE void add_masked_row(vec *sum, fm_masked a, ptrdiff_t i, const float *restrict b, ptrdiff_t ldb, ptrdiff_t k,
                           const int vecs) {
    const float *x = a.data + i * FM_PANEL;
    const uint64_t *masks = a.masks + i;
    for (; k > 0; k -= FM_PANEL, x += a.ld_panel, masks += a.ld_masks, b += FM_PANEL * ldb)
        add_masked(sum, x, *masks, b, ldb, vecs);
}

INLINE void masked_columns(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b,
                           ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, const int vecs) {
    vec sum[2][PAIR_VECS];
    ptrdiff_t i = 0;
    for (; i + 2 <= n; i += 2, c += 2 * ldc, start += 2 * ld_start) {
        UNROLL for (int v = 0; v < vecs; v++) {
            sum[0][v] = load(start + v * LANES);
            sum[1][v] = load(start + ld_start + v * LANES);
        }
        add_masked_pair(sum, a, i, b, ldb, k, vecs);
        UNROLL for (int v = 0; v < vecs; v++) {
            store(c + v * LANES, sum[0][v]);
            store(c + ldc + v * LANES, sum[1][v]);
        }
    }
    if (i < n) {
        UNROLL for (int v = 0; v < vecs; v++) sum[0][v] = load(start + v * LANES);
        add_masked_row(sum[0], a, i, b, ldb, k, vecs);
        UNROLL for (int v = 0; v < vecs; v++) store(c + v * LANES, sum[0][v]);
    }
}

INLINE void masked_panel(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b,
                         ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) {
    const ptrdiff_t whole = PAIR_VECS * LANES;
    for (; width >= whole; width -= whole, c += whole, start += whole, b += whole)
        masked_columns(c, ldc, start, ld_start, a, b, ldb, n, k, PAIR_VECS);
    switch (width / FM_PAD) { /* what is left of a panel */
#if PAIR_VECS * LANES == FM_PANEL
        case 3: masked_columns(c, ldc, start, ld_start, a, b, ldb, n, k, 3 * FM_PAD / LANES); break;
        case 2: masked_columns(c, ldc, start, ld_start, a, b, ldb, n, k, 2 * FM_PAD / LANES); break;
#endif
        case 1: masked_columns(c, ldc, start, ld_start, a, b, ldb, n, k, FM_PAD / LANES); break;
    }
}

static void masked(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b,
                   ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) {
    if (ldb == FM_PANEL)
        masked_panel(c, ldc, start, ld_start, a, b, FM_PANEL, n, k, width);
    else
        masked_panel(c, ldc, start, ld_start, a, b, ldb, n, k, width);
}
