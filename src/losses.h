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

/* A term f of one output, and its derivative by z. */
INLINE float loss_term(float z, float t, float delta, float *derivative, const int kind) {
    const float d = z - t;
    if (kind == FM_ABSOLUTE_ERROR) {
        *derivative = d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : 0.0f;
        return fabsf(d);
    }
    if (kind == FM_HUBER) {
        const float within = d > delta ? delta : d < -delta ? -delta : d;
        *derivative = within;
        return within * (d - 0.5f * within);
    }
    const float rate = exponential(z); /* FM_POISSON */
    *derivative = rate - t;
    return rate - t * z;
}

/* loss = sum_j f(z_j, t_j); dz = f'. */
INLINE void sum_of_terms(float *z, float *loss, ptrdiff_t ld, const float *targets, const float *scale, ptrdiff_t n,
                         ptrdiff_t m, float delta, const int kind) {
    for (ptrdiff_t i = 0; i < n; i++, z += ld, targets += m) {
        float total = 0.0f;
        for (ptrdiff_t j = 0; j < m; j++) {
            float derivative;
            total += loss_term(z[j], targets[j], delta, &derivative, kind);
            z[j] = derivative * scale[i];
        }
        loss[i] = total;
    }
}

/* Output j is about target j / n_levels, and wants to be above it with probability levels[j % n_levels]. */
static void quantile(float *z, float *loss, ptrdiff_t ld, const float *targets, const float *scale, ptrdiff_t n,
                     ptrdiff_t m, const float *levels, ptrdiff_t n_levels) {
    for (ptrdiff_t i = 0; i < n; i++, z += ld) {
        float total = 0.0f;
        for (ptrdiff_t j = 0; j < m; targets++)
            for (ptrdiff_t l = 0; l < n_levels; l++, j++) {
                const float d = z[j] - *targets;
                const float slope = d > 0.0f ? 1.0f - levels[l] : d < 0.0f ? -levels[l] : 0.0f;
                total += slope * d;
                z[j] = slope * scale[i];
            }
        loss[i] = total;
    }
}

/* Cross-entropy with targets (1 - s) t + s / m: what that adds to the loss and to dz of the targets t. */
static void smoothed_cross_entropy(float *z, float *loss, ptrdiff_t ld, const int64_t *labels, const float *targets,
                                   const float *scale, ptrdiff_t n, ptrdiff_t m, float smoothing) {
    float added[FM_PANEL];
    const float share = smoothing / (float)m;
    for (ptrdiff_t i = 0; i < n; i += FM_PANEL) {
        const ptrdiff_t rows = n - i < FM_PANEL ? n - i : FM_PANEL;
        for (ptrdiff_t r = 0; r < rows; r++) {
            const float *row = z + (i + r) * ld, first = row[0];
            float mean = 0.0f, target = 0.0f;
            for (ptrdiff_t j = 0; j < m; j++) mean += row[j] - first;
            if (labels)
                target = row[labels[i + r]] - first;
            else
                for (ptrdiff_t j = 0; j < m; j++) target += targets[(i + r) * m + j] * (row[j] - first);
            added[r] = smoothing * target - share * mean;
        }
        if (labels)
            cross_entropy_of_labels(z + i * ld, loss + i, ld, labels + i, scale + i, rows, m);
        else
            cross_entropy_of_rows(z + i * ld, loss + i, ld, targets + i * m, scale + i, rows, m);
        for (ptrdiff_t r = i; r < i + rows; r++) {
            float *row = z + r * ld;
            loss[r] += added[r - i];
            for (ptrdiff_t j = 0; j < m; j++) row[j] -= scale[r] * share;
            if (labels)
                row[labels[r]] += scale[r] * smoothing;
            else
                for (ptrdiff_t j = 0; j < m; j++) row[j] += scale[r] * smoothing * targets[r * m + j];
        }
    }
}

/* -(1 - p)^gamma log p, and its derivative by log p, of p = e^log_p and its rest 1 - p, whose digits p has not. */
INLINE float focal_term(float log_p, float rest, float gamma, float *derivative) {
    const float least = 1.17549435e-38f, ratio = rest < least ? -1.0f : log_p / rest;
    const float power = gamma == 0.0f ? 1.0f : rest < least ? 0.0f : exponential(gamma * natural_logarithm(rest));
    *derivative = power * (gamma * exponential(log_p) * ratio - 1.0f);
    return -power * log_p;
}

/* loss = sum_j t_j f_j, with f_j that of p_j = softmax(z)_j; dz = t f' - p sum(t f'). */
static void focal(float *z, float *loss, ptrdiff_t ld, const int64_t *labels, const float *targets, const float *scale,
                  ptrdiff_t n, ptrdiff_t m, float gamma) {
    for (ptrdiff_t i = 0; i < n; i++, z += ld) {
        ptrdiff_t top = 0;
        float others = 0.0f, value = 0.0f, derivatives = 0.0f, derivative;
        for (ptrdiff_t j = 1; j < m; j++) top = z[j] > z[top] ? j : top;
        const float max = z[top];
        for (ptrdiff_t j = 0; j < m; j++) others += j == top ? 0.0f : exponential(z[j] - max);
        const float sum = 1.0f + others;
        const float log_sum = others > 1.0f ? natural_logarithm(sum) : logarithm_of_one_plus(others);
        for (int turn = 0; turn < 2; turn++)
            for (ptrdiff_t j = 0; j < m; j++) {
                const float t = labels ? (float)(j == labels[i]) : targets[i * m + j], log_p = (z[j] - max) - log_sum;
                const float e = exponential(z[j] - max), rest = (j == top ? others : sum - e) / sum;
                const float term = t == 0.0f ? 0.0f : t * focal_term(log_p, rest, gamma, &derivative);
                const float slope = t == 0.0f ? 0.0f : t * derivative;
                if (turn == 0)
                    value += term, derivatives += slope;
                else
                    z[j] = scale[i] * (slope - e / sum * derivatives);
            }
        loss[i] = value;
    }
}

static void loss(float *z, float *losses, ptrdiff_t ld, const int64_t *labels, const float *targets, const float *scale,
                 ptrdiff_t n, ptrdiff_t m, const fm_loss *how) {
    switch (how->kind) {
        case FM_CROSS_ENTROPY:
            if (how->parameters[0] > 0.0f)
                smoothed_cross_entropy(z, losses, ld, labels, targets, scale, n, m, how->parameters[0]);
            else if (labels)
                cross_entropy_of_labels(z, losses, ld, labels, scale, n, m);
            else
                cross_entropy_of_rows(z, losses, ld, targets, scale, n, m);
            break;
        case FM_BINARY_CROSS_ENTROPY: binary_cross_entropy(z, losses, ld, targets, scale, n, m); break;
        case FM_SQUARED_ERROR: squared_error(z, losses, ld, targets, scale, n, m); break;
        case FM_FOCAL: focal(z, losses, ld, labels, targets, scale, n, m, how->parameters[0]); break;
        case FM_ABSOLUTE_ERROR: sum_of_terms(z, losses, ld, targets, scale, n, m, 0, FM_ABSOLUTE_ERROR); break;
        case FM_HUBER: sum_of_terms(z, losses, ld, targets, scale, n, m, how->parameters[0], FM_HUBER); break;
        case FM_POISSON: sum_of_terms(z, losses, ld, targets, scale, n, m, 0, FM_POISSON); break;
        case FM_QUANTILE: quantile(z, losses, ld, targets, scale, n, m, how->parameters, how->n_parameters); break;
    }
}
