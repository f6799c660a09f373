/* Which instruction sets are compiled in, and which of them this processor runs. */
#include "fastmlp.h"

extern const fm_kernels fm_scalar;

#if defined(__x86_64__)

extern const fm_kernels fm_avx2, fm_avx512;

const fm_kernels *const fm_compiled[] = {&fm_avx512, &fm_avx2, &fm_scalar, NULL};

void fm_runs(int *runs, const fm_kernels *kernels) {
    /* The compiler's own check also asks the operating system whether it saves the wide registers. */
    __builtin_cpu_init();
    if (kernels == &fm_avx512)
        *runs = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi");
    else if (kernels == &fm_avx2)
        *runs = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi");
    else
        *runs = 1;
}

#elif defined(__aarch64__)

extern const fm_kernels fm_neon;

const fm_kernels *const fm_compiled[] = {&fm_neon, &fm_scalar, NULL};

void fm_runs(int *runs, const fm_kernels *kernels) {
    (void)kernels;
    *runs = 1; /* NEON is part of the AArch64 baseline */
}

#else

const fm_kernels *const fm_compiled[] = {&fm_scalar, NULL};

void fm_runs(int *runs, const fm_kernels *kernels) {
    (void)kernels;
    *runs = 1;
}

#endif
