/* Activations, and their derivatives by the output. */

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
