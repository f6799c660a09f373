/* The kernels, written once. The including file sets the shape of the registers and the table's names:
 *   LANES      floats in a vector
 *   TILE_ROWS  rows of the register tile of the dense product
 *   TILE_VECS  vectors in a row of that tile
 *   ROW_VECS   vectors that a row of the sparse product keeps in registers
 *   TABLE      the table's C name, and NAME the one users see
 * Loops without a sum are plain C: the compiler turns them into vectors of the same width.
 */
#include "fastmlp.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *x) { return *(const vec *)x; }
INLINE void store(float *x, vec value) { *(vec *)x = value; }
INLINE vec splat(float value) { return value - (vec){0}; }

/* ---- The product ------------------------------------------------------------------------------------------------ */

/* A tile of c stays in registers while k runs: rows * vecs sums, vecs values of b, and one broadcast of a. */
INLINE void dense_tile(float *c, ptrdiff_t ldc, const float *start, ptrdiff_t ld_start, fm_dense a,
                       const float *restrict b, ptrdiff_t ldb, ptrdiff_t k, const int rows, const int vecs) {
    vec sum[2 * TILE_ROWS][TILE_VECS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vecs; v++) sum[r][v] = load(start + r * ld_start + v * LANES);
    }
    for (ptrdiff_t panel = 0; panel < k; panel += FM_PANEL, a.data += a.panel) {
        const ptrdiff_t steps = k - panel < FM_PANEL ? k - panel : FM_PANEL;
        const float *x = a.data;
        for (ptrdiff_t p = 0; p < steps; p++, x += a.column, b += ldb) {
            vec w[TILE_VECS];
            UNROLL for (int v = 0; v < vecs; v++) w[v] = load(b + v * LANES);
            UNROLL for (int r = 0; r < rows; r++) {
                const vec value = splat(x[r * a.row]);
                UNROLL for (int v = 0; v < vecs; v++) sum[r][v] += value * w[v];
            }
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
        a.data += 2 * TILE_ROWS * a.row;
    }
    for (; n >= TILE_ROWS; n -= TILE_ROWS) {
        dense_tile(c, ldc, start, ld_start, a, b, ldb, k, TILE_ROWS, vecs);
        c += TILE_ROWS * ldc;
        start += TILE_ROWS * ld_start;
        a.data += TILE_ROWS * a.row;
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
        case 3: dense_columns(c, ldc, start, ld_start, a, b, ldb, n, k, 3); break;
        case 2: dense_columns(c, ldc, start, ld_start, a, b, ldb, n, k, 2); break;
        case 1: dense_columns(c, ldc, start, ld_start, a, b, ldb, n, k, 1); break;
    }
#endif
}

/* sum += row i of a, times b. */
INLINE void add_row(vec *sum, fm_sparse a, ptrdiff_t i, const float *restrict b, ptrdiff_t ldb, const int vecs) {
    const fm_entry *x = a.entries + a.begin[i], *end = a.entries + a.end[i];
    for (; x < end; x++) {
        const vec value = splat(x->value);
        const float *w = b + x->index * ldb;
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
    for (; width > 0; width -= FM_PAD) {
        sparse_columns(c, ldc, start, ld_start, a, b, ldb, n, FM_PAD / LANES);
        c += FM_PAD;
        start += FM_PAD;
        b += FM_PAD;
    }
}

/* ---- Lists of non-zero values ----------------------------------------------------------------------------------- */

static void is_finite(int *finite, const float *x, ptrdiff_t n) {
    const int32_t exponent = 0x7F800000;
    int32_t found = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        found |= (bits & exponent) == exponent;
    }
    *finite = !found;
}

static void count_nonzero(ptrdiff_t *count, const float *x, ptrdiff_t n) {
    ptrdiff_t total = 0;
    while (n > 0) { /* short runs, so that the vectors count in 32 bits */
        const ptrdiff_t run = n < 65536 ? n : 65536;
        int32_t found = 0;
        for (ptrdiff_t i = 0; i < run; i++) found += x[i] != 0;
        total += found;
        x += run;
        n -= run;
    }
    *count = total;
}

#ifndef LIST_ROW
/* Without a branch: each value is written, and the next one overwrites it if it was zero. */
INLINE fm_entry *list_row(fm_entry *entry, const float *x, ptrdiff_t width, int32_t first) {
    for (ptrdiff_t j = 0; j < width; j++) {
        *entry = (fm_entry){first + (int32_t)j, x[j]};
        entry += x[j] != 0;
    }
    return entry;
}
#endif

static void list(fm_entry *entries, ptrdiff_t *end, const ptrdiff_t *begin, const float *x, ptrdiff_t ldx, ptrdiff_t n,
                 ptrdiff_t width, int32_t first) {
    for (ptrdiff_t i = 0; i < n; i++) end[i] = list_row(entries + begin[i], x + i * ldx, width, first) - entries;
}

static void list_columns(fm_entry *entries, ptrdiff_t *end, const ptrdiff_t *begin, fm_sparse a, ptrdiff_t n,
                         ptrdiff_t columns, int32_t first) {
    memcpy(end, begin, (size_t)columns * sizeof *end);
    for (ptrdiff_t i = 0; i < n; i++) {
        const fm_entry *x = a.entries + a.begin[i], *last = a.entries + a.end[i];
        for (; x < last; x++) entries[end[x->index - first]++] = (fm_entry){(int32_t)i, x->value};
    }
}

/* ---- One row ---------------------------------------------------------------------------------------------------- */

#define ROW_BLOCK 256

/* y += the listed part of x, times weights. */
static void add_entries(float *y, const fm_entry *entries, ptrdiff_t count, const float *weights, ptrdiff_t m) {
    const ptrdiff_t begin = 0;
    const fm_sparse x = {entries, &begin, &count};
    const ptrdiff_t whole = m / FM_PAD * FM_PAD;
    sparse(y, 0, y, 0, x, weights, m, 1, whole);
    if (whole < m)
        for (ptrdiff_t e = 0; e < count; e++)
            for (ptrdiff_t j = whole; j < m; j++) y[j] += entries[e].value * weights[entries[e].index * m + j];
}

static void row(float *y, const float *x, const float *weights, ptrdiff_t k, ptrdiff_t m) {
    fm_entry entries[ROW_BLOCK];
    memcpy(y, weights + k * m, (size_t)m * sizeof *y);
    for (ptrdiff_t p = 0; p < k; p += ROW_BLOCK) {
        const ptrdiff_t rest = k - p < ROW_BLOCK ? k - p : ROW_BLOCK, whole = rest / FM_PAD * FM_PAD;
        fm_entry *end = list_row(entries, x + p, whole, (int32_t)p);
        if (whole < rest) {
            float last[FM_PAD] = {0};
            memcpy(last, x + p + whole, (size_t)(rest - whole) * sizeof *last);
            end = list_row(end, last, FM_PAD, (int32_t)(p + whole));
        }
        add_entries(y, entries, end - entries, weights, m);
    }
}

/* ---- Moves and sums --------------------------------------------------------------------------------------------- */

/* Narrow rows far apart: without asking for them ahead, each one waits for the cache below. */
static void copy(float *restrict out, ptrdiff_t ld_out, const float *restrict in, ptrdiff_t ld_in, ptrdiff_t rows,
                 ptrdiff_t columns) {
    for (ptrdiff_t i = 0; i < rows; i++, out += ld_out, in += ld_in) {
        for (ptrdiff_t j = 0; j < columns; j += 16) __builtin_prefetch(in + 16 * ld_in + j);
        for (ptrdiff_t j = 0; j < columns; j++) out[j] = in[j];
    }
}

/* Rows in random order: each one is a cache miss, so the one some rows ahead is asked for. */
static void gather(float *restrict out, const float *restrict in, const int64_t *rows, ptrdiff_t n, ptrdiff_t k) {
    for (ptrdiff_t i = 0; i < n; i++, out += k) {
        if (i + 16 < n) __builtin_prefetch(in + rows[i + 16] * k);
        memcpy(out, in + rows[i] * k, (size_t)k * sizeof *out);
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

static void column_sums(float *restrict sums, const float *restrict x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t width) {
    memset(sums, 0, (size_t)width * sizeof *sums);
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < width; j++) sums[j] += x[i * ldx + j];
}

/* ---- Elementary functions: exp and tanh at most 2 ulp from correct over the whole range of float, logistic 3 ---- */

INLINE float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint32_t to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* e^x = 2^n e^r with n = round(x / ln 2): Cody & Waite's two-part ln 2, then a polynomial on |r| <= ln 2 / 2. */
INLINE float exponential(float x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in the low bits */
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    const float shifted = x * 1.44269504f + round;
    const float n = shifted - round;
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.98756915e-4f;
    p = p * r + 1.39819994e-3f;
    p = p * r + 8.33345190e-3f;
    p = p * r + 4.16657960e-2f;
    p = p * r + 1.66666657e-1f;
    p = p * r + 5.00000000e-1f;
    p = p * (r * r) + r + 1.0f;
    /* In two factors, because 2^n alone overflows before the product does, and underflows likewise. */
    const uint32_t exponent = to_bits(shifted) - 0x4B400000u;
    const uint32_t half = (uint32_t)((int32_t)exponent >> 1);
    return p * from_bits((half + 127u) << 23) * from_bits((exponent - half + 127u) << 23);
}

/* log x = e ln 2 + 2 artanh((m - 1) / (m + 1)) with x = 2^e m and m about 1; x is normal, or the result NaN. */
INLINE float natural_logarithm(float x) {
    const uint32_t root_half = 0x3F3504F3u, bits = to_bits(x) - root_half;
    const float e = (float)((int32_t)bits >> 23), m = from_bits((bits & 0x7FFFFFu) + root_half);
    const float s = (m - 1.0f) / (m + 1.0f), square = s * s;
    float p = 2.0f / 9.0f;
    p = p * square + 2.0f / 7.0f;
    p = p * square + 2.0f / 5.0f;
    p = p * square + 2.0f / 3.0f;
    return e * 0.693359375f + (e * -2.12194440e-4f + (p * square * s + (s + s))) + (x - x);
}

/* log(1 + x) = 2 artanh(x / (2 + x)) for 0 <= x <= 1, at most 2 ulp from correct: a small x is not rounded to 1 + x. */
INLINE float logarithm_of_one_plus(float x) {
    const float s = x / (2.0f + x), square = s * s;
    float p = 0.280244589f;
    p = p * square + 0.279991418f;
    p = p * square + 0.400216997f;
    p = p * square + 0.666664124f;
    return p * square * s + (s + s);
}

INLINE float hyperbolic_tangent(float x) {
    const float magnitude = fabsf(x), square = x * x;
    const float e = exponential(magnitude + magnitude);
    const float large = 1.0f - 2.0f / (e + 1.0f);
    float p = -5.70498872e-3f;
    p = p * square + 2.06390887e-2f;
    p = p * square - 5.37397155e-2f;
    p = p * square + 1.33314422e-1f;
    p = p * square - 3.33332819e-1f;
    const float small = p * square * magnitude + magnitude;
    return copysignf(magnitude < 0.625f ? small : large, x);
}

INLINE float logistic(float x) {
    const float e = exponential(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* ---- Activations ------------------------------------------------------------------------------------------------ */

static void activate(float *h, ptrdiff_t count, int activation) {
    switch (activation) {
        case FM_IDENTITY: break;
        case FM_RELU: /* in this order a NaN passes through, so that divergence is seen */
            for (ptrdiff_t i = 0; i < count; i++) h[i] = 0.0f > h[i] ? 0.0f : h[i];
            break;
        case FM_TANH:
            for (ptrdiff_t i = 0; i < count; i++) h[i] = hyperbolic_tangent(h[i]);
            break;
        case FM_LOGISTIC:
            for (ptrdiff_t i = 0; i < count; i++) h[i] = logistic(h[i]);
            break;
    }
}

static void activate_backward(float *restrict dz, const float *restrict h, ptrdiff_t count, int activation) {
    switch (activation) {
        case FM_IDENTITY: break;
        case FM_RELU:
            for (ptrdiff_t i = 0; i < count; i++) dz[i] = h[i] > 0.0f ? dz[i] : 0.0f;
            break;
        case FM_TANH:
            for (ptrdiff_t i = 0; i < count; i++) dz[i] *= 1.0f - h[i] * h[i];
            break;
        case FM_LOGISTIC:
            for (ptrdiff_t i = 0; i < count; i++) dz[i] *= h[i] * (1.0f - h[i]);
            break;
    }
}

/* ---- Losses ----------------------------------------------------------------------------------------------------- */

/* z becomes e^(z - max z), and what the sum of e^z is then comes as its two factors' logarithms: max + log(sum). */
INLINE void shifted_exponentials(float *z, float *max, float *sum, ptrdiff_t m) {
    float top = z[0], total = 0.0f;
    for (ptrdiff_t j = 1; j < m; j++) top = z[j] > top ? z[j] : top;
    for (ptrdiff_t j = 0; j < m; j++) z[j] = exponential(z[j] - top);
    for (ptrdiff_t j = 0; j < m; j++) total += z[j];
    *max = top;
    *sum = total;
}

static void softmax(float *z, ptrdiff_t ld, ptrdiff_t n, ptrdiff_t m) {
    for (ptrdiff_t i = 0; i < n; i++, z += ld) {
        float max, sum;
        shifted_exponentials(z, &max, &sum, m);
        const float reciprocal = 1.0f / sum;
        for (ptrdiff_t j = 0; j < m; j++) z[j] *= reciprocal;
    }
}

#define ABREAST 16

/* Rows of few classes go side by side, one a lane: a row alone would leave most lanes empty, and took five times as
 * long with 4 classes. */
INLINE void narrow_cross_entropy(float *z, float *loss, ptrdiff_t ld, const int64_t *labels, const float *scale,
                                 ptrdiff_t rows, ptrdiff_t m) {
    float t[FM_PAD][ABREAST] = {{0}}, top[ABREAST], sum[ABREAST] = {0}, log_sum[ABREAST];
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t j = 0; j < m; j++) t[j][r] = z[r * ld + j];
    memcpy(top, t[0], sizeof top);
    for (ptrdiff_t j = 1; j < m; j++)
        for (int r = 0; r < ABREAST; r++) top[r] = t[j][r] > top[r] ? t[j][r] : top[r];
    for (ptrdiff_t j = 0; j < m; j++)
        for (int r = 0; r < ABREAST; r++) sum[r] += t[j][r] = exponential(t[j][r] - top[r]);
    for (int r = 0; r < ABREAST; r++) log_sum[r] = natural_logarithm(sum[r]);
    for (ptrdiff_t r = 0; r < rows; r++, z += ld) {
        const float factor = scale[r] / sum[r];
        loss[r] = log_sum[r] + (top[r] - z[labels[r]]);
        for (ptrdiff_t j = 0; j < m; j++) z[j] = t[j][r] * factor;
        z[labels[r]] -= scale[r];
    }
}

/* loss = log(sum_j e^(z_j)) - z_label; dz = softmax(z) - e_label. */
static void cross_entropy_of_labels(float *z, float *loss, ptrdiff_t ld, const int64_t *labels, const float *scale,
                                    ptrdiff_t n, ptrdiff_t m) {
    for (; m <= FM_PAD && n >= ABREAST; n -= ABREAST) {
        narrow_cross_entropy(z, loss, ld, labels, scale, ABREAST, m);
        z += ABREAST * ld, loss += ABREAST, labels += ABREAST, scale += ABREAST;
    }
    if (m <= FM_PAD && n > 0) narrow_cross_entropy(z, loss, ld, labels, scale, n, m);
    for (ptrdiff_t i = 0; m > FM_PAD && i < n; i++, z += ld) {
        float max, sum;
        const float chosen = z[labels[i]];
        shifted_exponentials(z, &max, &sum, m);
        const float factor = scale[i] / sum;
        for (ptrdiff_t j = 0; j < m; j++) z[j] *= factor;
        z[labels[i]] -= scale[i];
        loss[i] = natural_logarithm(sum) + (max - chosen);
    }
}

/* The mean of that over probability rows t; dz = softmax(z) sum(t) - t. */
static void cross_entropy_of_rows(float *z, float *loss, ptrdiff_t ld, const float *targets, const float *scale,
                                  ptrdiff_t n, ptrdiff_t m) {
    for (ptrdiff_t i = 0; i < n; i++, z += ld, targets += m) {
        const float *t = targets;
        float max, sum, top = z[0], weighted = 0.0f, total = 0.0f;
        for (ptrdiff_t j = 1; j < m; j++) top = z[j] > top ? z[j] : top;
        for (ptrdiff_t j = 0; j < m; j++) weighted += t[j] * (top - z[j]), total += t[j];
        shifted_exponentials(z, &max, &sum, m);
        const float factor = scale[i] * total / sum;
        for (ptrdiff_t j = 0; j < m; j++) z[j] = z[j] * factor - t[j] * scale[i];
        loss[i] = total * natural_logarithm(sum) + weighted;
    }
}

/* loss = sum_j log(1 + e^(z_j)) - t_j z_j, with the exponent kept negative; dz = logistic(z) - t. Up to FM_PANEL values
 * of one row, or of several narrow ones, go side by side, and their terms are added up afterwards, in order: a tenth of
 * the time that the terms took one by one. */
static void binary_cross_entropy(float *z, float *loss, ptrdiff_t ld, const float *targets, const float *scale,
                                 ptrdiff_t n, ptrdiff_t m) {
    const ptrdiff_t most = m < FM_PANEL ? FM_PANEL / m : 1;
    for (ptrdiff_t i = 0; i < n; i += most) {
        const ptrdiff_t rows = n - i < most ? n - i : most;
        memset(loss + i, 0, (size_t)rows * sizeof *loss);
        for (ptrdiff_t j = 0; j < m; j += FM_PANEL) {
            const ptrdiff_t columns = m - j < FM_PANEL ? m - j : FM_PANEL, count = rows * columns;
            /* Whole vectors only: where a value stands must not change its bits. */
            const ptrdiff_t padded = (count + FM_PAD - 1) / FM_PAD * FM_PAD;
            float x[FM_PANEL] = {0}, t[FM_PANEL] = {0}, term[FM_PANEL];
            copy(x, columns, z + i * ld + j, ld, rows, columns);
            memcpy(t, targets + i * m + j, (size_t)count * sizeof *t);
            for (ptrdiff_t e = 0; e < padded; e++) {
                const float positive = x[e] > 0.0f ? x[e] : 0.0f;
                term[e] = (positive - t[e] * x[e]) + logarithm_of_one_plus(exponential(-fabsf(x[e])));
                x[e] = logistic(x[e]) - t[e];
            }
            for (ptrdiff_t r = 0; r < rows; r++) {
                const float *row_term = term + r * columns, *row_x = x + r * columns, factor = scale[i + r];
                float *out = z + (i + r) * ld + j, total = loss[i + r];
                for (ptrdiff_t c = 0; c < columns; c++) total += row_term[c];
                for (ptrdiff_t c = 0; c < columns; c++) out[c] = row_x[c] * factor;
                loss[i + r] = total;
            }
        }
    }
}

/* loss = sum_j (z_j - t_j)^2 / 2; dz = z - t. */
static void squared_error(float *z, float *loss, ptrdiff_t ld, const float *targets, const float *scale, ptrdiff_t n,
                          ptrdiff_t m) {
    for (ptrdiff_t i = 0; i < n; i++, z += ld, targets += m) {
        float total = 0.0f;
        for (ptrdiff_t j = 0; j < m; j++) {
            const float difference = z[j] - targets[j];
            total += difference * difference;
            z[j] = difference * scale[i];
        }
        loss[i] = 0.5f * total;
    }
}

static void loss(float *z, float *losses, ptrdiff_t ld, const int64_t *labels, const float *targets, const float *scale,
                 ptrdiff_t n, ptrdiff_t m, int kind) {
    switch (kind) {
        case FM_CROSS_ENTROPY:
            if (labels)
                cross_entropy_of_labels(z, losses, ld, labels, scale, n, m);
            else
                cross_entropy_of_rows(z, losses, ld, targets, scale, n, m);
            break;
        case FM_BINARY_CROSS_ENTROPY: binary_cross_entropy(z, losses, ld, targets, scale, n, m); break;
        case FM_SQUARED_ERROR: squared_error(z, losses, ld, targets, scale, n, m); break;
    }
}

/* ---- Optimizers ------------------------------------------------------------------------------------------------- */

/* The loop over lanes becomes one instruction. (A reciprocal root with a Newton step was no faster on Zen 4.) */
INLINE vec square_root(vec x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = sqrtf(x[lane]);
    return x;
}

INLINE void update_vec(float *w, float *first, float *second, vec g, const fm_step *s, const int rule) {
    if (rule == FM_ADAM) {
        const vec m = s->beta_1 * load(first) + s->one_minus_beta_1 * g;
        const vec v = s->beta_2 * load(second) + s->one_minus_beta_2 * (g * g);
        store(first, m);
        store(second, v);
        store(w, s->decay * load(w) - s->rate * m / (square_root(v) + s->epsilon));
    } else {
        const vec velocity = s->beta_1 * load(first) + g;
        vec direction = velocity;
        if (rule == FM_NESTEROV) direction = g + s->beta_1 * velocity;
        store(first, velocity);
        store(w, load(w) - s->rate * direction);
    }
}

INLINE void update_flat(float *w, float *first, float *second, const float *g, ptrdiff_t count, const fm_step *step,
                        const int rule) {
    for (; count >= LANES; count -= LANES, w += LANES, first += LANES, second += LANES, g += LANES)
        update_vec(w, first, second, load(g), step, rule);
    if (count > 0) {
        const size_t bytes = (size_t)count * sizeof *w;
        float rest[4][LANES] = {{0}};
        memcpy(rest[0], w, bytes), memcpy(rest[1], first, bytes), memcpy(rest[2], second, bytes);
        memcpy(rest[3], g, bytes);
        update_vec(rest[0], rest[1], rest[2], load(rest[3]), step, rule);
        memcpy(w, rest[0], bytes), memcpy(first, rest[1], bytes), memcpy(second, rest[2], bytes);
    }
}

static void update(float *w, float *first, float *second, const float *g, ptrdiff_t count, const fm_step *step) {
    switch (step->rule) {
        case FM_SGD: update_flat(w, first, second, g, count, step, FM_SGD); break;
        case FM_NESTEROV: update_flat(w, first, second, g, count, step, FM_NESTEROV); break;
        case FM_ADAM: update_flat(w, first, second, g, count, step, FM_ADAM); break;
    }
}

/* The gradient of a row goes from registers into the update. Weights and moments come from beyond the L2 cache while
 * the product reads L1, so they are asked for some rows ahead: together that saves a fifth of the time. */
#define ROWS_AHEAD 6

INLINE void sparse_update_columns(float *restrict w, float *restrict first, float *restrict second, ptrdiff_t ld,
                                  fm_sparse a, const float *restrict b, ptrdiff_t ldb, ptrdiff_t n, const fm_step *step,
                                  const int rule, const int vecs) {
    const fm_step s = *step;
    for (ptrdiff_t i = 0; i < n; i++, w += ld, first += ld, second += ld) {
        vec g[ROW_VECS];
        UNROLL for (int v = 0; v < vecs; v++) {
            __builtin_prefetch(w + ROWS_AHEAD * ld + v * LANES, 1);
            __builtin_prefetch(first + ROWS_AHEAD * ld + v * LANES, 1);
            __builtin_prefetch(second + ROWS_AHEAD * ld + v * LANES, 1);
            g[v] = splat(0.0f);
        }
        add_row(g, a, i, b, ldb, vecs);
        UNROLL for (int v = 0; v < vecs; v++)
            update_vec(w + v * LANES, first + v * LANES, second + v * LANES, g[v], &s, rule);
    }
}

INLINE void sparse_update_as(float *w, float *first, float *second, ptrdiff_t ld, fm_sparse a, const float *b,
                             ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t width, const fm_step *step, const int rule) {
    for (; width >= ROW_VECS * LANES; width -= ROW_VECS * LANES) {
        sparse_update_columns(w, first, second, ld, a, b, ldb, n, step, rule, ROW_VECS);
        w += ROW_VECS * LANES;
        first += ROW_VECS * LANES;
        second += ROW_VECS * LANES;
        b += ROW_VECS * LANES;
    }
    for (; width > 0; width -= FM_PAD) {
        sparse_update_columns(w, first, second, ld, a, b, ldb, n, step, rule, FM_PAD / LANES);
        w += FM_PAD;
        first += FM_PAD;
        second += FM_PAD;
        b += FM_PAD;
    }
}

static void sparse_update(float *w, float *first, float *second, ptrdiff_t ld, fm_sparse a, const float *b,
                          ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t width, const fm_step *step) {
    switch (step->rule) {
        case FM_SGD: sparse_update_as(w, first, second, ld, a, b, ldb, n, width, step, FM_SGD); break;
        case FM_NESTEROV: sparse_update_as(w, first, second, ld, a, b, ldb, n, width, step, FM_NESTEROV); break;
        case FM_ADAM: sparse_update_as(w, first, second, ld, a, b, ldb, n, width, step, FM_ADAM); break;
    }
}

/* ---- The order of the rows ----------------------------------------------------------------------------------------
 */

INLINE uint32_t mixed(uint32_t x, uint32_t key) {
    x = (x ^ key) * 0x9E3779B1u;
    x = (x ^ x >> 15) * 0x85EBCA77u;
    return x ^ x >> 13;
}

/* A Feistel network (Luby & Rackoff 1988) permutes the numbers of `bits` bits, and those from n on are left out. Each
 * number is a function of its place alone, so that vectors of them are made at once: 0.4 ms for 200,000 rows, where
 * swapping them one by one takes 4. */
#define ROUNDS 6
#define SHUFFLED 256

static void shuffle(int64_t *order, const uint32_t *keys, ptrdiff_t n) {
    int low = 5, high = 5; /* a few rows are picked from 1024: so few bits would mix badly */
    while ((ptrdiff_t)1 << (low + high) < n) {
        if (low == high)
            low++;
        else
            high++;
    }
    const uint32_t low_bits = ((uint32_t)1 << low) - 1, high_bits = ((uint32_t)1 << high) - 1;
    for (ptrdiff_t done = 0, first = 0; done < n; first += SHUFFLED) {
        uint32_t numbers[SHUFFLED];
        int64_t kept[SHUFFLED];
        ptrdiff_t count = 0;
        for (int i = 0; i < SHUFFLED; i++) {
            uint32_t x = (uint32_t)(first + i), a = x & low_bits, b = x >> low;
            UNROLL for (int r = 0; r < ROUNDS; r += 2) {
                b ^= mixed(a, keys[r]) & high_bits;
                a ^= mixed(b, keys[r + 1]) & low_bits;
            }
            numbers[i] = b << low | a;
        }
        for (int i = 0; i < SHUFFLED; i++) {
            kept[count] = numbers[i];
            count += numbers[i] < n;
        }
        memcpy(order + done, kept, (size_t)count * sizeof *kept);
        done += count;
    }
}

/* ---- The table -------------------------------------------------------------------------------------------------- */

const fm_kernels TABLE = {
    .name = NAME,
    .dense = dense,
    .sparse = sparse,
    .row = row,
    .is_finite = is_finite,
    .count_nonzero = count_nonzero,
    .list = list,
    .list_columns = list_columns,
    .copy = copy,
    .gather = gather,
    .transpose = transpose,
    .scale = scale,
    .column_sums = column_sums,
    .activate = activate,
    .activate_backward = activate_backward,
    .loss = loss,
    .softmax = softmax,
    .update = update,
    .sparse_update = sparse_update,
    .shuffle = shuffle,
};
