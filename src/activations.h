/* Activations, and their derivatives: by the output h or, where fastmlp/activations.py says so, by the sum z. */

#define LEAK 0.01f
#define SELU_SCALE 1.0507009873554805f
#define SELU_LIMIT 1.7580993408473766f /* scale times alpha: of -h, for z far below 0 */

/* sqrt(2 / pi) (z + 0.044715 z^3) twice: tanh of half of it is 2 logistic - 1. Hendrycks & Gimpel 2016. */
INLINE float gelu_argument(float z) { return 1.5957691216057308f * (z + 0.044715f * (z * z * z)); }

/* logistic(x), and its derivative, which 1 - logistic(x) would not give to the last places. */
INLINE float logistic_and_derivative(float x, float *derivative) {
    const float e = exponential(-fabsf(x)), reciprocal = 1.0f / (1.0f + e);
    *derivative = e * (reciprocal * reciprocal);
    return (x < 0.0f ? e : 1.0f) * reciprocal;
}

/* n with tanh(log(1 + e^z)) = n / (n + 2), for e = e^z; beyond z = 20 that is 1. */
INLINE float mish_exponential(float z) { return exponential(z > 20.0f ? 20.0f : z); }

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
        case FM_LEAKY_RELU:
            for (ptrdiff_t i = 0; i < count; i++) h[i] = h[i] > 0.0f ? h[i] : LEAK * h[i];
            break;
        case FM_ELU:
            for (ptrdiff_t i = 0; i < count; i++) {
                const float below = exponential_minus_one(h[i]);
                h[i] = h[i] > 0.0f ? h[i] : below;
            }
            break;
        case FM_SELU:
            for (ptrdiff_t i = 0; i < count; i++) {
                const float below = SELU_LIMIT * exponential_minus_one(h[i]);
                h[i] = h[i] > 0.0f ? SELU_SCALE * h[i] : below;
            }
            break;
        case FM_GELU:
            for (ptrdiff_t i = 0; i < count; i++) {
                float cumulative, bell;
                normal_distribution(h[i], &cumulative, &bell);
                h[i] *= cumulative;
            }
            break;
        case FM_GELU_TANH:
            for (ptrdiff_t i = 0; i < count; i++) h[i] *= logistic(gelu_argument(h[i]));
            break;
        case FM_SILU:
            for (ptrdiff_t i = 0; i < count; i++) h[i] *= logistic(h[i]);
            break;
        case FM_MISH:
            for (ptrdiff_t i = 0; i < count; i++) {
                const float e = mish_exponential(h[i]), n = e * (e + 2.0f);
                h[i] *= n / (n + 2.0f);
            }
            break;
        case FM_SOFTPLUS:
            for (ptrdiff_t i = 0; i < count; i++) {
                const float above = h[i] > 0.0f ? h[i] : 0.0f;
                h[i] = above + logarithm_of_one_plus(exponential(-fabsf(h[i])));
            }
            break;
    }
}

/* read (count) is h, or z for GELU, SiLU and Mish. */
static void activate_backward(float *restrict dz, const float *restrict read, ptrdiff_t count, int activation) {
    const float *restrict h = read, *restrict z = read;
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
        case FM_LEAKY_RELU:
            for (ptrdiff_t i = 0; i < count; i++) dz[i] *= h[i] > 0.0f ? 1.0f : LEAK;
            break;
        case FM_ELU:
            for (ptrdiff_t i = 0; i < count; i++) dz[i] *= h[i] > 0.0f ? 1.0f : h[i] + 1.0f;
            break;
        case FM_SELU:
            for (ptrdiff_t i = 0; i < count; i++) dz[i] *= h[i] > 0.0f ? SELU_SCALE : h[i] + SELU_LIMIT;
            break;
        case FM_GELU:
            for (ptrdiff_t i = 0; i < count; i++) {
                float cumulative, bell;
                normal_distribution(z[i], &cumulative, &bell);
                dz[i] *= cumulative + 0.398942280f * z[i] * bell;
            }
            break;
        case FM_GELU_TANH:
            for (ptrdiff_t i = 0; i < count; i++) { /* beyond 16 it is 0 or 1, and the square below would overflow */
                const float x = z[i] > 16.0f ? 16.0f : z[i] < -16.0f ? -16.0f : z[i];
                float slope;
                const float s = logistic_and_derivative(gelu_argument(x), &slope);
                dz[i] *= s + slope * x * (1.5957691216057308f * (1.0f + 0.134145f * (x * x)));
            }
            break;
        case FM_SILU:
            for (ptrdiff_t i = 0; i < count; i++) {
                float slope;
                const float s = logistic_and_derivative(z[i], &slope);
                dz[i] *= s + z[i] * slope;
            }
            break;
        case FM_MISH:
            for (ptrdiff_t i = 0; i < count; i++) {
                const float e = mish_exponential(z[i]), n = e * (e + 2.0f), reciprocal = 1.0f / (n + 2.0f);
                const float x = z[i] > 20.0f ? 20.0f : z[i];
                dz[i] *= n * reciprocal + 4.0f * x * (e * reciprocal) * ((1.0f + e) * reciprocal);
            }
            break;
        case FM_SOFTPLUS:
            for (ptrdiff_t i = 0; i < count; i++) dz[i] *= -exponential_minus_one(-h[i]);
            break;
    }
}
