/* Batch normalisation of a panel: Ioffe & Szegedy 2015, "Batch normalization: accelerating deep network training by
 * reducing internal covariate shift", algorithm 1 and the gradients of section 3. Sums over the rows stay in registers.
 */

#define NORMALISE_EPSILON 1e-5f

/* Not below zero, where rounding may take a variance; a NaN stays one. */
INLINE vec at_least_zero(vec x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = 0.0f > x[lane] ? 0.0f : x[lane];
    return x;
}

/* Sums are of the differences from the first row: with columns far from zero the squares' sum would cancel. */
INLINE void normalise_columns(float *restrict x, float *restrict h, ptrdiff_t ld, float *restrict mean,
                              float *restrict variance, float *restrict inverse, const float *restrict scale,
                              const float *restrict bias, ptrdiff_t n, const int vecs) {
    vec first[TILE_VECS], sum[TILE_VECS], squares[TILE_VECS];
    UNROLL for (int v = 0; v < vecs; v++) {
        first[v] = load(x + v * LANES);
        sum[v] = squares[v] = splat(0.0f);
    }
    for (ptrdiff_t i = 1; i < n; i++) {
        UNROLL for (int v = 0; v < vecs; v++) {
            const vec difference = load(x + i * ld + v * LANES) - first[v];
            sum[v] += difference;
            squares[v] += difference * difference;
        }
    }
    const float share = 1.0f / (float)n, unbiased = n > 1 ? (float)n / (float)(n - 1) : 1.0f;
    vec shift[TILE_VECS], factor[TILE_VECS];
    UNROLL for (int v = 0; v < vecs; v++) {
        shift[v] = share * sum[v];
        const vec biased = at_least_zero(share * squares[v] - shift[v] * shift[v]);
        factor[v] = 1.0f / square_root(biased + NORMALISE_EPSILON);
        store(mean + v * LANES, first[v] + shift[v]);
        store(variance + v * LANES, unbiased * biased);
        store(inverse + v * LANES, factor[v]);
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        UNROLL for (int v = 0, j = 0; v < vecs; v++, j += LANES) {
            const vec value = ((load(x + i * ld + j) - first[v]) - shift[v]) * factor[v];
            store(x + i * ld + j, value);
            store(h + i * ld + j, load(scale + j) * value + load(bias + j));
        }
    }
}

static void normalise(float *x, float *h, ptrdiff_t ld, float *mean, float *variance, float *inverse,
                      const float *scale, const float *bias, ptrdiff_t n, ptrdiff_t width) {
    const ptrdiff_t whole = TILE_VECS * LANES;
    for (; width >= whole; width -= whole, x += whole, h += whole, mean += whole, variance += whole, inverse += whole,
                           scale += whole, bias += whole)
        normalise_columns(x, h, ld, mean, variance, inverse, scale, bias, n, TILE_VECS);
    for (; width > 0; width -= FM_PAD, x += FM_PAD, h += FM_PAD, mean += FM_PAD, variance += FM_PAD, inverse += FM_PAD,
                      scale += FM_PAD, bias += FM_PAD)
        normalise_columns(x, h, ld, mean, variance, inverse, scale, bias, n, FM_PAD / LANES);
}

INLINE void normalise_columns_backward(float *restrict dh, ptrdiff_t ld, float *restrict dbias, float *restrict dscale,
                                       const float *restrict x, const float *restrict inverse,
                                       const float *restrict scale, ptrdiff_t n, const int vecs) {
    vec sum[TILE_VECS], along[TILE_VECS], factor[TILE_VECS];
    UNROLL for (int v = 0; v < vecs; v++) sum[v] = along[v] = splat(0.0f);
    for (ptrdiff_t i = 0; i < n; i++) {
        UNROLL for (int v = 0, j = 0; v < vecs; v++, j += LANES) {
            const vec gradient = load(dh + i * ld + j);
            sum[v] += gradient;
            along[v] += gradient * load(x + i * ld + j);
        }
    }
    const float share = 1.0f / (float)n;
    UNROLL for (int v = 0, j = 0; v < vecs; v++, j += LANES) {
        store(dbias + j, sum[v]);
        store(dscale + j, along[v]);
        factor[v] = load(scale + j) * load(inverse + j);
        sum[v] *= share;
        along[v] *= share;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        UNROLL for (int v = 0, j = 0; v < vecs; v++, j += LANES) {
            const vec rest = load(dh + i * ld + j) - sum[v] - along[v] * load(x + i * ld + j);
            store(dh + i * ld + j, factor[v] * rest);
        }
    }
}

static void normalise_backward(float *dh, ptrdiff_t ld, float *dbias, float *dscale, const float *x,
                               const float *inverse, const float *scale, ptrdiff_t n, ptrdiff_t width) {
    const ptrdiff_t whole = TILE_VECS * LANES;
    for (; width >= whole;
         width -= whole, dh += whole, dbias += whole, dscale += whole, x += whole, inverse += whole, scale += whole)
        normalise_columns_backward(dh, ld, dbias, dscale, x, inverse, scale, n, TILE_VECS);
    for (; width > 0; width -= FM_PAD, dh += FM_PAD, dbias += FM_PAD, dscale += FM_PAD, x += FM_PAD, inverse += FM_PAD,
                      scale += FM_PAD)
        normalise_columns_backward(dh, ld, dbias, dscale, x, inverse, scale, n, FM_PAD / LANES);
}

static void normalise_row(float *restrict h, const float *restrict bias, const float *restrict scale,
                          const float *restrict mean, const float *restrict variance, ptrdiff_t m) {
    for (ptrdiff_t j = 0; j < m; j++)
        h[j] = (h[j] - bias[j] - mean[j]) * (scale[j] / sqrtf(variance[j] + NORMALISE_EPSILON)) + bias[j];
}

static void blend(float *restrict x, const float *restrict other, float share, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) x[i] = (1.0f - share) * x[i] + share * other[i];
}
