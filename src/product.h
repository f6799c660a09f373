/* The product: dense, by tiles in registers, and sparse, by the rows of a list. */

/* A tile of c stays in registers while k runs: rows * vecs sums, vecs values of b, and one broadcast of a. In a tall
 * tile every third row of a has a pointer, which the compiler may not derive from another one: it would keep the
 * offsets of all twelve on the stack (90 GFLOP/s, not 150). */
INLINE void dense_tile(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_dense a,
                       const float *restrict b, ptrdiff_t ldb, ptrdiff_t k, const int rows, const int vecs) {
    vec sum[2 * TILE_ROWS][TILE_VECS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vecs; v++) sum[r][v] = load(start + r * ld_start + v * LANES);
    }
    const int apart = rows > TILE_ROWS ? 3 : TILE_ROWS;
    for (ptrdiff_t panel = 0; panel < k; panel += FM_PANEL, a.data += a.ld_panel) {
        const ptrdiff_t steps = k - panel < FM_PANEL ? k - panel : FM_PANEL;
        const float *x[2 * TILE_ROWS / 3 + 1];
        UNROLL for (int r = 0; r < rows; r += apart) x[r / apart] = a.data + r * a.ld;
        UNROLL for (int r = apart; r < rows; r += apart) __asm__("" : "+r"(x[r / apart]));
        for (ptrdiff_t p = 0; p < steps; p++, b += ldb) {
            vec w[TILE_VECS];
            UNROLL for (int v = 0; v < vecs; v++) w[v] = load(b + v * LANES);
            UNROLL for (int r = 0; r < rows; r++) {
                const vec value = splat(x[r / apart][r % apart * a.ld]);
                UNROLL for (int v = 0; v < vecs; v++) sum[r][v] += value * w[v];
            }
            UNROLL for (int r = 0; r < rows; r += apart) x[r / apart] += a.column;
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vecs; v++) store(c + r * ldc + v * LANES, sum[r][v]);
    }
}

INLINE void dense_columns(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_dense a, const float *b,
                          ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, const int vecs) {
    /* A narrow tile is taller: with few sums in flight the latency of the multiply-add shows (63 GFLOP/s, not 100). */
    for (; 2 * vecs <= TILE_VECS && n >= 2 * TILE_ROWS; n -= 2 * TILE_ROWS) {
        dense_tile(c, ldc, start, ld_start, a, b, ldb, k, 2 * TILE_ROWS, vecs);
        c += 2 * TILE_ROWS * ldc;
        start += 2 * TILE_ROWS * ld_start;
        a.data += 2 * TILE_ROWS * a.ld;
    }
    for (; n >= TILE_ROWS; n -= TILE_ROWS) {
        dense_tile(c, ldc, start, ld_start, a, b, ldb, k, TILE_ROWS, vecs);
        c += TILE_ROWS * ldc;
        start += TILE_ROWS * ld_start;
        a.data += TILE_ROWS * a.ld;
    }
    switch (n) {
#if TILE_ROWS > 3
        case 5: dense_tile(c, ldc, start, ld_start, a, b, ldb, k, 5, vecs); break;
        case 4: dense_tile(c, ldc, start, ld_start, a, b, ldb, k, 4, vecs); break;
        case 3: dense_tile(c, ldc, start, ld_start, a, b, ldb, k, 3, vecs); break;
#endif
        case 2: dense_tile(c, ldc, start, ld_start, a, b, ldb, k, 2, vecs); break;
        case 1: dense_tile(c, ldc, start, ld_start, a, b, ldb, k, 1, vecs); break;
    }
}

#if TILE_VECS * LANES > FM_PAD
/* Functions of their own: inlined into one, their loops have too few registers (130 GFLOP/s, not 163, of three). */
#define DENSE_COLUMNS(vecs)                                                                                            \
    static __attribute__((noinline)) void dense_##vecs(float *c, ptrdiff_t ldc, const float *start,                    \
                                                       ptrdiff_t ld_start, fm_dense a, const float *b, ptrdiff_t ldb,  \
                                                       ptrdiff_t n, ptrdiff_t k) {                                     \
        dense_columns(c, ldc, start, ld_start, a, b, ldb, n, k, vecs);                                                 \
    }
DENSE_COLUMNS(1)
DENSE_COLUMNS(2)
DENSE_COLUMNS(3)
#endif

static void dense(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_dense a, const float *b,
                  ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width) {
    for (; width >= TILE_VECS * LANES; width -= TILE_VECS * LANES) {
        dense_columns(c, ldc, start, ld_start, a, b, ldb, n, k, TILE_VECS);
        c += TILE_VECS * LANES;
        start += TILE_VECS * LANES;
        b += TILE_VECS * LANES;
    }
#if TILE_VECS * LANES > FM_PAD
    switch (width / LANES) {
        case 3: dense_3(c, ldc, start, ld_start, a, b, ldb, n, k); break;
        case 2: dense_2(c, ldc, start, ld_start, a, b, ldb, n, k); break;
        case 1: dense_1(c, ldc, start, ld_start, a, b, ldb, n, k); break;
    }
#endif
}

/* A pointer of which the compiler may not know where it comes from: else it keeps the distance of each vector from some
 * other pointer, on the stack or as an index, with which a multiply-add is two instructions to the processor. */
INLINE const float *plain(const float *x) {
    __asm__("" : "+r"(x));
    return x;
}

/* sum += row i of a, times b. */
INLINE void add_row(vec *sum, fm_sparse a, ptrdiff_t i, const float *restrict b, ptrdiff_t ldb, const int vecs) {
    const fm_entry *x = a.entries + a.begin[i], *end = a.entries + a.end[i];
    for (; x < end; x++) {
        const vec value = splat(x->value);
        const float *w = plain(b + x->index * ldb);
        UNROLL for (int v = 0; v < vecs; v++) sum[v] += value * load(w + v * LANES);
    }
}

/* Lists come from beyond the caches, in runs too short for the processor to foresee: asked for a few rows ahead, the
 * product takes a fifth less. */
#define LISTS_AHEAD 4

INLINE void fetch_row(fm_sparse a, ptrdiff_t i) {
    const fm_entry *end = a.entries + a.end[i];
    for (const fm_entry *x = a.entries + a.begin[i]; x < end; x += 64 / sizeof *x) __builtin_prefetch(x);
}

INLINE void sparse_columns(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_sparse a,
                           const float *restrict b, ptrdiff_t ldb, ptrdiff_t n, const int vecs) {
    for (ptrdiff_t i = 0; i < n; i++, c += ldc, start += ld_start) {
        vec sum[ROW_VECS];
        UNROLL for (int v = 0; v < vecs; v++) sum[v] = load(start + v * LANES);
        if (i + LISTS_AHEAD < n) fetch_row(a, i + LISTS_AHEAD);
        add_row(sum, a, i, b, ldb, vecs);
        UNROLL for (int v = 0; v < vecs; v++) store(c + v * LANES, sum[v]);
    }
}

static void sparse(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_sparse a, const float *b,
                   ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t width) {
    for (; width >= ROW_VECS * LANES; width -= ROW_VECS * LANES) {
        sparse_columns(c, ldc, start, ld_start, a, b, ldb, n, ROW_VECS);
        c += ROW_VECS * LANES;
        start += ROW_VECS * LANES;
        b += ROW_VECS * LANES;
    }
    switch (width / FM_PAD) { /* what is left of a panel */
#if ROW_VECS * LANES == FM_PANEL
        case 3: sparse_columns(c, ldc, start, ld_start, a, b, ldb, n, 3 * FM_PAD / LANES); break;
        case 2: sparse_columns(c, ldc, start, ld_start, a, b, ldb, n, 2 * FM_PAD / LANES); break;
#endif
        case 1: sparse_columns(c, ldc, start, ld_start, a, b, ldb, n, FM_PAD / LANES); break;
    }
}
