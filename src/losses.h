/* Losses of rows of logits, with their gradients; softmax. */

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
