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

/* Rows of b, and of the product, are those of a panel, or of two neighbours: where vector v of a row is. */
#define PANEL_VECS (FM_PANEL / LANES)
#define PLACE(x, v) ((x)[(v) / PANEL_VECS] + (v) % PANEL_VECS * LANES)

/* Row p of b. */
#define ROW_OF(b, p, apart, vecs) {plain((b) + (p)), (vecs) > PANEL_VECS ? plain((b) + (p) + (apart)) : NULL}

INLINE void add_masked(vec *sum, const float *x, uint64_t mask, const float *restrict b, ptrdiff_t ldb, ptrdiff_t apart,
                       const int vecs) {
    for (; mask; mask &= mask - 1) {
        const ptrdiff_t p = __builtin_ctzll(mask);
        const vec value = splat(x[p]);
        const float *const w[2] = ROW_OF(b, p * ldb, apart, vecs);
        UNROLL for (int v = 0; v < vecs; v++) sum[v] += value * load(PLACE(w, v));
    }
}

/* sum += rows i and i + 1 of a, or the last one alone, times b (k, vecs * LANES). */
INLINE void add_masked_pair(vec sum[2][2 * PAIR_VECS], fm_masked a, ptrdiff_t i, const float *restrict b, ptrdiff_t ldb,
                            ptrdiff_t apart, ptrdiff_t k, const int rows, const int vecs) {
    const float *x = a.data + i * FM_PANEL;
    const uint64_t *masks = a.masks + i;
    for (; k > 0; k -= FM_PANEL, x += a.ld_panel, masks += a.ld_masks, b += FM_PANEL * ldb) {
        const uint64_t second = rows == 2 ? masks[1] : 0;
        for (uint64_t both = masks[0] & second; both; both &= both - 1) {
            const ptrdiff_t p = __builtin_ctzll(both);
            const vec x_0 = splat(x[p]), x_1 = splat(x[FM_PANEL + p]);
            const float *const w[2] = ROW_OF(b, p * ldb, apart, vecs);
            UNROLL for (int v = 0; v < vecs; v++) {
                const vec value = load(PLACE(w, v));
                sum[0][v] += x_0 * value;
                sum[1][v] += x_1 * value;
            }
        }
        add_masked(sum[0], x, masks[0] & ~second, b, ldb, apart, vecs);
        add_masked(sum[1], x + FM_PANEL, second & ~masks[0], b, ldb, apart, vecs);
    }
}

INLINE void masked_columns(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b,
                           ptrdiff_t ldb, fm_apart apart, ptrdiff_t n, ptrdiff_t k, const int vecs) {
    const int two = vecs > PANEL_VECS;
    float *to[2] = {c, two ? (float *)plain(c + apart.c) : c};
    const float *from[2] = {start, two ? plain(start + apart.start) : start};
    vec sum[2][2 * PAIR_VECS];
    ptrdiff_t i = 0;
    for (; i + 2 <= n; i += 2) {
        UNROLL for (int v = 0; v < vecs; v++) {
            sum[0][v] = load(PLACE(from, v));
            sum[1][v] = load(PLACE(from, v) + ld_start);
        }
        add_masked_pair(sum, a, i, b, ldb, apart.b, k, 2, vecs);
        UNROLL for (int v = 0; v < vecs; v++) {
            store(PLACE(to, v), sum[0][v]);
            store(PLACE(to, v) + ldc, sum[1][v]);
        }
        to[0] += 2 * ldc, to[1] += 2 * ldc, from[0] += 2 * ld_start, from[1] += 2 * ld_start;
    }
    if (i < n) {
        UNROLL for (int v = 0; v < vecs; v++) sum[0][v] = load(PLACE(from, v));
        add_masked_pair(sum, a, i, b, ldb, apart.b, k, 1, vecs);
        UNROLL for (int v = 0; v < vecs; v++) store(PLACE(to, v), sum[0][v]);
    }
}

INLINE void masked_panel(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b,
                         ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) {
    const fm_apart apart = {0, 0, 0};
    const ptrdiff_t whole = PAIR_VECS * LANES;
    for (; width >= whole; width -= whole, c += whole, start += whole, b += whole)
        masked_columns(c, ldc, start, ld_start, a, b, ldb, apart, n, k, PAIR_VECS);
    switch (width / FM_PAD) { /* what is left of a panel */
#if PAIR_VECS == PANEL_VECS
        case 3: masked_columns(c, ldc, start, ld_start, a, b, ldb, apart, n, k, 3 * FM_PAD / LANES); break;
        case 2: masked_columns(c, ldc, start, ld_start, a, b, ldb, apart, n, k, 2 * FM_PAD / LANES); break;
#endif
        case 1: masked_columns(c, ldc, start, ld_start, a, b, ldb, apart, n, k, FM_PAD / LANES); break;
    }
}

static void masked(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b,
                   ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) {
    if (ldb == FM_PANEL)
        masked_panel(c, ldc, start, ld_start, a, b, FM_PANEL, n, k, width);
    else
        masked_panel(c, ldc, start, ld_start, a, b, ldb, n, k, width);
}

/* Where the registers hold two panels' sums, masks are gone through once for both: each run of columns ends in a branch
 * that nobody foresees. Of the dense product's work, this does 252 GFLOP/s where one panel after the other does 213,
 * and the dense product 159 (Xeon, a density of 0.4). */
static void masked_two(float *c, const float *start, ptrdiff_t ld_start, fm_masked a, const float *b, fm_apart apart,
                       ptrdiff_t n, ptrdiff_t k) {
#if PAIR_VECS == PANEL_VECS
    masked_columns(c, FM_PANEL, start, ld_start, a, b, FM_PANEL, apart, n, k, 2 * PANEL_VECS);
#else
    for (int panel = 0; panel < 2; panel++, c += apart.c, start += apart.start, b += apart.b)
        masked_panel(c, FM_PANEL, start, ld_start, a, b, FM_PANEL, n, k, FM_PANEL);
#endif
}
