/* Moves and sums: copies, rows in another order, transposes, a factor, sums of columns. */

/* Narrow rows far apart: without asking for them ahead, each one waits for the cache below. */
static void copy(float *restrict out, ptrdiff_t ld_out, const float *restrict in, ptrdiff_t ld_in, ptrdiff_t rows,
                 ptrdiff_t columns) {
    for (ptrdiff_t i = 0; i < rows; i++, out += ld_out, in += ld_in) {
        for (ptrdiff_t j = 0; j < columns; j += 16) __builtin_prefetch(in + 16 * ld_in + j);
        for (ptrdiff_t j = 0; j < columns; j++) out[j] = in[j];
    }
}

/* Rows in random order: each one is a cache miss, so the one some rows ahead is asked for. */
static void gather(float *restrict out, ptrdiff_t ld_out, ptrdiff_t ld_panel, const float *restrict in,
                   const int64_t *rows, ptrdiff_t n, ptrdiff_t k) {
    for (ptrdiff_t i = 0; i < n; i++, out += ld_out) {
        const float *row = in + rows[i] * k;
        if (i + 16 < n) __builtin_prefetch(in + rows[i + 16] * k);
        for (ptrdiff_t p = 0; p < k; p += FM_PANEL)
            memcpy(out + p / FM_PANEL * ld_panel, row + p, (size_t)(k - p < FM_PANEL ? k - p : FM_PANEL) * sizeof *out);
    }
}

typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));

/* Four by four through registers: element by element the stores alone took three times as long. */
INLINE void transpose_quad(float *restrict out, ptrdiff_t ld_out, const float *restrict in, ptrdiff_t ld_in) {
    const quad a = *(const quad *)in, b = *(const quad *)(in + ld_in);
    const quad c = *(const quad *)(in + 2 * ld_in), d = *(const quad *)(in + 3 * ld_in);
    const quad ac_low = {a[0], c[0], a[1], c[1]}, ac_high = {a[2], c[2], a[3], c[3]};
    const quad bd_low = {b[0], d[0], b[1], d[1]}, bd_high = {b[2], d[2], b[3], d[3]};
    *(quad *)out = (quad){ac_low[0], bd_low[0], ac_low[1], bd_low[1]};
    *(quad *)(out + ld_out) = (quad){ac_low[2], bd_low[2], ac_low[3], bd_low[3]};
    *(quad *)(out + 2 * ld_out) = (quad){ac_high[0], bd_high[0], ac_high[1], bd_high[1]};
    *(quad *)(out + 3 * ld_out) = (quad){ac_high[2], bd_high[2], ac_high[3], bd_high[3]};
}

static void transpose(float *restrict out, ptrdiff_t ld_out, const float *restrict in, ptrdiff_t ld_in, ptrdiff_t rows,
                      ptrdiff_t columns) {
    const ptrdiff_t whole_rows = rows & ~(ptrdiff_t)3, whole_columns = columns & ~(ptrdiff_t)3;
    for (ptrdiff_t i = 0; i < whole_rows; i += 4)
        for (ptrdiff_t j = 0; j < whole_columns; j += 4)
            transpose_quad(out + j * ld_out + i, ld_out, in + i * ld_in + j, ld_in);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = i < whole_rows ? whole_columns : 0; j < columns; j++)
            out[j * ld_out + i] = in[i * ld_in + j];
}

static void scale(float *x, float factor, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) x[i] *= factor;
}

/* Every fourth row has a sum of its own: an addition waits four cycles for the one before. */
static void column_sums(float *sums, const float *x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t width) {
    for (; width > 0; width -= LANES, sums += LANES, x += LANES) {
        vec sum[4] = {{0}};
        ptrdiff_t i = 0;
        for (; i + 4 <= n; i += 4) {
            UNROLL for (int r = 0; r < 4; r++) sum[r] += load(x + (i + r) * ldx);
        }
        for (; i < n; i++) sum[0] += load(x + i * ldx);
        store(sums, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}
