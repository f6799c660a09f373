/* Steps of the optimizers: on a gradient that is there, and on one that is a sparse product, never stored. Then what
 * weights are held to after a step. */

/* The loop over lanes becomes one instruction. (A reciprocal root with a Newton step was no faster on Zen 4.) */
INLINE vec square_root(vec x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = sqrtf(x[lane]);
    return x;
}

/* By bits, as C has no choice between vectors. NaN stays NaN. */
INLINE vec clamp(vec x, float most) {
    typedef int32_t lanes __attribute__((vector_size(4 * LANES)));
    const lanes above = x > splat(most), below = x < splat(-most);
    return (vec)((above & (lanes)splat(most)) | (below & (lanes)splat(-most)) | (~(above | below) & (lanes)x));
}

/* The gradient as a rule takes it: by a branch, so that nobody pays for what is not asked for. */
INLINE void regularise(vec *g, const float *w, const fm_step *s, const int vecs) {
    if (s->clip_value != 0) UNROLL for (int v = 0; v < vecs; v++) g[v] = clamp(g[v], s->clip_value);
    if (s->l2 != 0) UNROLL for (int v = 0; v < vecs; v++) g[v] += s->l2 * load(w + v * LANES);
}

INLINE void update_vec(float *w, float *moment_1, float *moment_2, vec g, const fm_step *s, const int rule) {
    if (rule == FM_ADAM) {
        const vec m = s->beta_1 * load(moment_1) + s->one_minus_beta_1 * g;
        const vec v = s->beta_2 * load(moment_2) + s->one_minus_beta_2 * (g * g);
        store(moment_1, m);
        store(moment_2, v);
        store(w, s->decay * load(w) - s->rate * m / (square_root(v) + s->epsilon));
    } else {
        const vec velocity = s->beta_1 * load(moment_1) + g;
        vec direction = velocity;
        if (rule == FM_NESTEROV) direction = g + s->beta_1 * velocity;
        store(moment_1, velocity);
        store(w, load(w) - s->rate * direction);
    }
}

INLINE void update_flat(float *w, float *moment_1, float *moment_2, const float *g, ptrdiff_t count,
                        const fm_step *step, const int rule) {
    for (; count >= LANES; count -= LANES, w += LANES, moment_1 += LANES, moment_2 += LANES, g += LANES) {
        vec gradient = load(g);
        regularise(&gradient, w, step, 1);
        update_vec(w, moment_1, moment_2, gradient, step, rule);
    }
    if (count > 0) {
        const size_t bytes = (size_t)count * sizeof *w;
        float rest[4][LANES] = {{0}};
        memcpy(rest[0], w, bytes), memcpy(rest[1], moment_1, bytes), memcpy(rest[2], moment_2, bytes);
        memcpy(rest[3], g, bytes);
        vec gradient = load(rest[3]);
        regularise(&gradient, rest[0], step, 1);
        update_vec(rest[0], rest[1], rest[2], gradient, step, rule);
        memcpy(w, rest[0], bytes), memcpy(moment_1, rest[1], bytes), memcpy(moment_2, rest[2], bytes);
    }
}

static void update(float *w, float *moment_1, float *moment_2, const float *g, ptrdiff_t count, const fm_step *step) {
    switch (step->rule) {
        case FM_SGD: update_flat(w, moment_1, moment_2, g, count, step, FM_SGD); break;
        case FM_NESTEROV: update_flat(w, moment_1, moment_2, g, count, step, FM_NESTEROV); break;
        case FM_ADAM: update_flat(w, moment_1, moment_2, g, count, step, FM_ADAM); break;
    }
}

/* A row of gradients, which are in registers. Weights and moments come from beyond the L2 cache while the product reads
 * L1, so they are asked for some rows ahead: together that saves a fifth of the time. */
#define ROWS_AHEAD 6

INLINE void update_row(float *restrict w, float *restrict moment_1, float *restrict moment_2, ptrdiff_t ld, vec *g,
                       const fm_step *s, const int vecs) {
    regularise(g, w, s, vecs);
    UNROLL for (int v = 0; v < vecs; v++) {
        __builtin_prefetch(w + ROWS_AHEAD * ld + v * LANES, 1);
        __builtin_prefetch(moment_1 + ROWS_AHEAD * ld + v * LANES, 1);
        __builtin_prefetch(moment_2 + ROWS_AHEAD * ld + v * LANES, 1);
    }
#define UPDATE_ROW(rule)                                                                                               \
    UNROLL for (int v = 0, j = 0; v < vecs; v++, j += LANES)                                                           \
        update_vec(w + j, moment_1 + j, moment_2 + j, g[v], s, rule)
    switch (s->rule) {
        case FM_SGD: UPDATE_ROW(FM_SGD); break;
        case FM_NESTEROV: UPDATE_ROW(FM_NESTEROV); break;
        case FM_ADAM: UPDATE_ROW(FM_ADAM); break;
    }
#undef UPDATE_ROW
}

INLINE void sparse_update_columns(float *restrict w, float *restrict moment_1, float *restrict moment_2, ptrdiff_t ld,
                                  fm_sparse a, const float *restrict b, ptrdiff_t ldb, ptrdiff_t n, const fm_step *step,
                                  const int vecs) {
    const fm_step s = *step;
    for (ptrdiff_t i = 0; i < n; i++, w += ld, moment_1 += ld, moment_2 += ld) {
        vec g[ROW_VECS];
        UNROLL for (int v = 0; v < vecs; v++) g[v] = splat(0.0f);
        add_row(g, a, i, b, ldb, vecs);
        update_row(w, moment_1, moment_2, ld, g, &s, vecs);
    }
}

static void sparse_update(float *w, float *moment_1, float *moment_2, ptrdiff_t ld, fm_sparse a, const float *b,
                          ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t width, const fm_step *step) {
    const ptrdiff_t whole = ROW_VECS * LANES;
    for (; width >= whole; width -= whole, w += whole, moment_1 += whole, moment_2 += whole, b += whole)
        sparse_update_columns(w, moment_1, moment_2, ld, a, b, ldb, n, step, ROW_VECS);
    switch (width / FM_PAD) { /* what is left of a panel */
#if ROW_VECS * LANES == FM_PANEL
        case 3: sparse_update_columns(w, moment_1, moment_2, ld, a, b, ldb, n, step, 3 * FM_PAD / LANES); break;
        case 2: sparse_update_columns(w, moment_1, moment_2, ld, a, b, ldb, n, step, 2 * FM_PAD / LANES); break;
#endif
        case 1: sparse_update_columns(w, moment_1, moment_2, ld, a, b, ldb, n, step, FM_PAD / LANES); break;
    }
}

/* A row of gradients of one panel, or of two. */
INLINE void update_panels(float *w, float *moment_1, float *moment_2, ptrdiff_t apart, vec *g, const fm_step *s,
                          const int vecs) {
    const int each = vecs < PANEL_VECS ? vecs : PANEL_VECS;
    UNROLL for (int v = 0; v < vecs; v += each, w += apart, moment_1 += apart, moment_2 += apart)
        update_row(w, moment_1, moment_2, FM_PANEL, g + v, s, each);
}

INLINE void masked_update_columns(float *w, float *moment_1, float *moment_2, const float *start, ptrdiff_t ld_start,
                                  fm_masked a, const float *b, ptrdiff_t ldb, fm_apart apart, ptrdiff_t n, ptrdiff_t k,
                                  const fm_step *step, const int vecs) {
    const fm_step s = *step;
    const float *from[2] = {start, vecs > PANEL_VECS ? plain(start + apart.start) : start};
    vec g[2][2 * PAIR_VECS];
    ptrdiff_t i = 0;
    for (; i + 2 <= n; i += 2, w += 2 * FM_PANEL, moment_1 += 2 * FM_PANEL, moment_2 += 2 * FM_PANEL) {
        UNROLL for (int v = 0; v < vecs; v++) {
            g[0][v] = load(PLACE(from, v));
            g[1][v] = load(PLACE(from, v) + ld_start);
        }
        add_masked_pair(g, a, i, b, ldb, apart.b, k, 2, vecs);
        update_panels(w, moment_1, moment_2, apart.c, g[0], &s, vecs);
        update_panels(w + FM_PANEL, moment_1 + FM_PANEL, moment_2 + FM_PANEL, apart.c, g[1], &s, vecs);
        from[0] += 2 * ld_start, from[1] += 2 * ld_start;
    }
    if (i < n) {
        UNROLL for (int v = 0; v < vecs; v++) g[0][v] = load(PLACE(from, v));
        add_masked_pair(g, a, i, b, ldb, apart.b, k, 1, vecs);
        update_panels(w, moment_1, moment_2, apart.c, g[0], &s, vecs);
    }
}

INLINE void masked_update_panel(float *w, float *moment_1, float *moment_2, const float *start, ptrdiff_t ld_start,
                                fm_masked a, const float *b, ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width,
                                const fm_step *step) {
    const fm_apart apart = {0, 0, 0};
    const ptrdiff_t whole = PAIR_VECS * LANES;
    for (; width >= whole; width -= whole, w += whole, moment_1 += whole, moment_2 += whole, start += whole, b += whole)
        masked_update_columns(w, moment_1, moment_2, start, ld_start, a, b, ldb, apart, n, k, step, PAIR_VECS);
    for (; width > 0;
         width -= FM_PAD, w += FM_PAD, moment_1 += FM_PAD, moment_2 += FM_PAD, start += FM_PAD, b += FM_PAD)
        masked_update_columns(w, moment_1, moment_2, start, ld_start, a, b, ldb, apart, n, k, step, FM_PAD / LANES);
}

static void masked_update(float *w, float *moment_1, float *moment_2, const float *start, ptrdiff_t ld_start,
                          fm_masked a, const float *b, ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t k, ptrdiff_t width,
                          const fm_step *step) {
    if (ldb == FM_PANEL)
        masked_update_panel(w, moment_1, moment_2, start, ld_start, a, b, FM_PANEL, n, k, width, step);
    else
        masked_update_panel(w, moment_1, moment_2, start, ld_start, a, b, ldb, n, k, width, step);
}

static void masked_update_two(float *w, float *moment_1, float *moment_2, const float *start, ptrdiff_t ld_start,
                              fm_masked a, const float *b, fm_apart apart, ptrdiff_t n, ptrdiff_t k,
                              const fm_step *step) {
#if PAIR_VECS == PANEL_VECS
    masked_update_columns(w, moment_1, moment_2, start, ld_start, a, b, FM_PANEL, apart, n, k, step, 2 * PANEL_VECS);
#else
    for (int panel = 0; panel < 2; panel++) {
        masked_update_panel(w, moment_1, moment_2, start, ld_start, a, b, FM_PANEL, n, k, FM_PANEL, step);
        w += apart.c, moment_1 += apart.c, moment_2 += apart.c, start += apart.start, b += apart.b;
    }
#endif
}

static void constrain(float *w, ptrdiff_t ld, ptrdiff_t k, ptrdiff_t width, float max_norm) {
    double squares[FM_PANEL] = {0};
    float factors[FM_PANEL];
    int above = 0;
    for (ptrdiff_t i = 0; i < k; i++)
        for (ptrdiff_t j = 0; j < width; j++) squares[j] += (double)w[i * ld + j] * w[i * ld + j];
    for (ptrdiff_t j = 0; j < width; j++) {
        const double norm = sqrt(squares[j]);
        factors[j] = norm > max_norm ? (float)(max_norm / norm) : 1;
        above |= norm > max_norm;
    }
    if (!above) return;
    for (ptrdiff_t i = 0; i < k; i++)
        for (ptrdiff_t j = 0; j < width; j++) w[i * ld + j] *= factors[j];
}
